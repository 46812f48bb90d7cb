"""The trend of the gain: by hand, against SciPy, and on noise."""

import math

import numpy as np
import pandas as pd
import pytest
import scipy.stats
from numpy.testing import assert_allclose

from flatwide.analysis import decomposition, interpolation, noise, table, trend, widths

SIZES = (10, 100, 1000)
# base, rho 0.1 for each width and two seeds: gains (1, 0), (2, 1), (4, 4)
VALUES = np.array([[[5, 6], [5, 5]], [[4, 6], [5, 6]], [[2, 6], [3, 7]]], float)


def long_table(values, *, widths=SIZES, **more):
    rows = [
        {"num_params": width, "rho": 0.1 * k, "seed": seed, "test_metric": value, "status": "finished"}
        | {"higher_is_better": True}
        | more
        for width, table in zip(widths, values, strict=True)
        for seed, row in enumerate(table)
        for k, value in enumerate(row)
    ]
    return pd.DataFrame(rows)


def test_slope_is_that_of_scipy_for_each_seed():
    slopes_found = trend.trend(long_table(VALUES))
    slopes = [scipy.stats.linregress([1, 2, 3], gains).slope for gains in ([1, 2, 4], [0, 1, 4])]
    low, high = scipy.stats.t.interval(0.95, 1, loc=np.mean(slopes), scale=scipy.stats.sem(slopes))
    assert_allclose(slopes_found[:4], (1.75, scipy.stats.sem(slopes), low, high))
    assert slopes_found.p_value == pytest.approx(1 / 6)  # of the six orders only the true one rises as much
    assert (slopes_found.num_seeds, slopes_found.num_widths) == (2, 3)


def test_the_weighted_slope_is_that_of_numpys_polynomial():
    generator = np.random.default_rng(6)
    sizes, weights, gains = (10, 70, 300, 2000), np.array([0.1, 2, 1, 5]), generator.normal(size=4)
    oracle = np.polyfit(np.log10(sizes), gains, 1, w=np.sqrt(weights))[0]
    assert trend.slope_weights(sizes, weights=weights) @ gains == pytest.approx(oracle)


def test_a_noisy_smallest_width_does_not_decide():
    """A gain of twice the noise a width, and a smallest width of ten times the noise, in thirty studies."""
    generator = np.random.default_rng(7)
    scale, rise = np.array([10, 1, 1, 1])[:, None, None], np.array([0, 0, 0, 0, 0, 2]) * np.arange(4)[:, None, None]
    slopes_found = [
        trend.trend(long_table(scale * noise + rise, widths=(10, 100, 1000, 10_000)))
        for noise in generator.normal(size=(30, 4, 5, 6))
    ]
    weighted, alike = (
        np.sum([trend_found.low > 0 for trend_found in group])
        for group in (slopes_found, [trend_found.unweighted for trend_found in slopes_found])
    )
    assert weighted > 22
    assert alike < 12
    assert (
        np.median(
            [
                (trend_found.high - trend_found.low) / (trend_found.unweighted.high - trend_found.unweighted.low)
                for trend_found in slopes_found
            ]
        )
        < 0.4
    )


def test_parts_of_a_domain_are_weighted_alike():
    generator = np.random.default_rng(8)
    quiet = long_table(generator.normal(size=(3, 5, 6)), noise=0)
    noisy = long_table(generator.normal(size=(3, 5, 6)) * np.array([9, 1, 1])[:, None, None], noise=1)
    parts = table.parts(pd.concat([quiet, noisy], ignore_index=True))
    first, second = trend.weights_of_parts(parts)
    assert first == second
    alone = [noise.weights_of_widths(widths.by_width(part.runs)) for part in parts]
    assert_allclose(list(first.values()), np.sqrt(alone[0] * alone[1]))
    assert trend.weights_of_parts(parts[:1]) == [None]
    slopes = [trend.trend(part.runs, weights=first).slope for part in parts]
    assert slopes[1] != trend.trend(parts[1].runs).slope


