"""Best rho and its confidence set: by hand, and by how often the set holds the truth."""

import numpy as np
import pandas as pd
import pytest
import scipy.stats

from flatwide.analysis import best_sets, estimates, rho, table


def long_table(values, *, widths=(10,)):
    rows = [
        {"num_params": width, "rho": 0.1 * k, "seed": seed, "higher_is_better": True}
        | {"test_metric": None if np.isnan(value) else value, "status": "diverged" if np.isnan(value) else "finished"}
        for width, table in zip(widths, values, strict=True)
        for seed, row in enumerate(table)
        for k, value in enumerate(row)
    ]
    return pd.DataFrame(rows)


VALUES = np.array([[[0, 1, 5, 2], [0, 1, 6, 2], [0, 1, 7, 2]]], float)


def test_best_rho_and_a_set_that_only_it_is_in():
    best = rho.best_rho(long_table(VALUES + 1e-3 * np.random.default_rng(0).normal(size=VALUES.shape))).iloc[0]
    assert (best["best_rho"], best["best_rho_low"], best["best_rho_high"]) == (0.2, 0.2, 0.2)
    assert (best["best_rho_set"], best["chosen_by"], best["at_grid_edge"]) == ("0.2", "test_metric", "")


def test_lower_is_better():
    runs = long_table(VALUES).assign(higher_is_better=False)
    assert rho.best_rho(runs).iloc[0]["best_rho"] == 0.1
    assert rho.best_rho(runs).iloc[0]["at_grid_edge"] == "low"


def test_a_diverged_rho_cannot_be_best_and_the_end_of_the_grid_is_no_edge_then():
    holes = VALUES.copy()
    holes[0, 1, 3] = np.nan
    best = rho.best_rho(long_table(holes)).iloc[0]
    assert (best["best_rho"], best["num_excluded_rhos"], best["at_grid_edge"]) == (0.2, 1, "")
    holes[0, 1, 2] = np.nan
    assert rho.best_rho(long_table(holes)).iloc[0]["best_rho"] == 0.1


@pytest.mark.parametrize("num_left", [1, 2])
def test_while_a_study_runs_a_rho_with_missing_seeds_cannot_be_best(num_left):
    runs = long_table(VALUES)
    half_done = runs[(runs["rho"] != 0.2) | (runs["seed"] < num_left)]  # the best of all, with fewer seeds
    best = rho.best_rho(half_done).iloc[0]
    assert (best["best_rho"], best["num_rhos"], best["num_excluded_rhos"]) == (pytest.approx(0.3), 2, 1)
    assert rho.best_rho(runs).iloc[0]["best_rho"] == 0.2


def test_where_every_rho_has_as_few_seeds_all_may_be_best():
    runs = long_table(VALUES)
    best = rho.best_rho(runs[(runs["rho"] == 0) | (runs["seed"] < 2)]).iloc[0]
    assert (best["best_rho"], best["num_rhos"]) == (0.2, 3)


def test_the_edge_of_the_grid_is_named():
    assert rho.best_rho(long_table(VALUES[..., :3])).iloc[0]["at_grid_edge"] == "high"


def test_validation_chooses_and_is_named():
    runs = long_table(VALUES)
    runs["validation_metric"] = [0, 1, 2, 3] * 3
    best = rho.best_rho(runs).iloc[0]
    assert (best["best_rho"], best["chosen_by"]) == (pytest.approx(0.3), "validation_metric")


def test_of_equals_the_smallest_and_none_is_left_out():
    best = rho.best_rho(long_table(np.ones((1, 3, 4)))).iloc[0]
    assert best["best_rho"] == 0.1
    assert best["best_rho_set"] == "0.1 0.2 0.3"


def test_one_seed_has_no_set():
    assert np.isnan(rho.best_rho(long_table(VALUES[:, :1])).iloc[0]["best_rho_low"])


