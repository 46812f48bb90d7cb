"""The trend of the gain: by hand, against SciPy, and on noise."""

import math

import numpy as np
import pandas as pd
import pytest
import scipy.stats
from numpy.testing import assert_allclose

from flatwide.analysis import decomposition, estimates, interpolation, trend
from flatwide.analysis.estimates import Side

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
    # The widths apart: gains (1, 0), (2, 1), (4, 4) have the variances 0.5, 0.5, 0, the slope the weights -1/2, 0, 1/2.
    error = math.sqrt(max(0.25 * 0.5 / 2, scipy.stats.sem(slopes) ** 2))
    low, high = scipy.stats.t.interval(0.95, 1, loc=1.75, scale=error)
    found = (slopes_found.value, slopes_found.error, slopes_found.low, slopes_found.high)
    assert_allclose(found, (1.75, error, low, high))
    assert slopes_found.num_seeds == 2


@pytest.mark.parametrize("num_seeds", [3, pytest.param(8, marks=pytest.mark.slow)])
def test_on_noise_the_interval_of_the_slope_covers_zero(num_seeds):
    generator, covered = np.random.default_rng(num_seeds), []
    for _ in range(250):
        slopes_found = trend.trend(long_table(generator.normal(size=(4, num_seeds, 6)), widths=(10, 40, 160, 640)))
        covered.append(slopes_found.low <= 0 <= slopes_found.high)
    assert np.mean(covered) > 0.95 - 3 * math.sqrt(0.05 * 0.95 / 250)


def test_one_width_or_one_seed():
    assert np.isnan(trend.trend(long_table(VALUES[:1], widths=(10,))).value)
    assert np.isnan(trend.trend(long_table(VALUES[:, :1])).value)


def test_the_papers_rule():
    assert trend.paper_rule(long_table(VALUES)) == (True, 2, 2)
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
    error = math.sqrt(estimates.inflation(2, 3)) * scipy.stats.sem([0, 2])
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
    declines = estimates.cross_fit(Side(base, base)) - base[..., -1]
    reach = math.sqrt(estimates.inflation(num_seeds, num_widths)) * scipy.stats.t.ppf(0.975, num_seeds - 1)
    low = declines.mean(axis=1) - reach * scipy.stats.sem(declines, axis=1)
    assert np.sum(low > 0) / 4000 < 0.035


def test_each_seed_counts_from_where_the_others_base_is_best():
    # Seeds 1 and 2 say the second width for seed 0; seeds 0 and 2 the first for seed 1; seeds 0 and 1 the first.
    base = np.array([[9.0, 1, 0], [1, 9, 0], [3, 4, 0]])
    assert_allclose(estimates.cross_fit(Side(base, base)), [1, 1, 3])
    values = np.stack([base, base], axis=2).transpose(1, 0, 2)
    slopes_found = decomposition.decompose(long_table(values))
    assert list(slopes_found["num_params"]) == [100, 1000]
    assert slopes_found["base_decline"].iloc[-1] == pytest.approx(5 / 3)


def test_where_interpolation_begins():
    runs = long_table(VALUES, metric_name="accuracy")
    runs["train_metric"] = np.where(runs["num_params"] * (1 + (runs["rho"] == 0)) >= 200, 1.0, 0.9)
    runs["train_loss"] = 0.5
    assert [interpolation.fits_from(runs, arm=arm) for arm in ("base", "sam")] == [100, 1000]
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
    assert [interpolation.fits_from(runs, arm=arm) for arm in ("base", "sam")] == [onset, onset]


def test_interpolation_that_ends_again_has_not_begun():
    values = np.random.default_rng(0).normal(size=(3, 4, 2))
    runs = long_table(values, metric_name="accuracy").assign(train_loss=0.5)
    runs["train_metric"] = np.where(runs["num_params"] == 100, 0.5, 1.0)
    assert interpolation.fits_from(runs) == 1000
    runs["train_metric"] = np.where(runs["num_params"] == 1000, 0.5, 1.0)
    assert math.isnan(interpolation.fits_from(runs))


def test_other_metrics_interpolate_by_their_loss():
    assert interpolation._gap({"metric_name": "loss", "train_metric": 0.0, "train_loss": 0.02}) > 0
    assert interpolation._gap({"metric_name": "loss", "train_loss": 0.01}) <= 0
    assert interpolation._gap({"metric_name": "accuracy"}) is None