def test_order_test_agrees_with_scipys_permutations():
    generator = np.random.default_rng(0)
    means, weights = generator.normal(size=5), trend.slope_weights([1, 4, 10, 30, 200])
    oracle = scipy.stats.permutation_test(
        (means,), lambda x: weights @ x, permutation_type="pairings", alternative="greater", n_resamples=np.inf
    )
    assert trend.order_test(means, weights) == pytest.approx(oracle.pvalue)
    many = np.arange(12.0)
    assert trend.order_test(many, trend.slope_weights(list(10 ** np.arange(1, 13)))) == pytest.approx(1 / 50_001)
    assert trend.order_test(np.zeros(4), trend.slope_weights([1, 2, 3, 4])) == 1


@pytest.mark.parametrize("num_seeds", [3, pytest.param(8, marks=pytest.mark.slow)])
def test_on_noise_the_interval_of_the_slope_covers_zero(num_seeds):
    generator, covered, small = np.random.default_rng(num_seeds), [], []
    for _ in range(250):
        slopes_found = trend.trend(long_table(generator.normal(size=(4, num_seeds, 6)), widths=(10, 40, 160, 640)))
        covered.append(slopes_found.low <= 0 <= slopes_found.high)
        small.append(slopes_found.p_value <= 0.05)
    assert np.mean(covered) > 0.95 - 3 * math.sqrt(0.05 * 0.95 / 250)
    assert np.mean(small) < 0.05 + 3 * math.sqrt(0.05 * 0.95 / 250)


@pytest.mark.slow
def test_widths_of_unequal_noise_mislead_the_order_test_but_not_the_interval():
    """What its docstring says: the order test is for widths that are alike."""
    generator, sizes = np.random.default_rng(0), (10, 40, 160, 640, 2560)
    weights, spreads = trend.slope_weights(sizes), np.array([10, 1, 1, 1, 1])
    small = [trend.order_test(spreads * means, weights) <= 0.05 for means in generator.normal(size=(1000, 5))]
    assert 0.08 < np.mean(small) < 0.15
    tables = spreads[:, None, None] * generator.normal(size=(250, 5, 8, 6))
    slopes_found = [trend.trend(long_table(table, widths=sizes)) for table in tables]
    covered = np.mean([trend_found.low <= 0 <= trend_found.high for trend_found in slopes_found])
    assert abs(covered - 0.95) < 3 * math.sqrt(0.05 * 0.95 / 250)


def test_one_width_or_one_seed():
    assert np.isnan(trend.trend(long_table(VALUES[:1], widths=(10,))).slope)
    slopes_found = trend.trend(long_table(VALUES[:, :1]), corrected=False)
    assert slopes_found.slope == 1.5
    assert np.isnan(slopes_found.low)


def test_the_papers_rule():
    assert trend.paper_rule(long_table(VALUES)) == (0.5, 4, True, 2, 2)
    assert not trend.paper_rule(long_table(VALUES[::-1])).grows
    bands = trend.paper_bands(long_table(VALUES)).iloc[0]
    assert (bands["mean"], bands["std"], bands["rho"]) == (5, 0, 0)
    last = trend.paper_bands(long_table(VALUES)).iloc[-1]
    assert_allclose((last["std"], last["standard_error"]), (math.sqrt(0.5), 0.5))


def test_growth_is_what_sam_gains_and_the_base_loses():
    table = decomposition.decompose(long_table(VALUES))
    assert_allclose(table["gain_growth"], [0, 1, 3.5])
    assert_allclose(table["sam_improvement"], [0, 0.5, 1])
    assert_allclose(table["base_decline"], [0, 0.5, 2.5])
    error = decomposition.stretch(2, 3) * scipy.stats.sem([0, 2])
    low, high = scipy.stats.t.interval(0.95, 1, loc=1, scale=error)
    assert_allclose(table[["sam_improvement_low", "sam_improvement_high"]].iloc[-1], (low, high))
    assert decomposition.share_of_sam(table) == pytest.approx(1 / 3.5)
    losses = decomposition.decompose(long_table(-VALUES, higher_is_better=False))
    pd.testing.assert_frame_equal(losses, table)


