"""Parameters and data: the measure of size against which gains for several numbers of examples form one curve.

Three measures are compared: the number of parameters, parameters per training example, and parameters relative to the
number from which the base fits its training labels. One smooth curve with the same number of coefficients is fitted to
all gains against each measure. The result is the variance of the true gains about it, with seed noise removed.
"""

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from flatwide.analysis import arms, axes, estimates, interpolation, table

EXAMPLES = "train_examples"
PARAMETERS, PER_EXAMPLE, OVER_INTERPOLATION = "num_params", "num_params_per_example", "num_params_over_interpolation"
MEASURES = (PARAMETERS, PER_EXAMPLE, OVER_INTERPOLATION)
_COEFFICIENTS = 4  # of a curve: a cubic in the logarithm of the measure


class Gains(NamedTuple):
    """The gains of every width and number of examples.

    sizes, examples: [gains]. values: [gains, seeds], each seed at the rho that the others choose.
    pairs: [gains, seeds, seeds], gains of the row's seed at the rho chosen without it and without the column's seed.
    stretch: factor by which an interval must be wider than Student's t, since the seeds chose rho together.
    onsets: number of examples -> seed -> log10 of the parameters from which the base fits, clipped to the widths of the
      study; empty where unknown, or where it lies outside for most seeds.
    """

    sizes: np.ndarray
    examples: np.ndarray
    seeds: tuple[int, ...]
    values: np.ndarray
    pairs: np.ndarray
    stretch: float
    onsets: Mapping[int, Mapping[int, float]]


class Variance(NamedTuple):
    """The variance of true gains about one curve, in squared units of the metric, with its 95 % interval.

    The estimate may be negative where the variance is too small to detect. The interval is NaN below three seeds, and
    all fields are NaN where the curve has as many coefficients as there are gains.
    """

    value: float = math.nan
    low: float = math.nan
    high: float = math.nan


class Scaling(NamedTuple):
    """How close the gains lie to one curve against each measure of size.

    variances: of each available measure. differences: (one, other) -> variance of one minus that of the other.
    """

    variances: dict[str, Variance]
    differences: dict[tuple[str, str], Variance]
    gains: Gains


@table.for_table
def scaling(split: table.Split) -> Scaling | None:
    """Compare how close to one curve the gains for several numbers of training examples lie against each measure.

    Args:
      split: of runs that differ only in width, rho, seed and `train_examples`.
    Returns: None where fewer than two numbers of examples have a gain.
    Equation: A = I - X (X' X)^-1 X' with X the powers 0 to 3 of the logarithm of the measure; variance =
      sum_{i != j} g_ij' A g_ji / (n (n - 1) tr A), g_ij the gains of seed i at the rho chosen without the seeds i and
      j: the mean of such products is free of noise, except for two seeds, which leave no seed to choose. Its interval,
      and that of a difference, is the jackknife's over seeds with Student's t, widened like other intervals of such
      scores; the points where the base fits are recomputed without each seed.
    """
    gains = arrange([part for part in split.parts if part.values.get(EXAMPLES) is not None])
    return None if gains is None else compare(gains)


def arrange(parts: Sequence[table.Part]) -> Gains | None:
    """Arrange the gains of the parts, one part for each number of examples."""
    parts = [part for part in parts if part.scores.num_params]
    together = estimates.joined([part.scores for part in parts])
    if len(parts) < 2 or not together.seeds:
        return None
    counts = [int(part.values[EXAMPLES]) for part in parts]
    compared = [width.comparison for part in parts for width in part.widths if width.comparison.is_usable]
    return Gains(
        sizes=np.array(together.num_params, dtype=float),
        examples=np.repeat(counts, [len(part.scores.num_params) for part in parts]),
        seeds=together.seeds,
        values=together.values,
        pairs=np.array([_pairs(comparison, together.seeds) for comparison in compared]),
        stretch=together.stretch,
        onsets={count: _within(interpolation.onsets(part), part) for count, part in zip(counts, parts, strict=True)},
    )


def _pairs(comparison: arms.Comparison, seeds: Sequence[int]) -> np.ndarray:
    """Select the pair scores of a width for some of its seeds."""
    n = len(comparison.seeds)
    without = estimates.leave_one_out(n)
    folds = (without[:, None] * without[None]).reshape(n * n, n)
    at = estimates.choose(comparison.sam.choices, folds).reshape(n, n)
    gains = comparison.sign * (comparison.sam.values - comparison.base.values)
    rows = [comparison.seeds.index(seed) for seed in seeds]
    return gains[np.arange(n)[:, None], at][np.ix_(rows, rows)]


