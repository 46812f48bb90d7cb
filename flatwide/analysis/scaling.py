"""Parameters over data: on which measure of size the gains of different numbers of training examples are one curve.

Three measures are compared: the number of parameters, parameters for each training example, and parameters over those
from which the base fits its training labels. Against each, one smooth curve is fitted to all gains, with as many
coefficients, and what is left is the variance of true gains about it: that of the noise of seeds is taken off.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from flatwide.analysis import domains, fields, interpolation, questions, selection, table, trend, widths, wording

if TYPE_CHECKING:
    import pandas as pd

EXAMPLES = "train_examples"
PARAMETERS, PER_EXAMPLE, OVER_INTERPOLATION = "num_params", "num_params_per_example", "num_params_over_interpolation"
MEASURES = (PARAMETERS, PER_EXAMPLE, OVER_INTERPOLATION)
_COEFFICIENTS = 4  # of a curve: a cubic in the logarithm of the measure
_WORDS = {
    PARAMETERS: "the number of parameters",
    PER_EXAMPLE: "parameters per training example",
    OVER_INTERPOLATION: "parameters over those from which {base} fits its labels",
}


class Cells(NamedTuple):
    """The gains of every width and number of examples.

    sizes, examples: [cells]. gains: [cells, seeds], each seed at the rho that the others choose.
    pairs: [cells, seeds, seeds], of the seed of the row at the rho that all but it and that of the column choose.
    weights: [cells], how much each counts: alike for all numbers of examples.
    stretch: by which an interval must be wider than Student's t, since the seeds chose rho together.
    onsets: number of examples -> seed -> log10 of the parameters from which the base fits, within the widths of the
      study; empty where that is not known, or for most seeds outside.
    """

    sizes: np.ndarray
    examples: np.ndarray
    seeds: tuple[int, ...]
    gains: np.ndarray
    pairs: np.ndarray
    weights: np.ndarray
    stretch: float
    onsets: Mapping[int, Mapping[int, float]]


class Variance(NamedTuple):
    """The variance of true gains about one curve, in squared units of the metric, with its 95 % interval.

    It may come out below zero, where it is too small to be seen. The interval is NaN below three seeds, and all of it
    where the curve has as many coefficients as there are cells.
    share: of the variance of the true gains about their mean.
    """

    value: float = math.nan
    low: float = math.nan
    high: float = math.nan
    share: float = math.nan


class Scaling(NamedTuple):
    """How near to one curve the gains lie against each measure of size.

    variances: of each measure that is known. differences: (first, second) -> variance of the first less the second.
    """

    variances: dict[str, Variance]
    differences: dict[tuple[str, str], Variance]
    cells: Cells


def scaling(
    runs: "pd.DataFrame", *, width: str = "num_params", metric: str = "test_metric", choose_by: str | None = None
) -> Scaling | None:
    """Compare how near to one curve the gains of several numbers of training examples lie against each measure of size.

    Args:
      runs: rows of the results table that differ in width, rho, seed and `train_examples` only.
      width, metric, choose_by: as for `gain.gain_by_width`.
    Returns: None where fewer than two numbers of examples have a gain.
    Equation: A = W - W X (X' W X)^-1 X' W with the weights W of the cells and X the powers 0 to 3 of the logarithm of
      the measure; variance = sum_{i != j} g_ij' A g_ji / (n (n - 1) tr A), g_ij the gains of seed i at the
      rho that all seeds but i and j choose: such products have no noise in their mean, but for two seeds, which leave
      nobody to choose. Its interval, and that of a difference, is the jackknife's over seeds
      with Student's t, widened as other intervals of such scores; the points where the base fits are found again
      without each seed.
    Cost: nothing is trained.
    """
    parts = [part for part in table.parts(runs, width=width) if part.values.get(EXAMPLES) is not None]
    cells = arrange(parts, width=width, metric=metric, choose_by=choose_by)
    return None if cells is None else of_cells(cells)


def arrange(parts: Sequence[table.Part], *, width: str, metric: str, choose_by: str | None) -> Cells | None:
    """Arrange the gains of parts, one for each number of examples."""
    options: dict[str, Any] = {"width": width, "metric": metric, "choose_by": choose_by}
    every, kept = [], []
    for part, shared in zip(parts, trend.weights_of_parts(parts, **options), strict=True):
        arranged = widths.by_width(part.runs, **options)
        scores = trend.scores(arranged, weights=shared)
        if scores.num_params:
            onsets = interpolation.onset_of_seeds(arranged, part.runs, width=width)
            every.append((int(part.values[EXAMPLES]), scores, _within(onsets, arranged)))
            kept.append([one for one in arranged if one.num_params in scores.num_params])
    seeds = sorted(set.intersection(*(set(scores.seeds) for _, scores, _ in every))) if every else []
    if len(every) < 2 or not seeds:
        return None
    gains = [scores.gains[:, [scores.seeds.index(seed) for seed in seeds]] for _, scores, _ in every]
    return Cells(
        sizes=np.concatenate([scores.num_params for _, scores, _ in every]).astype(float),
        examples=np.concatenate([[count] * len(scores.num_params) for count, scores, _ in every]),
        seeds=tuple(seeds),
        gains=np.concatenate(gains),
        pairs=np.array([_pairs(one, seeds) for group in kept for one in group]),
        weights=np.concatenate([scores.weights for _, scores, _ in every]),
        stretch=max(scores.stretch for _, scores, _ in every),
        onsets={count: onsets for count, _, onsets in every},
    )


def _pairs(one: widths.Width, seeds: Sequence[int]) -> np.ndarray:
    """Arrange the pair scores of a width by some of its seeds."""
    known, found = selection.pair_scores(one)
    rows = [known.index(seed) for seed in seeds]
    return found[np.ix_(rows, rows)]


def _within(onsets: Mapping[int, float], cells: Sequence[widths.Width]) -> dict[int, float]:
    """Count seeds that fit everywhere or nowhere with the first or last width; none are left where most do."""
    outside = sum(math.isinf(value) for value in onsets.values())
    if not onsets or 2 * outside >= len(onsets):
        return {}
    low, high = (math.log10(one.num_params) for one in (cells[0], cells[-1]))
    return {seed: min(max(value, low), high) for seed, value in onsets.items()}


def of_cells(cells: Cells) -> Scaling:
    """Compute `scaling` for gains that are arranged already."""
    known = [name for name in MEASURES if measure(cells, name) is not None]
    num_seeds = len(cells.seeds)
    whole = {name: _variance(cells, name, range(num_seeds)) for name in known}
    without = {
        name: np.array(
            [_variance(cells, name, [k for k in range(num_seeds) if k != seed]) for seed in range(num_seeds)]
        )
        for name in known
    }
    alone = _variance(cells, None, range(num_seeds))
    pairs = [(a, b) for place, b in enumerate(known) for a in known[:place]]
    return Scaling(
        variances={name: _jackknife(whole[name], without[name], alone, cells.stretch) for name in known},
        differences={
            (a, b): _jackknife(whole[a] - whole[b], without[a] - without[b], alone, cells.stretch) for a, b in pairs
        },
        cells=cells,
    )


def measure(cells: Cells, name: str, rows: Sequence[int] | None = None) -> np.ndarray | None:
    """Compute log10 of a measure of size of each cell; None where the base's interpolation is not known.

    Args:
      rows: the seeds, by index, that say where the base fits; None is all.
    """
    logs = np.log10(cells.sizes)
    if name == PARAMETERS:
        return logs
    if name == PER_EXAMPLE:
        return logs - np.log10(cells.examples)
    kept = {cells.seeds[row] for row in (range(len(cells.seeds)) if rows is None else rows)}
    means = {count: [value for seed, value in onsets.items() if seed in kept] for count, onsets in cells.onsets.items()}
    if not all(means.values()):
        return None
    return logs - np.array([np.mean(means[count]) for count in cells.examples])


def _variance(cells: Cells, name: str | None, rows: Sequence[int]) -> float:
    """Compute the variance about the curve against a measure, or about the mean for None, from some of the seeds."""
    if len(rows) < 2:
        return math.nan
    count = 1 if name is None else _COEFFICIENTS
    at = np.zeros(len(cells.sizes)) if name is None else measure(cells, name, rows)
    if at is None or len(np.unique(np.round(at, 9))) < count or len(at) <= count:
        return math.nan
    basis = np.vander(at - at.mean(), count)
    roots = np.sqrt(cells.weights / cells.weights.max())
    outside, _ = np.linalg.qr(roots[:, None] * basis)
    num_seeds = len(rows)
    scaled = (roots[:, None, None] * cells.pairs[:, rows][:, :, rows]).reshape(len(roots), -1)
    left = (scaled - outside @ (outside.T @ scaled)).reshape(len(roots), num_seeds, num_seeds)
    products = np.einsum("cij,cji->", left, left) - np.einsum("cii,cii->", left, left)
    trace = np.sum(roots**2) - np.sum((roots[:, None] * outside) ** 2)
    return float(products / (num_seeds * (num_seeds - 1)) / trace)


def _jackknife(whole: float, without: np.ndarray, alone: float, stretch: float) -> Variance:
    num_seeds = len(without)
    share = whole / alone if alone > 0 else math.nan
    if num_seeds < 3:
        return Variance(value=whole, share=share)
    reach = stretch * selection.student(num_seeds) * math.sqrt(num_seeds - 1) * float(np.std(without))
    return Variance(value=whole, low=whole - reach, high=whole + reach, share=share)


def of_runs(
    runs: "pd.DataFrame", *, width: str, metric: str, choose_by: str | None
) -> Iterator[tuple[dict[str, Any], "pd.DataFrame", Scaling]]:
    """Yield what is fixed, the runs and the comparison for each setting that has several numbers of examples."""
    import pandas as pd

    for domain in domains.domains(fields.narrow(runs, width=width)):
        for axis, front, parts in questions.axes(domain, width=width):
            cells = None
            if axis == EXAMPLES:
                cells = arrange(parts, width=width, metric=metric, choose_by=choose_by)
            if cells is not None:
                yield front, pd.concat([part.runs for part in parts]), of_cells(cells)


def sentence(found: Scaling, units: wording.Units, base: str) -> str:
    """Say how near to one curve the gains lie against each measure, and which is nearest; empty below three seeds."""
    known = {name: one for name, one in found.variances.items() if math.isfinite(one.low)}
    if len(known) < 2:
        return ""
    square = units.factor**2
    unit = f" {units.unit}²" if units.unit else ""

    def amount(one: Variance) -> str:
        value, low, high = (max(square * end, 0) for end in (one.value, one.low, one.high))
        return f"{value:.3g}{unit} (95 % interval {low:.3g} to {high:.3g})"

    words = {name: text.format(base=base) for name, text in _WORDS.items()}
    counts = ", ".join(f"{count:,}" for count in dict.fromkeys(found.cells.examples.tolist()))
    listed = "; ".join(f"against {words[name]} {amount(one)}" for name, one in known.items())
    text = f"The true gains of {counts} training examples lie about one curve with a variance, {listed}"
    if OVER_INTERPOLATION not in known:
        text += f"; from where on {base} fits its labels is not known for each number of examples"
    return f"{text}: {_nearest(found, known, words)}; {len(found.cells.seeds)} seeds."


def nearest(found: Scaling) -> str | None:
    """Name the measure against which the gains are one curve as far as the seeds tell, and are against no other."""
    known = {name: one for name, one in found.variances.items() if math.isfinite(one.low)}
    if len(known) < 2:
        return None
    least, larger = _least(found, known)
    is_alone = len(larger) == len(known) - 1 and all(known[name].low > 0 for name in larger)
    return least if is_alone and known[least].low <= 0 else None


def _least(found: Scaling, known: Mapping[str, Variance]) -> tuple[str, list[str]]:
    """Find the measure of the least variance, and the others whose variance is larger by the interval."""
    least = min(known, key=lambda name: known[name].value)

    def is_larger(other: str) -> bool:
        if (least, other) in found.differences:
            return found.differences[least, other].high < 0
        return found.differences[other, least].low > 0

    return least, [name for name in known if name != least and is_larger(name)]


def _nearest(found: Scaling, known: Mapping[str, Variance], words: Mapping[str, str]) -> str:
    """Say which measure makes one curve, as far as the intervals tell."""
    if (name := nearest(found)) is not None:
        return f"as far as the seeds tell they are one curve against {words[name]}, and only against that"
    least, larger = _least(found, known)
    apart = [name for name, one in known.items() if one.low > 0]
    text = "which of these makes one curve the seeds cannot tell"
    if len(apart) == len(known):
        text = "they are one curve against none of these"
    elif apart:
        text = f"they are not one curve against {' nor against '.join(words[name] for name in apart)}"
    if larger:
        text += f", and nearer to one against {words[least]} than against {' and '.join(words[one] for one in larger)}"
    return text
