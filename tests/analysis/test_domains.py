"""Runs of several data sets and model families in one table, each with its own metric, direction and sizes."""

import numpy as np
import pandas as pd
import pytest
import scipy.stats

from flatwide.analysis import estimates, gain, summary, table, trend, verdict
from flatwide.answers import answer, cautions, overview

RHOS, SEEDS = (0.0, 0.1, 0.2), (0, 1, 2, 3)


def study(dataset="digits", model="MLP", *, sizes=(100, 1000, 10_000), slope=0.02, sign=1, metric="accuracy", **more):
    """Make a domain whose gain is `slope` for ten times the parameters, at rho 0.2, and half of it at 0.1."""
    rows = []
    for position, size in enumerate(sizes):
        for seed in SEEDS:
            for rho in RHOS:
                noise = 0.0004 * ((3 * seed + 5 * position + round(50 * rho)) % 4 - 1.5)
                value = 0.5 + sign * slope * position * rho / 0.2 + noise
                row = {"run": f"{dataset}-{model}-{size}-{rho}-{seed}", "status": "finished", "optimizer": "sam"}
                row |= {"base_optimizer": "sgd", "dataset": dataset, "model": model, "rho": rho, "seed": seed}
                row |= {"num_params": size, "metric_name": metric, "higher_is_better": sign > 0, "test_metric": value}
                rows.append(row | more)
    return pd.DataFrame(rows)


def mixed():
    """Put an accuracy that grows, an error whose gain shrinks and a score of other sizes into one table."""
    errors = study("sphere", "OneHiddenLayer", slope=-0.03, sign=-1, metric="mean_squared_error")
    scores = study("breakout", "ActorCritic", sizes=(50, 500), slope=0.0, metric="score", base_optimizer="adam")
    return pd.concat([study(), errors, scores], ignore_index=True)


def test_a_domain_is_a_data_set_and_a_model_family():
    split = table.domains(mixed())
    assert [domain.name for domain in split] == ["breakout, ActorCritic", "digits, MLP", "sphere, OneHiddenLayer"]
    assert [len(domain.runs) for domain in split] == [24, 36, 36]
    assert split[0].values == {"dataset": "breakout", "model": "ActorCritic"}


def test_one_domain_is_the_table_itself():
    runs = study()
    (only,) = table.domains(runs)
    assert only.runs is runs
    assert only.name == ""
    assert table.domains(runs.drop(columns=["dataset", "model"]))[0].values == {}


def test_only_what_differs_names_a_domain():
    split = table.domains(pd.concat([study("mnist"), study("digits")], ignore_index=True))
    assert [domain.values for domain in split] == [{"dataset": "digits"}, {"dataset": "mnist"}]


def test_two_metrics_of_one_data_set_and_family_are_two_domains():
    errors = study(metric="mean_squared_error", sign=-1, loss="squared")
    split = table.domains(pd.concat([study(loss="cross_entropy"), errors], ignore_index=True))
    assert [domain.name for domain in split] == ["accuracy", "mean_squared_error"]


def test_runs_that_are_not_done_belong_to_their_domain_and_damaged_ones_to_none():
    runs = mixed()
    runs = runs.astype({"higher_is_better": "boolean"})
    runs.loc[0, ["status", "metric_name", "higher_is_better", "test_metric"]] = ["unfinished", None, pd.NA, np.nan]
    damaged = pd.DataFrame([{"run": "gone", "status": "damaged"}])
    split = table.domains(pd.concat([runs, damaged], ignore_index=True))
    assert [len(domain.runs) for domain in split] == [24, 36, 36]
    texts = [caution.text for caution in cautions.cautions(pd.concat([runs, damaged], ignore_index=True))]
    assert any("1 unfinished, 1 damaged" in text for text in texts)


def test_parts_are_of_one_domain_each():
    noisy = study(label_noise=0.5)
    runs = pd.concat([study(label_noise=0.0), noisy, study("sphere", "OneHiddenLayer")], ignore_index=True)
    names = [part.name for part in table.split(runs).parts]
    assert names == ["digits, MLP, label_noise=0.0", "digits, MLP, label_noise=0.5", "sphere, OneHiddenLayer"]
    assert [name for domain in table.split(runs).domains for name in domain.axes] == ["label_noise"]


def test_domains_are_not_compared_as_if_they_were_widths():
    with pytest.raises(ValueError, match=r"runs of several domains \(breakout, ActorCritic; digits, MLP; .*Select one"):
        gain.gain_by_width(mixed())


