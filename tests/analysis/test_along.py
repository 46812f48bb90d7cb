"""Trends of any column along any axis, against least squares done by hand for each seed."""

import itertools

import numpy as np
import pandas as pd
import pytest
import scipy.stats
from numpy.testing import assert_allclose

from flatwide.analysis import along, arms, estimates, table

SIZES, RHOS, SEEDS, NOISES = (100, 1000, 10_000), (0.0, 0.1, 0.2), range(5), (0.0, 0.25, 0.5)


def study(*, noises=NOISES, sizes=SIZES):
    """Make runs whose gain grows with the size, and the faster the more label noise there is."""
    random = np.random.default_rng(3)
    rows = []
    for size, noise, seed, rho in itertools.product(sizes, noises, SEEDS, RHOS):
        gain = 0 if rho == 0 else (0.02 + 0.1 * noise) * np.log10(size / 50) - 0.05 * abs(rho - 0.1)
        row = {"num_params": size, "label_noise": noise, "seed": seed, "rho": rho, "status": "finished"}
        row |= {"higher_is_better": True, "test_metric": 0.6 + gain + 0.002 * random.normal(), "optimizer": "sam"}
        rows.append(row | {"moments.s_2": np.exp(3 - 4 * rho + 0.1 * random.normal() - 0.2 * np.log10(size))})
    return pd.DataFrame(rows)


def interval(slopes, stretch=1.0):
    """Compute mean and interval as a textbook does, widened."""
    error = scipy.stats.sem(slopes)
    reach = stretch * scipy.stats.t.ppf(0.975, len(slopes) - 1) * error
    return np.mean(slopes) - reach, np.mean(slopes), np.mean(slopes) + reach


def apart(positions, table):
    """The slope of [positions, seeds] with the error of rows that vary independently, or together if that is more."""
    weights = (positions - positions.mean()) / np.sum((positions - positions.mean()) ** 2)
    slopes, parts = weights @ table, weights**2 * table.var(axis=1, ddof=1) / table.shape[1]
    together = slopes.var(ddof=1) / len(slopes)
    degrees = len(slopes) - 1 if together > parts.sum() else parts.sum() ** 2 / np.sum(parts**2 / (len(slopes) - 1))
    reach = scipy.stats.t.ppf(0.975, degrees) * np.sqrt(max(parts.sum(), together))
    return slopes.mean() - reach, slopes.mean(), slopes.mean() + reach


def shown(slope_along):
    return slope_along.slope.low, slope_along.slope.value, slope_along.slope.high


def test_the_base_along_sizes_is_a_line_for_each_seed():
    runs = study(noises=(0.0,))
    base = runs[runs["rho"] == 0].pivot(index="num_params", columns="seed", values="test_metric")
    slope_along = along.trend(runs, "test_metric", along="num_params", arm="base")
    assert_allclose(shown(slope_along), apart(np.log10(SIZES), base.to_numpy()), rtol=1e-9)
    assert (slope_along.slope.num_seeds, slope_along.values, slope_along.is_log) == (5, SIZES, False)


def test_the_gain_is_scored_at_the_rho_of_the_other_seeds_and_widened():
    runs = study(noises=(0.0,))
    cells = table.part(runs).widths
    scores = arms.scores([cell.comparison for cell in cells])
    slopes = [np.polyfit(np.log10(SIZES), scores.values[:, seed], 1)[0] for seed in SEEDS]
    oracle = estimates.contrast(scores, estimates.slope_weights(SIZES))
    assert oracle.value == pytest.approx(np.mean(slopes))
    found = along.trend(runs, "test_metric", along="num_params")
    assert_allclose(shown(found), (oracle.low, oracle.value, oracle.high), rtol=1e-9)


def test_label_noise_amplifies_the_slope():
    runs = study()
    slope_along = along.trend(runs, "test_metric", along="num_params", interaction="label_noise")
    assert slope_along.slope.low < 0.1 < slope_along.slope.high  # as it was made: 0.1 a decade for one of label noise
    assert slope_along.slope.low > 0.05
    for level, slope in ((0.0, 0.02), (0.5, 0.07)):
        slope_of_level = along.trend(runs[runs["label_noise"] == level], "test_metric", along="num_params")
        assert slope_of_level.slope.value == pytest.approx(slope, abs=0.005)


