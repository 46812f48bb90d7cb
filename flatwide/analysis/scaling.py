"""Parameters and data: the measure of size against which gains for several numbers of examples form one curve.

Three measures are compared: the number of parameters, parameters per training example, and parameters relative to the
number from which the base fits its training labels. One smooth curve with the same number of coefficients is fitted to
all gains against each measure. The result is the variance of the true gains about it, with seed noise removed.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from flatwide.analysis import domains, estimates, fields, interpolation, questions, table, trend, widths, wording

if TYPE_CHECKING:
    import pandas as pd

EXAMPLES = "train_examples"
PARAMETERS, PER_EXAMPLE, OVER_INTERPOLATION = "num_params", "num_params_per_example", "num_params_over_interpolation"
MEASURES = (PARAMETERS, PER_EXAMPLE, OVER_INTERPOLATION)
_COEFFICIENTS = 4  # of a curve: a cubic in the logarithm of the measure
_WORDS = {
    PARAMETERS: "the number of parameters",
    PER_EXAMPLE: "parameters per training example",
    OVER_INTERPOLATION: "parameters relative to the number from which {base} fits its labels",
}


class Cells(NamedTuple):
    """The gains of every width and number of examples.

    sizes, examples: [cells]. gains: [cells, seeds], each seed at the rho that the others choose.
    pairs: [cells, seeds, seeds], gains of the row's seed at the rho chosen without it and without the column's seed.
    stretch: factor by which an interval must be wider than Student's t, since the seeds chose rho together.
    onsets: number of examples -> seed -> log10 of the parameters from which the base fits, clipped to the widths of the
      study; empty where unknown, or where it lies outside for most seeds.
    """

    sizes: np.ndarray
    examples: np.ndarray
    seeds: tuple[int, ...]
    gains: np.ndarray
    pairs: np.ndarray
    stretch: float
    onsets: Mapping[int, Mapping[int, float]]


class Variance(NamedTuple):
    """The variance of true gains about one curve, in squared units of the metric, with its 95 % interval.

    The estimate may be negative where the variance is too small to detect. The interval is NaN below three seeds, and
    all fields are NaN where the curve has as many coefficients as there are cells.
    share: of the variance of the true gains about their mean.
    """

    value: float = math.nan
    low: float = math.nan
    high: float = math.nan
    share: float = math.nan


class Scaling(NamedTuple):
    """How close the gains lie to one curve against each measure of size.

    variances: of each available measure. differences: (first, second) -> variance of the first minus the second.
    """

    variances: dict[str, Variance]
    differences: dict[tuple[str, str], Variance]
    cells: Cells


def scaling(
    runs: "pd.DataFrame", *, width: str = "num_params", metric: str = "test_metric", choose_by: str | None = None
) -> Scaling | None:
    """Compare how close to one curve the gains for several numbers of training examples lie against each measure.

    Args:
      runs: rows of the results table that differ only in width, rho, seed and `train_examples`.
      width, metric, choose_by: as for `gain.gain_by_width`.
    Returns: None where fewer than two numbers of examples have a gain.
    Equation: A = I - X (X' X)^-1 X' with X the powers 0 to 3 of the logarithm of
      the measure; variance = sum_{i != j} g_ij' A g_ji / (n (n - 1) tr A), g_ij the gains of seed i at the rho chosen
      without the seeds i and j: the mean of such products is free of noise, except for two seeds, which leave no seed
      to choose. Its interval, and that of a difference, is the jackknife's over seeds with Student's t, widened like
      other intervals of such scores; the points where the base fits are recomputed without each seed.
    Cost: nothing is trained.
    """
    parts = [part for part in table.parts(runs, width=width) if part.values.get(EXAMPLES) is not None]
    cells = arrange(parts, width=width, metric=metric, choose_by=choose_by)
    return None if cells is None else of_cells(cells)


def arrange(parts: Sequence[table.Part], *, width: str, metric: str, choose_by: str | None) -> Cells | None:
    """Arrange the gains of the parts, one part for each number of examples."""
    options: dict[str, Any] = {"width": width, "metric": metric, "choose_by": choose_by}
    scores_of_parts, cells_of_parts = [], []
    for part in parts:
        arranged = widths.by_width(part.runs, **options)
        scores = trend.scores(arranged)
        if scores.num_params:
            onsets = interpolation.onset_of_seeds(arranged, part.runs, width=width)
            scores_of_parts.append((int(part.values[EXAMPLES]), scores, _within(onsets, arranged)))
            cells_of_parts.append([cell for cell in arranged if cell.num_params in scores.num_params])
    seeds = (
        sorted(set.intersection(*(set(scores.seeds) for _, scores, _ in scores_of_parts))) if scores_of_parts else []
    )
    if len(scores_of_parts) < 2 or not seeds:
        return None
    gains = [scores.values[:, [scores.seeds.index(seed) for seed in seeds]] for _, scores, _ in scores_of_parts]
    return Cells(
        sizes=np.concatenate([scores.num_params for _, scores, _ in scores_of_parts]).astype(float),
        examples=np.concatenate([[count] * len(scores.num_params) for count, scores, _ in scores_of_parts]),
        seeds=tuple(seeds),
        gains=np.concatenate(gains),
        pairs=np.array([_pairs(cell, seeds) for group in cells_of_parts for cell in group]),
        stretch=max(scores.stretch for _, scores, _ in scores_of_parts),
        onsets={count: onsets for count, _, onsets in scores_of_parts},
    )


def _pairs(cell: widths.Width, seeds: Sequence[int]) -> np.ndarray:
    """Select the pair scores of a width for some of its seeds."""
    comparison = cell.comparison
    n = len(comparison.seeds)
    without = estimates.leave_one_out(n)
    folds = (without[:, None] * without[None]).reshape(n * n, n)
    at = estimates.choose(comparison.sam.choices, folds).reshape(n, n)
    gains = comparison.sign * (comparison.sam.values - comparison.base.values)
    rows = [comparison.seeds.index(seed) for seed in seeds]
    return gains[np.arange(n)[:, None], at][np.ix_(rows, rows)]


def _within(onsets: Mapping[int, float], cells: Sequence[widths.Width]) -> dict[int, float]:
    """Clip seeds that fit everywhere or nowhere to the first or last width; empty where most seeds do."""
    outside = sum(math.isinf(value) for value in onsets.values())
    if not onsets or 2 * outside >= len(onsets):
        return {}
    low, high = (math.log10(cell.num_params) for cell in (cells[0], cells[-1]))
    return {seed: min(max(value, low), high) for seed, value in onsets.items()}


def of_cells(cells: Cells) -> Scaling:
    """Compute `scaling` for gains that are already arranged."""
    names = [name for name in MEASURES if measure(cells, name) is not None]
    num_seeds = len(cells.seeds)
    whole = {name: _variance(cells, name, range(num_seeds)) for name in names}
    without = {
        name: np.array(
            [_variance(cells, name, [k for k in range(num_seeds) if k != seed]) for seed in range(num_seeds)]
        )
        for name in names
    }
    alone = _variance(cells, None, range(num_seeds))
    pairs = [(a, b) for index, b in enumerate(names) for a in names[:index]]
    return Scaling(
        variances={name: _jackknife(whole[name], without[name], alone, cells.stretch) for name in names},
        differences={
            (a, b): _jackknife(whole[a] - whole[b], without[a] - without[b], alone, cells.stretch) for a, b in pairs
        },
        cells=cells,
    )


def measure(cells: Cells, name: str, rows: Sequence[int] | None = None) -> np.ndarray | None:
    """Compute log10 of a measure of size of each cell; None where the interpolation of the base is unknown.

    Args:
      rows: indices of the seeds that determine where the base fits; None is all.
    """
    logs = np.log10(cells.sizes)
    if name == PARAMETERS:
        return logs
    if name == PER_EXAMPLE:
        return logs - np.log10(cells.examples)
    selected = {cells.seeds[row] for row in (range(len(cells.seeds)) if rows is None else rows)}
    means = {
        count: [value for seed, value in onsets.items() if seed in selected] for count, onsets in cells.onsets.items()
    }
    if not all(means.values()):
        return None
    return logs - np.array([np.mean(means[count]) for count in cells.examples])


def _variance(cells: Cells, name: str | None, rows: Sequence[int]) -> float:
    """Compute the variance about the curve against a measure, or for None about the mean, from some of the seeds."""
    if len(rows) < 2:
        return math.nan
    count = 1 if name is None else _COEFFICIENTS
    at = np.zeros(len(cells.sizes)) if name is None else measure(cells, name, rows)
    if at is None or len(np.unique(np.round(at, 9))) < count or len(at) <= count:
        return math.nan
    basis = np.vander(at - at.mean(), count)
    outside, _ = np.linalg.qr(basis)
    num_seeds = len(rows)
    scaled = cells.pairs[:, rows][:, :, rows].reshape(len(at), -1)
    left = (scaled - outside @ (outside.T @ scaled)).reshape(len(at), num_seeds, num_seeds)
    products = np.einsum("cij,cji->", left, left) - np.einsum("cii,cii->", left, left)
    trace = len(at) - np.sum(outside**2)
    return float(products / (num_seeds * (num_seeds - 1)) / trace)


def _jackknife(whole: float, without: np.ndarray, alone: float, stretch: float) -> Variance:
    num_seeds = len(without)
    share = whole / alone if alone > 0 else math.nan
    if num_seeds < 3:
        return Variance(value=whole, share=share)
    reach = stretch * estimates.quantile(num_seeds - 1, 0.95) * math.sqrt(num_seeds - 1) * float(np.std(without))
    return Variance(value=whole, low=whole - reach, high=whole + reach, share=share)


def of_runs(
    runs: "pd.DataFrame", *, width: str, metric: str, choose_by: str | None
) -> Iterator[tuple[dict[str, Any], "pd.DataFrame", Scaling]]:
    """Yield the fixed settings, the runs and the comparison for each setting with several numbers of examples."""
    import pandas as pd

    for domain in domains.domains(fields.narrow(runs, width=width)):
        for axis, front, parts in questions.axes(domain, width=width):
            cells = None
            if axis == EXAMPLES:
                cells = arrange(parts, width=width, metric=metric, choose_by=choose_by)
            if cells is not None:
                yield front, pd.concat([part.runs for part in parts]), of_cells(cells)


def sentence(comparison: Scaling, units: wording.Units, base: str) -> str:
    """Write how close to one curve the gains lie against each measure, and which is closest; "" below three seeds."""
    with_interval = {name: variance for name, variance in comparison.variances.items() if math.isfinite(variance.low)}
    if len(with_interval) < 2:
        return ""
    square = units.factor**2
    unit = f" {units.unit}²" if units.unit else ""

    def amount(variance: Variance) -> str:
        value, low, high = (max(square * end, 0) for end in (variance.value, variance.low, variance.high))
        return f"{value:.3g}{unit} (95 % interval {low:.3g} to {high:.3g})"

    words = {name: text.format(base=base) for name, text in _WORDS.items()}
    counts = ", ".join(f"{count:,}" for count in dict.fromkeys(comparison.cells.examples.tolist()))
    listed = "; ".join(f"{amount(variance)} against {words[name]}" for name, variance in with_interval.items())
    text = f"The true gains for {counts} training examples deviate from one curve with a variance of {listed}"
    if OVER_INTERPOLATION not in with_interval:
        text += f"; the size from which {base} fits its labels is not known for every number of examples"
    return f"{text}: {_nearest(comparison, with_interval, words)}; {len(comparison.cells.seeds)} seeds."


def nearest(comparison: Scaling) -> str | None:
    """Return the only measure against which the gains form one curve as far as the seeds show, or None."""
    with_interval = {name: variance for name, variance in comparison.variances.items() if math.isfinite(variance.low)}
    if len(with_interval) < 2:
        return None
    least, larger = _least(comparison, with_interval)
    is_alone = len(larger) == len(with_interval) - 1 and all(with_interval[name].low > 0 for name in larger)
    return least if is_alone and with_interval[least].low <= 0 else None


def _least(comparison: Scaling, with_interval: Mapping[str, Variance]) -> tuple[str, list[str]]:
    """Find the measure of the smallest variance, and the others whose variance is significantly larger."""
    least = min(with_interval, key=lambda name: with_interval[name].value)

    def is_larger(other: str) -> bool:
        if (least, other) in comparison.differences:
            return comparison.differences[least, other].high < 0
        return comparison.differences[other, least].low > 0

    return least, [name for name in with_interval if name != least and is_larger(name)]


def _nearest(comparison: Scaling, with_interval: Mapping[str, Variance], words: Mapping[str, str]) -> str:
    """Write which measure gives one curve, as far as the intervals show."""
    if (name := nearest(comparison)) is not None:
        return f"as far as the seeds show, they form one curve against {words[name]}, and only against that"
    least, larger = _least(comparison, with_interval)
    apart = [name for name, variance in with_interval.items() if variance.low > 0]
    text = "the seeds do not show against which of these they form one curve"
    if len(apart) == len(with_interval):
        text = "they do not form one curve against any of these"
    elif apart:
        text = f"they do not form one curve against {' or against '.join(words[name] for name in apart)}"
    if larger:
        others = " and ".join(words[name] for name in larger)
        text += f", and are closer to one against {words[least]} than against {others}"
    return text