def _within(onsets: Mapping[int, float], part: table.Part) -> dict[int, float]:
    """Clip seeds that fit everywhere or nowhere to the first or last width; empty where most seeds do."""
    outside = sum(math.isinf(value) for value in onsets.values())
    if not onsets or 2 * outside >= len(onsets):
        return {}
    low, high = (math.log10(width.num_params) for width in (part.widths[0], part.widths[-1]))
    return {seed: min(max(value, low), high) for seed, value in onsets.items()}


def compare(gains: Gains) -> Scaling:
    """Compute `scaling` for gains that are already arranged."""
    names = [name for name in MEASURES if measure(gains, name) is not None]
    num_seeds = len(gains.seeds)
    whole = {name: _variance(gains, name, range(num_seeds)) for name in names}
    without = {
        name: np.array(
            [_variance(gains, name, [k for k in range(num_seeds) if k != seed]) for seed in range(num_seeds)]
        )
        for name in names
    }
    return Scaling(
        variances={name: _jackknife(whole[name], without[name], gains.stretch) for name in names},
        differences={
            (a, b): _jackknife(whole[a] - whole[b], without[a] - without[b], gains.stretch)
            for a, b in itertools.permutations(names, 2)
        },
        gains=gains,
    )


def measure(gains: Gains, name: str, rows: Sequence[int] | None = None) -> np.ndarray | None:
    """Compute log10 of a measure of size of each gain; None where the interpolation of the base is unknown.

    Args:
      rows: indices of the seeds that determine where the base fits; None is all.
    """
    logs = np.log10(gains.sizes)
    if name == PARAMETERS:
        return logs
    if name == PER_EXAMPLE:
        return logs - np.log10(gains.examples)
    selected = {gains.seeds[row] for row in (range(len(gains.seeds)) if rows is None else rows)}
    means = {
        count: [value for seed, value in onsets.items() if seed in selected] for count, onsets in gains.onsets.items()
    }
    if not all(means.values()):
        return None
    return logs - np.array([np.mean(means[count]) for count in gains.examples])


def _variance(gains: Gains, name: str, rows: Sequence[int]) -> float:
    """Compute the variance about the curve against a measure from some of the seeds."""
    at = measure(gains, name, rows) if len(rows) > 1 else None
    if at is None or len(np.unique(np.round(at, 9))) < _COEFFICIENTS or len(at) <= _COEFFICIENTS:
        return math.nan
    outside, _ = np.linalg.qr(np.vander(at - at.mean(), _COEFFICIENTS))
    num_seeds = len(rows)
    scaled = gains.pairs[:, rows][:, :, rows].reshape(len(at), -1)
    left = (scaled - outside @ (outside.T @ scaled)).reshape(len(at), num_seeds, num_seeds)
    products = np.einsum("cij,cji->", left, left) - np.einsum("cii,cii->", left, left)
    trace = len(at) - np.sum(outside**2)
    return float(products / (num_seeds * (num_seeds - 1)) / trace)


def _jackknife(whole: float, without: np.ndarray, stretch: float) -> Variance:
    num_seeds = len(without)
    if num_seeds < 3:
        return Variance(value=whole)
    reach = stretch * estimates.quantile(num_seeds - 1, 0.95) * math.sqrt(num_seeds - 1) * float(np.std(without))
    return Variance(value=whole, low=whole - reach, high=whole + reach)


def by_setting(split: table.Split) -> Iterator[tuple[dict[str, Any], table.Part, Scaling]]:
    """Yield the fixed settings, a part and the comparison for each setting with several numbers of examples."""
    for domain in split.domains:
        for axis, front, parts in axes.numeric_axes(domain):
            if axis == EXAMPLES and (gains := arrange(parts)) is not None:
                yield front, parts[0], compare(gains)


def nearest(comparison: Scaling) -> str | None:
    """Return the only measure against which the gains form one curve as far as the seeds show, or None."""
    with_interval = {name: variance for name, variance in comparison.variances.items() if math.isfinite(variance.low)}
    if len(with_interval) < 2:
        return None
    least, larger = closest(comparison, with_interval)
    is_alone = len(larger) == len(with_interval) - 1 and all(with_interval[name].low > 0 for name in larger)
    return least if is_alone and with_interval[least].low <= 0 else None


def closest(comparison: Scaling, with_interval: Mapping[str, Variance]) -> tuple[str, list[str]]:
    """Find the measure of the smallest variance, and the others whose variance is significantly larger."""
    least = min(with_interval, key=lambda name: with_interval[name].value)
    others = [name for name in with_interval if name != least]
    return least, [name for name in others if comparison.differences[name, least].low > 0]
