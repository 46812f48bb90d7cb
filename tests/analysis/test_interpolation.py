"""Where the gain peaks, against where the base first fits its training labels."""

import math

import numpy as np
import pandas as pd
import pytest
import scipy.stats
from numpy.testing import assert_allclose

from flatwide.analysis import interpolation, table
from flatwide.answers import answer

SIZES, SEEDS = (10, 100, 1000, 10_000, 100_000), 5


def study(gains, onset, *, noise=0.1, spread=0.05, num_seeds=SEEDS, metric_name="accuracy"):
    """Make runs with a gain for each width, whose base fits from some log10 of the size on."""
    random = np.random.default_rng(0)
    onsets = onset + spread * random.normal(size=num_seeds)
    rows = []
    for size, gain in zip(SIZES, gains, strict=True):
        for seed in range(num_seeds):
            short = onsets[seed] - math.log10(size)  # on a line, so that the crossing is exact
            fit = {"train_metric": 0.999 - 0.0002 * short, "train_loss": 0.01 * math.exp(short)}
            for rho in (0.0, 0.1):
                value = 0.5 + 0.01 * (gain * (rho > 0) + noise * random.normal())
                rows.append(
                    {"num_params": size, "seed": seed, "rho": rho, "test_metric": value, "status": "finished"}
                    | {"higher_is_better": True, "metric_name": metric_name, "optimizer": "sam"}
                    | {"base_optimizer": "sgd"}
                    | fit
                )
    return pd.DataFrame(rows), onsets


def test_each_seeds_onset_is_where_a_line_crosses():
    sizes, gaps = np.array([1.0, 2, 3, 4]), np.array([0.3, 0.1, 0.3, -0.1])
    assert interpolation._crossing(sizes, gaps) == pytest.approx(3.75)
    assert interpolation._crossing(sizes, gaps[::-1] - 1) == -math.inf
    assert interpolation._crossing(sizes, -gaps) == pytest.approx(math.inf)
    runs, _ = study((0, 1, 2, 1, 0), 2.5)
    lost = runs[(runs["num_params"] != 100) | (runs["rho"] > 0) | (runs["seed"] > 0)]
    onsets = [interpolation.onsets(table.part(some_runs)) for some_runs in (runs, lost)]
    assert [sorted(onset_of_seed) for onset_of_seed in onsets] == [[0, 1, 2, 3, 4], [1, 2, 3, 4]]


def test_the_interval_of_the_onset_is_that_of_a_mean():
    runs, values = study((0, 1, 5, 1, 0), 2.5)
    estimate = interpolation.peak(runs)
    reach = scipy.stats.t.ppf((1 + math.sqrt(0.95)) / 2, SEEDS - 1) * scipy.stats.sem(values)
    expected = values.mean() + np.array([-reach, 0, reach])
    assert_allclose(np.log10([estimate.onset_low, estimate.onset, estimate.onset_high]), expected)
    assert (estimate.largest_gain, estimate.peak_low, estimate.peak_high) == (1000, 100, 10_000)
    expected = [100 / estimate.onset_high, 10_000 / estimate.onset_low]
    assert_allclose([estimate.ratio_low, estimate.ratio_high], expected)


@pytest.mark.parametrize(
    ("gains", "onset", "words"),
    [
        ((0, 1, 5, 1, 0), 2.5, "the peak is statistically indistinguishable from that point ("),
        ((0, 0, 1, 5, 1), 1.5, "the gain peaks in larger networks than that ("),
        ((1, 5, 1, 0, 0), 3.5, "the gain peaks in smaller networks than that ("),
        (
            (0, 1, 2, 3, 5),
            9,
            "any width here, in any seed, and the gain is largest at 100,000 parameters (the peak is above 10,000, and",
        ),
        ((0, 1, 2, 3, 5), 9, "this study does not decide whether it peaks where the base first fits"),
        ((0, 1, 2, 3, 5), 2.5, "the gain peaks in larger networks than that ("),
        ((5, 1, 0, 0, 0), 0, "SGD first fits its training labels at or below 10 parameters"),
        ((0, 0, 0, 0, 0), 2.5, "but the seeds do not show which size has the largest"),
    ],
)
def test_the_sentence_says_no_more_than_the_intervals(gains, onset, words):
    assert words in answer.answer(study(gains, onset)[0])


@pytest.mark.parametrize("metric_name", ["accuracy", "score"])
def test_a_loss_is_fitted_by_its_logarithm_and_a_fraction_as_it_is(metric_name):
    runs, onsets = study((0, 1, 5, 1, 0), 2.5, metric_name=metric_name)
    estimate = interpolation.onsets(table.part(runs))
    assert_allclose(list(estimate.values()), onsets)


def test_nothing_is_said_of_what_the_table_does_not_tell():
    runs, _ = study((0, 1, 5, 1, 0), 2.5)
    assert interpolation.peak(runs.drop(columns=["train_metric", "train_loss"])).largest_gain is None
    assert interpolation.peak(runs[runs["seed"] == 0]).largest_gain is None
    assert "fits its training labels" not in answer.answer(runs[runs["num_params"] < 1000])


def test_seeds_that_never_fit_leave_the_upper_end_open():
    runs, _ = study((0, 1, 5, 1, 0), 4.7, spread=0.5)
    values = list(interpolation.onsets(table.part(runs)).values())
    assert 0 < sum(map(math.isinf, values)) < SEEDS
    estimate = interpolation.peak(runs)
    assert math.isinf(estimate.onset_high)
    assert estimate.onset_low < 10**5
    assert "parameters, not in every seed here" in answer.answer(runs)
