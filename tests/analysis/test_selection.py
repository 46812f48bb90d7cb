"""The corrected interval: worked by hand, and on thousands of tables of pure noise."""

import math

import numpy as np
import pandas as pd
import pytest
import scipy.stats
from numpy.testing import assert_allclose

from flatwide.analysis import gain, selection


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


def test_by_hand():
    # Without seed 0 rho 2 leads (5 + 2 over 3 + 3), without seed 1 rho 1 (4 + 3), without seed 2 rho 1 (4 + 3 = 2 + 5).
    values = [[[0, 4, 2], [0, 3, 5], [1, 3, 2]]]
    corrected = selection.corrected_gain(long_table(np.array(values, float))).iloc[0]
    assert corrected["corrected_gain"] == pytest.approx((2 + 3 + 2) / 3)
    plain = gain.gain_by_width(long_table(np.array(values, float))).iloc[0]
    assert plain["gain"] == pytest.approx((4 + 3 + 2) / 3)
    assert corrected["selection_bias"] == pytest.approx(2 / 3)
    assert corrected["corrected_standard_error"] == pytest.approx(1 / math.sqrt(3)) == plain["standard_error"]
    assert corrected["corrected_standard_error"] > scipy.stats.sem([2, 3, 2])  # of the scores
    reach = selection.critical_value(3, 2) / math.sqrt(3)
    assert_allclose(corrected[["corrected_low", "corrected_high"]].astype(float), [7 / 3 - reach, 7 / 3 + reach])


def test_one_rho_is_the_plain_paired_t_interval():
    values = np.random.default_rng(0).normal(size=(1, 6, 2))
    corrected = selection.corrected_gain(long_table(values)).iloc[0]
    oracle = scipy.stats.ttest_rel(values[0, :, 1], values[0, :, 0]).confidence_interval(0.95)
    assert_allclose((corrected["corrected_low"], corrected["corrected_high"]), oracle, rtol=1e-9)
    assert corrected["selection_bias"] == 0


@pytest.mark.parametrize("num_rhos", [5, 11])
@pytest.mark.parametrize("num_seeds", [3, *(pytest.param(n, marks=pytest.mark.slow) for n in (5, 8))])
def test_on_pure_noise_it_covers_zero_as_often_as_it_says(num_seeds, num_rhos):
    """A thousand tables, through the public function, with effects that the runs of a seed share."""
    generator = np.random.default_rng([num_seeds, num_rhos])
    num, shape = 1000, (num_seeds, num_rhos + 1)
    values = 0.9 + generator.normal(size=(num, num_seeds, 1)) + 0.5 * generator.normal(size=(num, *shape))
    runs = long_table(values, widths=range(num))
    corrected = selection.corrected_gain(runs)
    covered = (corrected["corrected_low"] <= 0) & (corrected["corrected_high"] >= 0)
    assert 0.93 <= covered.mean() <= (0.99 if num_seeds == 3 else 0.97)
    plain = gain.gain_by_width(runs)
    assert plain["gain"].mean() > 0.15  # SAM seems to gain where it does nothing
    error = corrected["corrected_gain"].std() / math.sqrt(num)
    assert abs(corrected["corrected_gain"].mean()) < 4 * error
    assert_allclose(plain["gain"] - corrected["selection_bias"], corrected["corrected_gain"], atol=1e-12)


def coverage(gains, choices, *, truth):
    """How often the interval covers the gain of the rho that was chosen, over tables [tables, seeds, rhos]."""
    n, num_rhos = gains.shape[1:]
    center = selection.cross_fit(gains, choices).mean(axis=1)
    best = choices.sum(axis=1).argmax(axis=1)
    target = np.broadcast_to(truth, choices[:, 0].shape)[np.arange(len(best)), best]
    error = selection.standard_error(gains, choices)
    return np.mean(np.abs(center - target) <= selection.critical_value(n, num_rhos) * error)


