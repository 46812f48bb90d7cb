"""Questions about further axes of a study: slopes against independent oracles, and wording against the intervals."""

import itertools
import re

import numpy as np
import pandas as pd
import pytest
import scipy.stats
from numpy.testing import assert_allclose

from flatwide import catalogue
from flatwide.analysis import axes, fields, gain, measured, rho, table
from flatwide.answers import answer, sentences
from flatwide.answers import measured as in_words

SIZES, SEEDS = (100, 1000, 10_000), range(5)


def long_table(values, *, sizes=SIZES, rhos=(0.0, 0.1), **more):
    """Lay out [widths, seeds, 1 + rhos] as a results table."""
    rows = [
        {"num_params": size, "rho": radius, "seed": seed, "test_metric": value, "status": "finished"}
        | {"higher_is_better": True, "metric_name": "score", "optimizer": "sam", "base_optimizer": "sgd"}
        | more
        for size, values_of_size in zip(sizes, values, strict=True)
        for seed, row in enumerate(values_of_size)
        for radius, value in zip(rhos, row, strict=True)
    ]
    return pd.DataFrame(rows)


def noisy(gains, *, num_seeds=5, noise=0.01, seed=0):
    """Make [widths, seeds, 2] of a base of 5 and a gain for each width."""
    means = np.stack([np.full(len(gains), 5.0), 5 + np.array(gains, float)], axis=1)
    return means[:, None] + noise * np.random.default_rng(seed).normal(size=(len(gains), num_seeds, 2))


RHOS = (0.0, 0.01, 0.1, 1.0, 10.0)


def of_best(best, *, noise=0.3, seed=0, num_seeds=5, sizes=SIZES):
    """Make runs whose metric falls away from the best rho of each width."""
    positions = np.arange(-1, len(RHOS) - 1)
    means = np.array([-abs(positions - at) for at in best], float)[:, None]
    values = means + noise * np.random.default_rng(seed).normal(size=(len(best), num_seeds, len(RHOS)))
    return long_table(values, rhos=RHOS, sizes=sizes)


@pytest.mark.parametrize(("noise", "seed", "is_of_sets"), [(0.9, 12, False), (0.9, 3, True)])
def test_the_error_of_the_slope_of_best_rho_is_the_jackknifes_or_that_of_the_sets(noise, seed, is_of_sets):
    runs = of_best((1, 1, 2), noise=noise, seed=seed)
    wide = runs[runs["rho"] > 0].pivot_table(index=["num_params", "rho"], columns="seed", values="test_metric")
    slopes = []
    for seed in SEEDS:
        mean = wide.drop(columns=seed).mean(axis=1)
        best = [np.log10(mean[size].idxmax()) for size in SIZES]
        slopes.append(np.polyfit(np.log10(SIZES), best, 1)[0])
    cells = table.part(runs).widths
    jackknife = np.sqrt(4 / 5 * np.sum((slopes - np.mean(slopes)) ** 2))
    lengths = np.log10([max(members) / min(members) for members in map(rho.confidence_set, cells)])
    of_sets = np.sqrt(np.sum((0.5 * lengths * (-1, 0, 1)) ** 2)) / 6  # the slope is half of the last less the first
    assert (jackknife < of_sets) == is_of_sets
    reach = scipy.stats.t.ppf(0.975, 4) * max(jackknife, of_sets)
    trend_found = rho.trend_of_best(cells)
    assert_allclose(
        np.log10([trend_found.low, trend_found.factor, trend_found.high]),
        np.mean(slopes) + [-reach, 0, reach],
        atol=1e-12,
    )
    assert (trend_found.num_seeds, trend_found.at_low_edge, trend_found.at_high_edge) == (5, (), ())


@pytest.mark.parametrize(
    ("best", "direction", "words"),
    [
        (
            (1, 2, 2),
            1,
            "The best rho grows with width (×3.16 per tenfold increase in parameters, the same whichever seed is",
        ),
        ((2, 1, 1), -1, "The best rho shrinks with width"),
        ((1, 1, 1), 0, "The best rho shows no clear trend with width (×1 per"),
        ((0, 1, 3), 1, "at least ×31.6 with 97.5 % confidence, and no upper bound because the grids end"),
        ((3, 2, 0), -1, "at most ×0.0316 with 97.5 % confidence"),
        ((0, 1, 0), 0, "unbounded on both sides, because the grids end there"),
    ],
)
def test_the_best_rho_grows_where_the_sets_of_both_ends_are_apart(best, direction, words):
    trend_found = rho.trend_of_best(table.part(of_best(best, noise=0.1)).widths)
    assert trend_found.direction == direction
    assert words in sentences.best_rho(trend_found, "width")
    if direction == 1:
        assert max(trend_found.smallest) < min(trend_found.largest)