def test_an_interaction_names_its_levels_and_takes_the_values_that_all_of_them_have():
    runs = study()
    slope_along = along.trend(runs, "test_metric", along="num_params", interaction="label_noise", arm="base")
    assert (slope_along.levels, slope_along.values) == (NOISES, SIZES)
    fewer = runs[(runs["label_noise"] != 0.25) | (runs["num_params"] > 100)]
    slope_along = along.trend(fewer, "test_metric", along="num_params", interaction="label_noise", arm="base")
    assert (slope_along.levels, slope_along.values) == (NOISES, SIZES[1:])
    larger = runs[runs["num_params"] > 100]
    same = along.trend(larger, "test_metric", along="num_params", interaction="label_noise", arm="base")
    assert shown(slope_along) == shown(same)


def test_a_field_is_an_axis_as_it_is():
    runs = study(sizes=(1000,))
    slope_along = along.trend(runs, "test_metric", along="label_noise")
    assert slope_along.slope.value == pytest.approx(0.1 * np.log10(1000 / 50), abs=0.01)


def test_a_positive_measurement_falls_by_a_factor_along_rho():
    runs = study(noises=(0.0,), sizes=(1000,))
    slope_along = along.trend(runs, "moments.s_2", along="rho", arm="every")
    wide = np.log(runs.pivot(index="rho", columns="seed", values="moments.s_2"))
    slopes = [np.polyfit(RHOS, wide[seed], 1)[0] for seed in SEEDS]
    assert slope_along.is_log
    assert_allclose(shown(slope_along), interval(slopes), rtol=1e-9)
    assert slope_along.slope.high < 0


def test_seeds_that_some_value_lacks_are_left_out():
    runs = study(noises=(0.0,))
    runs = runs[(runs["seed"] != 3) | (runs["num_params"] != 100)]
    assert along.trend(runs, "test_metric", along="num_params", arm="base").slope.num_seeds == 4
    alone = runs[runs["num_params"] == 100]
    assert np.isnan(along.trend(alone, "test_metric", along="num_params").slope.value)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"along": "num_params", "arm": "both"}, "arm 'both'|arm.*both"),
        ({"along": "rho", "arm": "gain"}, "expected arm='every' along rho, and only along rho"),
        ({"along": "num_params", "arm": "every"}, "expected arm='every' along rho, and only along rho"),
        ({"along": "widht"}, "widht"),
        ({"along": "label_noise"}, r"label_noise=0 has networks of 100, 1,000, 10,000 parameters: select one"),
        ({"along": "num_params"}, "differ in label_noise"),
        ({"along": "status"}, "expected a numeric axis"),
    ],
)
def test_what_cannot_be_fitted_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        along.trend(study(), "test_metric", **options)


def test_base_runs_serve_every_value_of_a_field_that_they_do_not_read():
    random = np.random.default_rng(5)
    rows = [
        {"num_params": 100, "microbatch": microbatch, "seed": seed, "rho": rho, "optimizer": "sam", "sparsity": 0.0}
        | {"status": "finished", "higher_is_better": True, "test_metric": 0.5 + 0.01 * random.normal() + 0.02 * rho}
        for seed in SEEDS
        for rho, microbatch in [(0.0, None), *((0.1, size) for size in (8, 16, 32))]
    ]
    runs = pd.DataFrame(rows)
    wide = runs[runs["rho"] > 0].pivot(index="microbatch", columns="seed", values="test_metric")
    base = runs[runs["rho"] == 0].set_index("seed")["test_metric"]
    slope_along = along.trend(runs, "test_metric", along="microbatch")
    assert_allclose(shown(slope_along), apart(np.array([8, 16, 32]), wide.to_numpy() - base.to_numpy()), rtol=1e-9)
    assert slope_along.values == (8, 16, 32)
    whole = runs.assign(microbatch=runs["microbatch"].replace(32, np.nan))  # the whole batch
    with pytest.raises(ValueError, match=r"microbatch.*5 runs have no value there"):
        along.trend(whole, "test_metric", along="microbatch")