@pytest.mark.parametrize("num_rhos", [5, 11])
@pytest.mark.parametrize("num_seeds", [3, 5, 8])
def test_where_noise_differs_from_rho_to_rho_it_covers_too(num_seeds, num_rhos):
    """The noisiest rho is the choice of some seeds only, and the rho of all seeds need not know of it."""
    noise = np.random.default_rng(num_seeds).normal(size=(4000, num_seeds, num_rhos + 1))
    for spreads in (np.r_[np.ones(num_rhos - 1), 10], np.geomspace(0.3, 3, num_rhos)):
        sam = spreads * noise[..., 1:]
        assert 0.93 < coverage(sam - noise[..., :1], sam, truth=np.zeros(num_rhos)) < 0.98


@pytest.mark.parametrize("num_seeds", [3, 8])
def test_where_rho_matters_it_covers_the_gain_of_the_chosen_rho(num_seeds):
    generator = np.random.default_rng(num_seeds)
    base, noise = generator.normal(size=(4000, num_seeds, 1)), generator.normal(size=(4000, num_seeds, 7))
    for height in (0.5, 2.0):
        truth = height - height * ((np.arange(7) - 3) / 3) ** 2
        assert 0.93 < coverage(truth + noise - base, truth + noise, truth=truth) < 0.985


@pytest.mark.parametrize("num_seeds", [3, 5, 8])
@pytest.mark.parametrize("num_rhos", [5, 11])
def test_a_clear_winner_costs_width_only(num_seeds, num_rhos):
    """With one choice for every fold the score is the plain gain, and the reach that of Student's t at least."""
    noise = np.random.default_rng(0).normal(size=(4000, num_seeds, num_rhos + 1))
    truth = 50.0 * (np.arange(num_rhos) == 1)
    corrected = coverage(truth + noise[..., 1:] - noise[..., :1], truth + noise[..., 1:], truth=truth)
    assert 0.94 < corrected < 0.985


@pytest.mark.parametrize(("num_seeds", "num_rhos"), [(5, 5), (8, 11)])
@pytest.mark.parametrize("base_noise", [0.1, 3.0])
def test_the_interval_is_as_long_as_the_bases_noise_needs(num_seeds, num_rhos, base_noise):
    """With a ratio of 1 the first would cover 91 to 92 %, the second 96 to 97."""
    noise = np.random.default_rng(num_seeds).normal(size=(6000, num_seeds, num_rhos + 1))
    gains = noise[..., 1:] - base_noise * noise[..., :1]
    ratio = np.abs(selection.cross_fit(gains, noise[..., 1:]).mean(axis=1))
    ratio /= selection.standard_error(gains, noise[..., 1:])
    reach = selection.critical_value(num_seeds, num_rhos, ratio=base_noise**2)
    assert np.mean(ratio <= reach) == pytest.approx(0.95, abs=0.012)


def test_all_widths_tell_how_noisy_the_base_is():
    generator = np.random.default_rng(3)
    values = generator.normal(size=(40, 5, 6)) * np.array([0.1, 1, 1, 1, 1, 1])
    quiet = selection.corrected_gain(long_table(values, widths=range(40)))
    lengths = quiet["corrected_high"] - quiet["corrected_low"]
    reach = lengths / 2 / quiet["corrected_standard_error"]
    assert_allclose(reach, reach[0])
    assert reach[0] == pytest.approx(selection.critical_value(5, 5, ratio=0.01), rel=0.03)
    assert reach[0] > 1.08 * selection.critical_value(5, 5)


def test_a_base_that_chooses_too_has_its_own_cells():
    """Each arm at what the other seeds choose for it, as where the learning rate is tuned for both."""
    noise = np.random.default_rng(5).normal(size=(6000, 5, 9))
    base, sam = noise[..., :4], noise[..., 4:]
    scores = selection.cross_fit(sam, sam) - selection.cross_fit(base, base)
    statistic = np.abs(scores.mean(axis=1)) / scores.std(axis=1, ddof=1) * math.sqrt(5)
    reach = scipy.stats.t.ppf(0.975, 4) * selection.stretch_of_scores(5, 5, num_base=4)
    assert np.mean(statistic <= reach) == pytest.approx(0.95, abs=0.012)
    assert selection.stretch_of_scores(5, 5, num_base=4) > selection.stretch_of_scores(5, 5)