def test_noise_shows_no_trend_of_the_best_rho():
    trend_found = [rho.trend_of_best(table.part(of_best((1, 1, 1), noise=9, seed=seed)).widths) for seed in range(40)]
    assert sum(of_noise.direction != 0 for of_noise in trend_found) <= 3
    assert rho.trend_of_best(table.part(of_best((1, 2, 2), num_seeds=1)).widths).direction is None
    assert sentences.best_rho(rho.RhoTrend(), "width") == ""


def test_sam_itself_is_fitted_as_the_gain_is():
    runs = long_table(noisy((1, 2, 3)))
    sam = runs[runs["rho"] > 0].pivot(index="num_params", columns="seed", values="test_metric").to_numpy()
    sam_scores = gain.scores_of_sam(table.part(runs))
    assert_allclose(sam_scores.values, sam)
    assert sam_scores.stretch == 1
    text = answer.answer(runs)
    assert "SAM's own score improves with width (+1.00" in text
    lower = runs.assign(higher_is_better=False, metric_name="error")
    assert "SAM's own error gets worse with width (1.00" in answer.answer(lower)


def with_noise(slopes, *, noise=0.02, levels=None):
    """Make runs of several shares of label noise, whose gain has a slope each."""
    levels = levels or tuple(0.25 * k for k in range(len(slopes)))
    parts = [
        long_table(noisy(slope * (np.log10(SIZES) - 3), noise=noise, seed=position), label_noise=level)
        for position, (level, slope) in enumerate(zip(levels, slopes, strict=True))
    ]
    return pd.concat(parts, ignore_index=True)


def test_another_axis_changes_the_slope_of_the_gain():
    runs = with_noise((0, 1, 3))
    changes = axes.levels(table.split(runs).parts, "label_noise")
    slopes = []
    for level in (0.0, 0.25, 0.5):
        part = runs[runs["label_noise"] == level]
        wide = part.pivot_table(index=["num_params", "seed"], columns="rho", values="test_metric")
        gains = (wide[0.1] - wide[0.0]).unstack().to_numpy()
        slopes.append(np.polyfit(np.log10(SIZES), gains, 1)[0])  # one radius: all widths weigh the same
    lines = 0.5 * np.polyfit((0, 0.25, 0.5), np.array(slopes), 1)[0]
    assert changes.change.value == pytest.approx(lines.mean())
    assert changes.change.error >= (1 - 1e-9) * scipy.stats.sem(lines)
    assert (changes.direction, changes.values, changes.sizes) == (1, (0.0, 0.25, 0.5), SIZES)
    text = answer.answer(runs)
    assert f"The trend of the gain with width rises with label_noise (0, 0.25, 0.5): {lines.mean():+.4f} score" in text
    assert "falls with label_noise" in answer.answer(with_noise((3, 1, 0)))


@pytest.mark.parametrize("slopes", [(0, 5, 0), (1, 1, 1)])
def test_a_level_in_between_alone_is_no_change(slopes):
    """Of levels that are not equally far apart, the line follows the middle one."""
    runs = with_noise(slopes, noise=0.1, levels=(0.0, 0.4, 0.5))
    assert "shows no clear change with label_noise (0, 0.4, 0.5)" in answer.answer(runs)
    if slopes[1] == 5:
        assert axes.levels(table.split(runs).parts, "label_noise").change.low > 0


def test_levels_are_compared_over_the_widths_that_all_have():
    runs = with_noise((0, 1, 3))
    runs = runs[(runs["label_noise"] != 0.25) | (runs["num_params"] > 100)]
    changes = axes.levels(table.split(runs).parts, "label_noise")
    assert changes.sizes == (1000, 10_000)
    one_width = runs[(runs["num_params"] == 1000)]
    assert re.search(
        r"The gain \w+ .*with label_noise \(0, 0.25, 0.5\): .*; 1,000 parameters, 5 seeds", answer.answer(one_width)
    )
    apart = runs[(runs["label_noise"] == 0.25) == (runs["num_params"] > 100)]
    assert axes.levels(table.split(apart).parts, "label_noise") is None