def test_growth_is_counted_from_where_the_base_is_best():
    """The smallest network learns nothing: that SAM gets better from there on is not what the width does."""
    values = np.array([[[1, 1], [1, 1]], [[9, 9.5], [9, 9.5]], [[7, 10], [7, 10]]], float)
    table = decomposition.decompose(long_table(values))
    assert list(table["num_params"]) == [100, 1000]
    assert_allclose(table["gain_growth"], [0, 2.5])
    assert decomposition.share_of_sam(table) == pytest.approx(0.2)
    rising = decomposition.decompose(long_table(values[[0, 2, 1]]))
    assert list(rising["num_params"]) == [10, 100, 1000]


@pytest.mark.parametrize(("num_seeds", "num_widths"), [(3, 4), (5, 7), (8, 7)])
def test_noise_is_no_decline_of_the_base(num_seeds, num_widths):
    """Measured from the width where it is best by chance, 5 to 10 % of tables would significantly decline."""
    base = np.random.default_rng(num_widths).normal(size=(4000, num_seeds, num_widths))
    base = base[base.mean(axis=1).argmax(axis=1) < num_widths - 1]
    declines = decomposition.at_best_width(base, base) - base[..., -1]
    reach = decomposition.stretch(num_seeds, num_widths) * scipy.stats.t.ppf(0.975, num_seeds - 1)
    low = declines.mean(axis=1) - reach * scipy.stats.sem(declines, axis=1)
    assert np.sum(low > 0) / 4000 < 0.035


def test_each_seed_counts_from_where_the_others_base_is_best():
    # Seeds 1 and 2 say the second width for seed 0; seeds 0 and 2 the first for seed 1; seeds 0 and 1 the first.
    base = np.array([[9.0, 1, 0], [1, 9, 0], [3, 4, 0]])
    assert_allclose(decomposition.at_best_width(base, base), [1, 1, 3])
    values = np.stack([base, base], axis=2).transpose(1, 0, 2)
    slopes_found = decomposition.decompose(long_table(values))
    assert list(slopes_found["num_params"]) == [100, 1000]
    assert slopes_found["base_decline"].iloc[-1] == pytest.approx(5 / 3)


def test_interpolation_against_the_rise():
    runs = long_table(VALUES, metric_name="accuracy")
    runs["train_metric"] = np.where(runs["num_params"] * (1 + (runs["rho"] == 0)) >= 200, 1.0, 0.9)
    runs["train_loss"] = 0.5
    slopes_found = interpolation.interpolation(runs)
    assert (slopes_found.base, slopes_found.sam, slopes_found.largest_gain) == (100, 1000, 1000)
    assert slopes_found.steepest_rise == pytest.approx(math.sqrt(100 * 1000))
    fit = interpolation.training_fit(runs)
    assert list(fit["sam_interpolates"]) == [0, 0, 1]
    assert list(fit["base_train_metric"]) == [0.9, 1, 1]


@pytest.mark.parametrize(("num_fitting", "onset"), [(2, 1000), (3, 100), (4, 100)])
def test_interpolation_begins_where_more_than_half_of_the_seeds_do(num_fitting, onset):
    """Of four seeds, two are not more than half."""
    values = np.random.default_rng(0).normal(size=(3, 4, 2))
    runs = long_table(values, metric_name="accuracy")
    fits = (runs["num_params"] >= 1000) | ((runs["num_params"] == 100) & (runs["seed"] < num_fitting))
    runs["train_metric"] = np.where(fits, 1.0, 0.5)
    runs["train_loss"] = 0.5
    slopes_found = interpolation.interpolation(runs)
    assert (slopes_found.base, slopes_found.sam) == (onset, onset)


def test_interpolation_that_ends_again_has_not_begun():
    values = np.random.default_rng(0).normal(size=(3, 4, 2))
    runs = long_table(values, metric_name="accuracy").assign(train_loss=0.5)
    runs["train_metric"] = np.where(runs["num_params"] == 100, 0.5, 1.0)
    assert interpolation.interpolation(runs).base == 1000
    runs["train_metric"] = np.where(runs["num_params"] == 1000, 0.5, 1.0)
    assert math.isnan(interpolation.interpolation(runs).base)


def test_other_metrics_interpolate_by_their_loss():
    assert interpolation.interpolates({"metric_name": "loss", "train_metric": 0.0, "train_loss": 0.02}) is False
    assert interpolation.interpolates({"metric_name": "loss", "train_loss": 0.01}) is True
    assert interpolation.interpolates({"metric_name": "accuracy"}) is None
