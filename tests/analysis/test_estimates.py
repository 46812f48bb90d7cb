"""Estimates over seeds: by hand, against SciPy, and their coverage on simulated studies."""

import math

import numpy as np
import pandas as pd
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose

from flatwide.analysis import comparisons, estimates, gain, table, tuned
from flatwide.analysis.estimates import Side


def long_table(values, *, widths=(10,), **more):
    """Lay out [widths, seeds, 1 + rhos] as a results table; NaN is a diverged run."""
    rows = [
        {"num_params": width, "rho": 0.1 * k, "seed": seed, "test_metric": None if np.isnan(value) else value}
        | {"status": "diverged" if np.isnan(value) else "finished", "higher_is_better": True}
        | more
        for width, table in zip(widths, values, strict=True)
        for seed, row in enumerate(table)
        for k, value in enumerate(row)
    ]
    return pd.DataFrame(rows)


@pytest.mark.parametrize("n", [2, 3, 30])
@pytest.mark.parametrize("level", [0.5, 0.95])
def test_a_mean_agrees_with_scipy(n, level):
    values = np.random.default_rng(n).normal(3, 2, n)
    estimate = estimates.mean(values, level=level)
    low, high = scipy.stats.t.interval(level, n - 1, loc=values.mean(), scale=scipy.stats.sem(values))
    assert_allclose(
        (estimate.value, estimate.error, estimate.low, estimate.high),
        (values.mean(), scipy.stats.sem(values), low, high),
    )
    assert estimate.p_value == pytest.approx(scipy.stats.ttest_1samp(values, 0).pvalue)


def test_one_value_has_no_interval_and_none_has_no_mean():
    assert estimates.mean([0.5]).value == 0.5
    assert np.isnan([estimates.mean([0.5]).low, estimates.mean([]).value]).all()


def test_sidak_is_the_level_of_intervals_that_hold_together():
    assert estimates.sidak(7) ** 7 == pytest.approx(0.95)
    assert estimates.sidak(0) == estimates.sidak(1) == 0.95


def test_the_first_of_settings_that_are_equal_up_to_rounding_is_chosen():
    """0.1 + 0.2 and 0.3 differ in the last bit; a missing run counts neither way."""
    choices = np.array([[0.1, 0.3, 0.0], [0.2, 0.0, 0.0], [0.0, 0.0, np.nan]])
    assert choices[:, 0].sum() > choices[:, 1].sum()
    assert estimates.choose(choices[:, [1, 0, 2]]) == 0
    assert estimates.choose(choices[:, [0, 1, 2]]) == 0
    assert estimates.choose(choices, allowed=np.array([False, False, True])) == 2
    assert list(estimates.choose(choices, estimates.leave_one_out(3))) == [0, 1, 0]


def test_by_hand():
    # Without seed 0 rho 2 leads (5 + 2 over 3 + 3), without seed 1 rho 1 (4 + 3), without seed 2 a tie (4 + 3 = 2 + 5).
    runs = long_table(np.array([[[0, 4, 2], [0, 3, 5], [1, 3, 2]]], float))
    corrected = gain.corrected_gain(runs).iloc[0]
    assert corrected["corrected_gain"] == pytest.approx((2 + 3 + 2) / 3)
    assert gain.gain_by_width(runs).iloc[0]["gain"] == pytest.approx((4 + 3 + 2) / 3)
    assert corrected["selection_bias"] == pytest.approx(2 / 3)
    # Both radii are in the set: seed means of SAM minus base 3, 4, 1.5, and the residual of [[4, 2], [3, 5], [3, 2]].
    between = np.var([3, 4, 1.5], ddof=1)
    halves = np.array([4 - 2, 3 - 5, 3 - 2]) / 2  # of the differences between the radii
    residual = 2 * np.sum((halves - halves.mean()) ** 2) / 2
    within, excess = between + residual / 2, (estimates.inflation(3, 2) - 1) * residual
    error = math.sqrt((max(np.var([2, 3, 2], ddof=1), within) + excess) / 3)
    assert corrected["corrected_standard_error"] == pytest.approx(error)
    degrees = (within + excess) ** 2 / (between**2 / 2 + (residual / 2 + excess) ** 2 / 2)
    reach = scipy.stats.t.ppf(0.975, max(degrees, 2)) * error
    assert_allclose(corrected[["corrected_low", "corrected_high"]].astype(float), [7 / 3 - reach, 7 / 3 + reach])