def test_axes_that_each_arm_chooses_on_are_left_out():
    runs = with_noise((0, 1, 3)).rename(columns={"label_noise": "learning_rate"})
    assert sentences.sentences_on_axes(table.split(runs))
    assert not sentences.sentences_on_axes(table.split(runs, tune=("learning_rate",)))


def test_sparsity_at_a_fixed_number_of_weights():
    rows = []
    for budget, size in itertools.product((100, 1000), (1000, 10_000, 100_000)):
        if budget < size:
            slope = 1 if budget == 100 else -1
            part = long_table(noisy([slope * np.log10(size)], seed=size), sizes=(size,))
            rows.append(part.assign(sparsity=1 - budget / size, num_nonzero_params=budget, pruner="snip"))
    runs = pd.concat(rows, ignore_index=True)
    text = answer.answer(runs)
    assert "With 100 nonzero parameters in each network (sparsities 0.9 to 0.999), the gain grows with width: " in text
    assert "With 1,000 nonzero parameters in each network (sparsities 0.9 to 0.99), the gain seems to shrink" in text
    assert "nonzero" not in answer.answer(long_table(noisy((1, 2, 3))).assign(num_nonzero_params=100, sparsity=0.0))


@pytest.mark.parametrize(
    ("shapes", "column", "word"),
    [
        (("(8,)", "(16,)", "(32,)"), "num_neurons", "width"),
        (("(75,25)", "(150,50)", "(300,100)"), "num_neurons", "width"),
        (("(8,)", "(8,8)", "(8,8,8)"), "num_neurons", "depth"),
        (("(8,)", "(8,8)", "(16,16)"), "num_neurons", "size"),
        (("(1,1,1,1)", "(2,2,2,2)", "(8,8,8,8)"), "num_blocks", "depth"),
        ((2, 4, 6), "num_layers", "depth"),
        ((2, 4, 6), "hidden_size", "width"),
        ((8, 8, 8), "hidden_size", "width"),
    ],
)
def test_what_grows_is_named(shapes, column, word):
    runs = long_table(noisy((1, 2, 3)))
    runs[column] = runs["num_params"].map(dict(zip(SIZES, shapes, strict=True)))
    assert fields.what_grows(runs) == word
    assert f"The gain of SAM over SGD grows with {word}: from" in answer.answer(runs)


def test_a_measurement_of_the_base_along_width_and_of_all_along_rho():
    random = np.random.default_rng(4)
    runs = of_best((1, 1, 1), noise=0.01)
    runs["moments.s_2"] = 100 * runs["num_params"] ** -0.5 * np.exp(-0.2 * runs["rho"])
    runs["moments.s_2"] *= np.exp(0.05 * random.normal(size=len(runs)))
    arranged = measured.arrange(table.part(runs), ["moments.s_2"])["moments.s_2"]
    text = in_words.axes_sentence(arranged, catalogue.quantity("moments.s_2"), base="SGD")
    base = np.log(runs[runs["rho"] == 0].pivot(index="num_params", columns="seed", values="moments.s_2"))
    slope = np.polyfit(np.log10(SIZES), base.to_numpy(), 1)[0]
    assert f"For SGD alone the non-uniformity s_2 falls with width (×{np.exp(slope.mean()):.3g} per tenfold" in text
    last = np.log(runs[runs["num_params"] == SIZES[-1]].pivot(index="rho", columns="seed", values="moments.s_2"))
    along = 0.1 * np.polyfit(RHOS, last.to_numpy(), 1)[0]
    reach = scipy.stats.t.ppf(0.975, 4) * scipy.stats.sem(along)
    ends = [np.exp(along.mean() + sign * reach) for sign in (-1, 1)]
    assert (
        f"it falls (×{np.exp(along.mean()):.3g} per increase of 0.1 in ρ, "
        f"95 % interval ×{ends[0]:.3g} to ×{ends[1]:.3g}" in text
    )
    level = runs.assign(**{"moments.s_2": np.exp(random.normal(size=len(runs)))})
    arranged = measured.arrange(table.part(level), ["moments.s_2"])["moments.s_2"]
    assert in_words.axes_sentence(arranged, catalogue.quantity("moments.s_2")).count("shows no clear change") == 2