@pytest.mark.parametrize("num_seeds", [3, 8])
@pytest.mark.parametrize("height", [0.0, 1.0, 3.0])
def test_the_set_holds_the_best_rho_as_often_as_it_says(num_seeds, height):
    generator, num = np.random.default_rng(num_seeds), 4000
    truth = -height * np.abs(np.arange(6) - 2) / 2
    tables = truth + generator.normal(size=(num, num_seeds, 6)) + 3 * generator.normal(size=(num, num_seeds, 1))
    inside = best_sets.best_set(tables)[:, 2]
    assert inside.mean() > 0.95 - 4 * np.sqrt(0.05 * 0.95 / num)
    if height == 0:
        assert inside.mean() < 0.965


def test_twice_the_noise_at_one_rho_does_not_break_the_set():
    generator = np.random.default_rng(0)
    scale = np.array([1, 1, 2, 1, 1, 1])
    inside = best_sets.best_set(scale * generator.normal(size=(4000, 3, 6)))[:, 2]
    assert inside.mean() > 0.91  # of 95 promised: half of the variance is its own


# Correct answers in % of eight networks of 2,410 parameters that learnt digits with half of their labels wrong, at rho
# 0.01, 0.02, 0.1, 0.2, 0.35 and 0.5. At 0.35 one stays at chance, and the spread is 28 points instead of 2.
DIGITS = np.array(
    [
        [84.23, 85.07, 91.83, 93.80, 92.39, 19.15],
        [87.04, 88.73, 89.86, 90.99, 39.72, 13.80],
        [86.48, 87.32, 88.17, 92.11, 88.17, 18.03],
        [88.45, 88.45, 88.17, 90.70, 75.49, 20.00],
        [85.92, 86.20, 87.61, 92.96, 13.24, 10.14],
        [84.79, 83.10, 88.73, 91.55, 88.73, 10.42],
        [88.73, 88.73, 90.99, 91.83, 79.44, 10.14],
        [89.86, 87.61, 89.86, 92.39, 76.34, 10.42],
    ]
)


def test_a_hopeless_radius_does_not_hide_which_others_are_worse():
    assert list(best_sets.best_set(DIGITS[None])[0]) == [False, False, False, True, False, False]


@pytest.mark.parametrize("num_seeds", [3, 8])
def test_a_column_that_ends_outside_leaves_the_set_as_it_is_without_it(num_seeds):
    generator = np.random.default_rng(num_seeds)
    truth, scale = np.array([0, 0.5, -1, -3, -30, -30, 0]), np.array([1, 1, 1, 1, 30, 0, 10])
    tables = truth + scale * generator.normal(size=(500, num_seeds, 7))
    best = best_sets.best_set(tables)
    for column in range(7):
        outside = ~best[:, column]
        without = best_sets.best_set(np.delete(tables[outside], column, axis=2))
        np.testing.assert_array_equal(without, np.delete(best[outside], column, axis=1))


def test_the_limit_of_two_columns_is_that_of_students_t():
    """With two columns all of the variance is that of their difference, and either may be ahead."""
    limit = best_sets.limits(5, 2)[2]
    assert limit == pytest.approx(scipy.stats.t.ppf(0.95, 4), rel=0.05)


def test_a_tie_with_the_end_of_the_grid_is_at_its_end():
    tie = np.array([[[0, 1, 5, 7], [0, 1, 7, 5], [0, 1, 6, 6]]], float)
    best = rho.best_rho(long_table(tie)).iloc[0]
    assert (best["best_rho"], best["at_grid_edge"]) == (0.2, "high")
    assert rho.best_rho(long_table(tie[..., [0, 2, 1, 3]])).iloc[0]["at_grid_edge"] == "low and high"


def test_sizes_that_hardly_differ_have_no_change_per_tenfold():
    values = np.concatenate([VALUES, VALUES[..., [0, 2, 1, 3]]])
    close, apart = (table.part(long_table(values, widths=sizes)) for sizes in ((1000, 1050), (1000, 1200)))
    assert [np.isnan(rho.trend_of_best(part.widths).factor) for part in (close, apart)] == [True, False]
    assert [np.isnan(estimates.slope(part.scores).value) for part in (close, apart)] == [True, False]
