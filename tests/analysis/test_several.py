"""Several metrics of the same runs: the level of their intervals, and metrics that say nothing new."""

import numpy as np
import pandas as pd
import pytest
import scipy.stats

from flatwide.analysis import several
from flatwide.answers import joint, short


def runs(num_widths, num_seeds, *, correlation=0.0, seed=0):
    """Make runs without an effect at one radius: the interval of a gain is the paired t interval."""
    generator = np.random.default_rng(seed)
    rows = []
    for width in range(num_widths):
        for run_seed in range(num_seeds):
            for rho in (0.0, 0.1):
                first, other = generator.normal(size=2)
                loss = correlation * first + np.sqrt(1 - correlation**2) * other
                row = {"status": "finished", "optimizer": "sam", "rho": rho, "seed": run_seed, "test_metric": first}
                row |= {"num_params": 10 + width, "test_loss": 3 + loss, "metric_name": "score"}
                rows.append(row | {"higher_is_better": True, "test_metric_best": 100 * first - 7})
    return pd.DataFrame(rows)


@pytest.mark.parametrize("correlation", [0.0, -0.9])
def test_the_intervals_of_all_metrics_cover_together_in_95_percent(correlation):
    splits = several.splits(runs(1000, 3, correlation=correlation), ["test_metric", "test_loss"])
    covers = np.array([[width.comparison.gain.sign == 0 for width in split.parts[0].widths] for split in splits])
    # Each alone misses in 2.5 %, so both cover in 95.1 % where they are independent, in more where they are not; the
    # standard error of a share of 1,000 is 0.7 percent. At 95 % each it would be 90.3 % and 92 %.
    assert 0.93 < covers.all(axis=0).mean() < 0.975
    assert np.all(np.abs(covers.mean(axis=1) - 0.975) < 0.012)


def test_gains_slopes_and_verdicts_have_the_level_of_all_metrics():
    table = runs(3, 5)
    (alone,), both = several.splits(table, ["test_loss"]), several.splits(table, ["test_metric", "test_loss"])
    part = both[1].parts[0]
    width = part.widths[1]
    rows = table[table["num_params"] == width.num_params].pivot(index="seed", columns="rho", values="test_loss")
    expected = scipy.stats.ttest_1samp(rows[0.0] - rows[0.1], 0).confidence_interval(0.975)
    assert [width.comparison.gain.low, width.comparison.gain.high] == pytest.approx(list(expected))
    assert part.verdict.rise.level == part.scores.level == 0.975
    assert alone.parts[0].widths[1].comparison.gain.level == alone.parts[0].verdict.rise.level == 0.95


def test_a_metric_in_another_unit_is_no_second_chance():
    table = runs(2, 3)
    splits = several.splits(table, ["test_metric", "test_metric_best", "test_loss"])
    assert [split.question.metric for split in splits] == ["test_metric", "test_loss"]
    assert splits[0].question.level == 0.975
    (only,) = several.splits(table, ["test_metric_best", "test_metric"])
    assert (only.question.metric, only.question.level) == ("test_metric_best", 0.95)
    table.loc[0, "test_metric_best"] += 1.0  # one run tells them apart
    assert len(several.splits(table, ["test_metric", "test_metric_best"])) == 2


def test_metrics_are_in_the_table_and_differ():
    with pytest.raises(ValueError, match=r"metric='test_los' is not known. Did you mean 'test_loss'"):
        several.splits(runs(1, 2), ["test_metric", "test_los"])
    with pytest.raises(ValueError, match="test_loss is a duplicate"):
        several.splits(runs(1, 2), ["test_loss", "test_loss"])


def test_a_study_that_steered_itself_claims_nothing_for_its_other_metrics():
    names = ["test_metric", "test_loss"]
    splits = several.splits(runs(2, 3), names)
    (together,), (steered,) = joint.notes(names, 1, splits), joint.notes(names, 1, splits, is_steered=True)
    assert "hold for both metrics together" in together
    assert "together" not in steered
    assert "its error rate covers no other metric" in steered
    assert "together" in short.of_others(splits[1:])[0]
    assert "together" not in short.of_others(splits[1:], is_steered=True)[0]