def test_one_rho_is_the_plain_paired_t_interval():
    values = np.random.default_rng(0).normal(size=(1, 6, 2))
    corrected = gain.corrected_gain(long_table(values)).iloc[0]
    oracle = scipy.stats.ttest_rel(values[0, :, 1], values[0, :, 0]).confidence_interval(0.95)
    assert_allclose((corrected["corrected_low"], corrected["corrected_high"]), oracle, rtol=1e-9)
    assert corrected["selection_bias"] == 0


def kinds(num_seeds, num_rhos, num_base=1, num=1500):
    """Yield the name, base runs, SAM runs and true gains of kinds of noise."""
    generator = np.random.default_rng([num_seeds, num_rhos, num_base])
    base, sam = (generator.normal(size=(num, num_seeds, count)) for count in (num_base, num_rhos))
    zero = np.zeros(num_rhos)
    hump = 2 - 2 * ((np.arange(num_rhos) - num_rhos // 2) / (num_rhos / 2)) ** 2
    yield "equal", base, sam, zero
    yield "quiet base", base / 10, sam, zero
    yield "noisy base", 3 * base, sam, zero
    yield "one radius ten times as noisy", base, np.r_[np.ones(num_rhos - 1), 10] * sam, zero
    yield "noise grows along rho", base, np.geomspace(0.3, 3, num_rhos) * sam, zero
    yield "hump", base, sam + hump, hump
    yield "one far ahead", base, sam + 50.0 * (np.arange(num_rhos) == 1), 50.0 * (np.arange(num_rhos) == 1)


@pytest.mark.parametrize("num_base", [1, 3])
@pytest.mark.parametrize("num_rhos", [5, pytest.param(11, marks=pytest.mark.slow)])
@pytest.mark.parametrize("num_seeds", [3, 5, 8])
def test_the_interval_covers_as_often_as_it_says(num_seeds, num_rhos, num_base):
    for name, base, sam, truth in kinds(num_seeds, num_rhos, num_base):
        scored = estimates.score(Side(base, base), Side(sam, sam))
        reach = np.sqrt((scored.variances + scored.excesses) / num_seeds) * scipy.stats.t.ppf(0.975, scored.degrees)
        chosen = truth[estimates.choose(sam)]
        assert 0.92 < np.mean(abs(scored.values.mean(axis=-1) - chosen) <= reach) < 0.99, name


@pytest.mark.parametrize("num_base", [1, 3])
@pytest.mark.parametrize("num_seeds", [3, 5, 8])
def test_the_slope_covers_as_often_as_it_says(num_seeds, num_base):
    """Five widths, the smallest ten times or SAM at the largest five times as noisy, or all alike."""
    sizes = 10 ** np.arange(1.0, 6.0)
    covered = {}
    for name, spread, of_base in (("alike", 1.0, 1.0), ("smallest", 10.0, 10.0), ("largest", 5.0, 1.0)):
        generator = np.random.default_rng(num_seeds)
        factors = np.ones((2, 5, 1, 1))
        factors[:, 0 if name == "smallest" else -1] = np.array([of_base, spread])[:, None, None]
        base = factors[0] * generator.normal(size=(600, 5, num_seeds, num_base))
        sam = factors[1] * generator.normal(size=(600, 5, num_seeds, 5))
        scored = estimates.score(Side(base, base), Side(sam, sam))
        hits = []
        for study in range(600):
            arrays = (scored.values[study], scored.variances[study], scored.excesses[study], scored.degrees[study])
            scores = estimates.Scores(tuple(sizes), tuple(range(num_seeds)), *arrays)
            hits.append(estimates.contrast(scores, estimates.slope_weights(sizes)).sign == 0)
        covered[name] = np.mean(hits)
    assert all(0.92 < share < 0.99 for share in covered.values()), covered


def test_students_t_over_the_scores_would_not_do():
    """The reason for the inflation: the scores are not independent."""
    noise = np.random.default_rng(0).normal(size=(8000, 8, 11))
    scores = estimates.cross_fit(Side(noise, noise))
    statistic = np.abs(scores.mean(axis=1)) / (scores.std(axis=1, ddof=1) / math.sqrt(8))
    assert np.mean(statistic < scipy.stats.t.ppf(0.975, 7)) < 0.90
    assert 8 * scores.mean(axis=1).var() == pytest.approx(estimates.inflation(8, 11), rel=0.05)
    assert estimates.inflation(8, 1) == 1


def test_the_slope_of_three_seeds_is_not_luck():
    """The lengths of 95 % intervals of like studies differ by less than fourfold; from three slopes by sevenfold."""
    generator, lengths, alone = np.random.default_rng(4), [], []
    for _ in range(200):
        runs = long_table(generator.normal(size=(5, 3, 6)), widths=(10, 40, 160, 640, 2560))
        scores = table.part(runs).scores
        weights = estimates.slope_weights(scores.num_params)
        lengths.append(estimates.contrast(scores, weights).reach)
        alone.append(np.std(weights @ scores.values, ddof=1))
    ratios = [np.quantile(each, 0.95) / np.quantile(each, 0.05) for each in (lengths, alone)]
    assert ratios[0] < 4 < 5 < ratios[1]


def test_a_setting_that_fails_now_and_then_does_not_count_as_noise():
    """Three seeds cannot exclude it from the set of the best, but it is far from the scores' own spread."""
    generator = np.random.default_rng(2)
    base, good = generator.normal(size=(3, 1)), generator.normal(size=(3, 2))
    failing = np.array([[-60.0], [-1.0], [-30.0]])
    alone = estimates.score(Side(base, base), Side(good, good))
    beside = estimates.score(Side(base, base), Side(*[np.hstack([good, failing])] * 2))
    assert_allclose(alone.variances, beside.variances)
    assert_allclose(alone.degrees, beside.degrees)


def test_a_difference_of_one_test_item_decides_nothing():
    values = np.array([[[0.5, 0.501], [0.6, 0.601], [0.7, 0.701]]])
    runs = long_table(values, metric_name="accuracy")
    assert gain.corrected_gain(runs).iloc[0]["corrected_low"] > 0
    known = gain.corrected_gain(runs.assign(num_test_items=1000)).iloc[0]
    assert known["corrected_low"] < 0 < known["corrected_high"]


def test_diverged_and_missing_runs_leave_a_whole_block():
    values = np.random.default_rng(1).normal(size=(1, 5, 4))
    holes = values.copy()
    holes[0, 2, 3] = np.nan  # the largest rho diverged once: it is out
    runs = long_table(holes)
    runs = runs[~((runs["seed"] == 4) & (runs["rho"] == 0.0))]  # and seed 4 has no base run: it is out
    corrected = gain.corrected_gain(runs).iloc[0]
    assert (corrected["num_rhos"], corrected["corrected_num_seeds"]) == (2, 4)
    expected = gain.corrected_gain(long_table(values[:, :4, :3])).iloc[0]
    assert_allclose(corrected["corrected_gain"], expected["corrected_gain"])


def test_a_rho_with_fewer_seeds_than_another_is_not_chosen():
    values = np.random.default_rng(1).normal(size=(1, 5, 4))
    runs = long_table(values)
    corrected = gain.corrected_gain(runs[~((runs["seed"] == 4) & (runs["rho"] == 0.1))]).iloc[0]
    assert (corrected["num_rhos"], corrected["corrected_num_seeds"]) == (2, 5)
    expected = gain.corrected_gain(long_table(values[:, :, [0, 2, 3]])).iloc[0]
    assert_allclose(corrected["corrected_gain"], expected["corrected_gain"])


def test_one_seed_has_no_corrected_gain():
    corrected = gain.corrected_gain(long_table(np.zeros((1, 1, 3)))).iloc[0]
    assert np.isnan(corrected[["corrected_gain", "corrected_low", "selection_bias"]].astype(float)).all()


def test_rho_is_chosen_by_validation_where_there_is_one():
    runs = long_table(np.array([[[0, 9, 1], [0, 8, 2], [0, 7, 2]]], float))
    runs["validation_metric"] = [0, 1, 2] * 3
    corrected = gain.corrected_gain(runs).iloc[0]
    assert corrected["corrected_gain"] == pytest.approx(5 / 3)
    assert corrected["selection_bias"] == pytest.approx(0)
    assert gain.corrected_gain(runs, choose_by="test_metric").iloc[0]["corrected_gain"] == pytest.approx(8)


# Accuracies on 20 items, so that ties are common; every number is a whole number of items.
TABLES = st.tuples(st.integers(1, 3), st.integers(2, 5), st.integers(2, 4), st.integers(0, 2**32 - 1))


def tied(drawn):
    num_widths, num_seeds, num_rhos, seed = drawn
    items = np.random.default_rng(seed).integers(10, 16, size=(num_widths, num_seeds, num_rhos + 1))
    return long_table(items / 20, widths=(10, 100, 1000)[:num_widths], learning_rate=0.1)


def corrected(runs):
    columns = ["num_params", "corrected_gain", "corrected_standard_error", "corrected_low", "corrected_high"]
    return gain.corrected_gain(runs)[columns].to_numpy()


@settings(max_examples=25, deadline=None)
@given(TABLES)
def test_a_single_base_setting_gives_the_same_gain_tuned_and_not(drawn):
    runs = tied(drawn)
    rows = tuned.tuned_gain(runs, tune=["learning_rate"])
    rows = rows[rows["comparison"] == comparisons.TUNED]
    names = ["num_params", "tuned_gain", "tuned_standard_error", "tuned_low", "tuned_high"]
    assert rows[names].to_numpy().tolist() == corrected(runs).tolist()


@settings(max_examples=25, deadline=None)
@given(TABLES)
def test_the_order_of_rows_and_the_names_of_seeds_change_nothing(drawn):
    runs = tied(drawn)
    shuffled = runs.sample(frac=1, random_state=drawn[-1] % 1000)[list(reversed(runs.columns))]
    assert corrected(shuffled).tolist() == corrected(runs).tolist()
    assert_allclose(corrected(runs.assign(seed=9 - runs["seed"])), corrected(runs), rtol=1e-9, atol=1e-12)


@settings(max_examples=25, deadline=None)
@given(TABLES)
def test_scale_shift_and_sign_act_as_they_should(drawn):
    runs, front = tied(drawn), np.array([1, 10, 10, 10, 10])
    base = corrected(runs)
    assert_allclose(corrected(runs.assign(test_metric=10 * runs["test_metric"])), front * base, rtol=1e-9, atol=1e-12)
    assert_allclose(corrected(runs.assign(test_metric=3 + runs["test_metric"])), base, rtol=1e-9, atol=1e-12)
    errors = runs.assign(test_metric=-runs["test_metric"], higher_is_better=False)
    assert_allclose(corrected(errors), base, rtol=1e-12, atol=1e-15)


@settings(max_examples=25, deadline=None)
@given(TABLES)
def test_a_hopeless_setting_changes_nothing(drawn):
    runs = tied((drawn[0], max(drawn[1], 4), *drawn[2:]))
    hopeless = runs[runs["rho"] == 0.1].assign(rho=9.0)
    hopeless = hopeless.assign(test_metric=hopeless["test_metric"] - 50)
    assert_allclose(corrected(pd.concat([runs, hopeless], ignore_index=True)), corrected(runs), rtol=1e-12, atol=1e-15)


@settings(max_examples=15, deadline=None)
@given(TABLES)
def test_a_part_alone_gives_what_it_gives_within_the_whole_table(drawn):
    runs, other = tied(drawn), tied((*drawn[:3], drawn[3] ^ 1))
    whole = pd.concat([runs.assign(label_noise=0.0), other.assign(label_noise=0.5)], ignore_index=True)
    first, second = table.split(whole).parts
    assert corrected(first).tolist() == corrected(runs).tolist()
    assert corrected(second).tolist() == corrected(other).tolist()


@settings(max_examples=15, deadline=None)
@given(TABLES)
def test_a_second_domain_changes_no_other(drawn):
    runs = tied(drawn).assign(dataset="digits", model="MLP", metric_name="accuracy")
    whole = pd.concat([runs, runs.assign(dataset="mnist"), runs.assign(dataset="cifar10")], ignore_index=True)
    parts = table.split(whole).parts
    assert [part.name for part in parts] == ["cifar10", "digits", "mnist"]
    assert all(corrected(part).tolist() == corrected(runs).tolist() for part in parts)


def test_widths_of_unequal_seeds_have_the_error_of_the_seeds_they_share():
    """The slope is that of the shared seeds, so its error has their number, not that of each width."""
    generator, covered = np.random.default_rng(5), []
    for _ in range(400):
        values = generator.normal(size=(4, 8, 2)) * np.array([1, 1, 1, 0.3])[:, None, None]
        runs = long_table(values, widths=(10, 100, 1000, 10_000))
        runs = runs[(runs["num_params"] < 10_000) | (runs["seed"] < 3)]
        slope = estimates.slope(table.part(runs).scores)
        covered.append(slope.low <= 0 <= slope.high)
    assert 0.94 < np.mean(covered) < 0.995


def test_seeds_that_move_all_widths_together_have_as_many_degrees_as_seeds():
    generator, covered = np.random.default_rng(6), []
    positions = np.linspace(-1, 1, 5)
    for _ in range(600):
        values = np.zeros((5, 3, 2))
        values[..., 1] = positions[:, None] * generator.normal(size=3) + 0.01 * generator.normal(size=(5, 3))
        slope = estimates.slope(table.part(long_table(values, widths=(10, 40, 160, 640, 2560))).scores)
        covered.append(slope.low <= 0 <= slope.high)
    assert 0.92 < np.mean(covered) < 0.98