def test_the_summary_of_each_domain_is_that_of_its_runs_alone():
    runs = mixed()
    whole = summary.summary(runs)
    for domain in table.domains(runs):
        of_domain = summary.summary(domain.runs)
        rows = whole[whole["dataset"] == domain.values["dataset"]].reset_index(drop=True)
        for column in of_domain.columns:
            assert rows[column].astype(str).tolist() == of_domain[column].astype(str).tolist(), column


def test_every_domain_has_its_own_sizes_metric_base_and_direction():
    parts = {part.name: part for part in overview.overview(mixed())}
    digits, sphere, breakout = (
        parts[name] for name in ("digits, MLP", "sphere, OneHiddenLayer", "breakout, ActorCritic")
    )
    assert (digits.metric_name, digits.base, digits.sizes) == ("accuracy", "SGD", (100, 1000, 10_000))
    assert (breakout.metric_name, breakout.base, breakout.sizes) == ("score", "Adam", (50, 500))
    # An error that SAM makes larger by 0.03 a factor of ten is a gain that falls.
    assert digits.slope.value == pytest.approx(0.02, abs=1e-3)
    assert sphere.slope.value == pytest.approx(-0.015, abs=1e-3)  # the least bad radius is the smaller one
    assert [digits.direction, sphere.direction, breakout.direction] == [1, -1, 0]
    assert digits.largest.value == pytest.approx(0.04, abs=1e-3)
    assert digits.best_rhos[1:] == (0.2, 0.2)


def test_intervals_of_all_domains_hold_together():
    """At the Šidák level; at 95 % each, the luckiest of many domains would be reported as a finding."""
    parts = overview.overview(mixed())
    for part, domain in zip(parts, table.domains(mixed()), strict=True):
        alone = trend.trend(domain.runs)
        level = 0.95 ** (1 / 3)
        reach = scipy.stats.t.ppf((1 + level) / 2, alone.degrees) * alone.error
        assert (part.slope.low, part.slope.high) == pytest.approx((alone.value - reach, alone.value + reach))


def test_a_trend_that_is_clear_alone_may_not_be_among_many():
    """Six domains whose slopes have p = .03 each, as one of them would by chance."""
    scores = estimates.plain(np.outer([0, 1, 2], [1.0, 1.5, 0.8]), (10, 100, 1000), range(3))
    alone = verdict.verdict(scores)
    assert alone.kind == verdict.GROWS
    assert 0.01 < alone.p_value < 0.05
    assert {decision.kind for decision in verdict.holm([scores] * 6)} == {verdict.NO_TREND}
    # Beside a far clearer one, the same counts among those that are left.
    clear = estimates.plain(np.outer([0, 1, 2], [1.0, 1.01, 0.99]), (10, 100, 1000), range(3))
    assert [decision.kind for decision in verdict.holm([scores, clear])] == [verdict.GROWS, verdict.GROWS]


def test_the_answer_counts_domains_by_intervals_alone():
    first, *rest = answer.answer(mixed()).split("\n\n")
    assert first.startswith(
        "The gain of SAM grows with width in 1 of 3 domains, by Holm's test at 5 % for all of them together "
        "(digits, MLP), and at the largest size it is above zero there. "
    )
    assert "in 1 it shrinks (sphere, OneHiddenLayer)" in first
    assert "n 1 neither growth nor its absence is shown (breakout," in first
    assert first.count(". ") == 1  # two sentences
    names = [text.partition(": ")[0] for text in rest]  # again before what else the axes of a domain ask
    assert list(dict.fromkeys(names)) == [domain.name for domain in table.domains(mixed())]


def test_growth_from_harm_to_none_is_not_called_a_help():
    worse = study(slope=0.1)
    worse.loc[worse["rho"] > 0, "test_metric"] -= 0.201
    text = overview.sentences(overview.overview(pd.concat([worse, study("mnist", slope=0.0)], ignore_index=True)))
    assert "though at the largest size it is indistinguishable from zero there" in text


def test_without_growth_nothing_is_claimed():
    flat = pd.concat([study(slope=0.0), study("mnist", slope=0.0)], ignore_index=True)
    text = overview.sentences(overview.overview(flat))
    assert text.startswith("The gain of SAM is not shown to grow with width in any of 2 domains, by Holm's test")


def test_settings_of_domains_are_called_so_and_a_domain_without_a_gain_is_mentioned():
    alone = study("mnist")
    runs = pd.concat(
        [study(label_noise=0.0), study(label_noise=0.5), alone[alone["rho"] == 0].assign(label_noise=0.0)],
        ignore_index=True,
    )
    text = overview.sentences(overview.overview(runs))
    assert "in 2 of 3 settings of 2 domains" in text
    assert "In 1 there is no interval yet (mnist)" in text