def test_the_reach_falls_to_students_t_as_the_base_gets_noisier():
    corrected = [selection.critical_value(8, 5, ratio=ratio) for ratio in (0, 0.5, 2, 50, math.inf)]
    assert corrected == sorted(corrected, reverse=True)
    assert corrected[-1] == scipy.stats.t.ppf(0.975, 7)


def test_students_t_over_the_scores_would_not_do():
    """The reason for the simulation: the scores of the folds are not independent."""
    noise = np.random.default_rng(0).normal(size=(8000, 8, 12))
    scores = selection.cross_fit(noise[..., 1:] - noise[..., :1], noise[..., 1:])
    statistic = np.abs(scores.mean(axis=1)) / (scores.std(axis=1, ddof=1) / math.sqrt(8))
    assert np.mean(statistic < scipy.stats.t.ppf(0.975, 7)) < 0.90


def test_the_reach_is_reproducible_and_that_of_students_t_at_least():
    selection._simulated.cache_clear()
    first = selection.critical_value(8, 5)
    selection._simulated.cache_clear()
    assert selection.critical_value(8, 5) == first
    assert scipy.stats.t.ppf(0.975, 7) == selection.critical_value(8, 1) < first < selection.critical_value(8, 11)
    assert selection.critical_value(3, 11) == scipy.stats.t.ppf(0.975, 2)
    assert selection.critical_value(5, 5, level=0.5) < 1.5


@pytest.mark.parametrize("num_seeds", [3, 8])
def test_an_interval_of_the_scores_alone_is_stretched_to_cover(num_seeds):
    noise = np.random.default_rng(1).normal(size=(8000, num_seeds, 12))
    scores = selection.cross_fit(noise[..., 1:] - noise[..., :1], noise[..., 1:])
    statistic = np.abs(scores.mean(axis=1)) / (scores.std(axis=1, ddof=1) / math.sqrt(num_seeds))
    reach = scipy.stats.t.ppf(0.975, num_seeds - 1) * selection.stretch_of_scores(num_seeds, 11)
    assert abs(np.mean(statistic < reach) - 0.95) < 0.01
    assert selection.stretch_of_scores(num_seeds, 1) == 1


def test_diverged_and_missing_runs_leave_a_whole_block():
    values = np.random.default_rng(1).normal(size=(1, 5, 4))
    holes = values.copy()
    holes[0, 2, 3] = np.nan  # the largest rho diverged once: it is out
    runs = long_table(holes)
    runs = runs[~((runs["seed"] == 4) & (runs["rho"] == 0.0))]  # and seed 4 has no base run: it is out
    corrected = selection.corrected_gain(runs).iloc[0]
    assert (corrected["num_rhos"], corrected["corrected_num_seeds"]) == (2, 4)
    expected = selection.corrected_gain(long_table(values[:, :4, :3])).iloc[0]
    assert_allclose(corrected["corrected_gain"], expected["corrected_gain"])


def test_a_rho_with_fewer_seeds_than_another_is_not_chosen():
    values = np.random.default_rng(1).normal(size=(1, 5, 4))
    runs = long_table(values)
    corrected = selection.corrected_gain(runs[~((runs["seed"] == 4) & (runs["rho"] == 0.1))]).iloc[0]
    assert (corrected["num_rhos"], corrected["corrected_num_seeds"]) == (2, 5)
    expected = selection.corrected_gain(long_table(values[:, :, [0, 2, 3]])).iloc[0]
    assert_allclose(corrected["corrected_gain"], expected["corrected_gain"])


def test_one_seed_has_no_corrected_gain():
    corrected = selection.corrected_gain(long_table(np.zeros((1, 1, 3)))).iloc[0]
    assert np.isnan(corrected[["corrected_gain", "corrected_low", "selection_bias"]].astype(float)).all()


def test_rho_is_chosen_by_validation_where_there_is_one():
    runs = long_table(np.array([[[0, 9, 1], [0, 8, 2], [0, 7, 2]]], float))
    runs["validation_metric"] = [0, 1, 2] * 3
    corrected = selection.corrected_gain(runs).iloc[0]
    assert corrected["corrected_gain"] == pytest.approx(5 / 3)
    assert corrected["selection_bias"] == pytest.approx(0)
    assert selection.corrected_gain(runs, choose_by="test_metric").iloc[0]["corrected_gain"] == pytest.approx(8)
