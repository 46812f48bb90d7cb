"""Measurements of the minima of SAM and of its base optimizer, compared in pairs of the same seed.

A quantity that is always positive, such as the top eigenvalue of the Hessian, is compared by its ratio SAM / base, with
geometric means and the interval of the mean logarithm. Others, such as a margin, are compared by their difference
SAM - base. The rho of SAM is chosen by the metric, not by the measurement.
"""

import math
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np

from flatwide import catalogue, registry
from flatwide.analysis import estimates, fields, quantities, table
from flatwide.analysis.estimates import Estimate
from flatwide.analysis.widths import Width
from flatwide.catalogue.entries import Quantity

RATIO, DIFFERENCE = "ratio", "difference"


class Measured(NamedTuple):
    """A quantity at one width.

    width: its runs. values: shaped like `width.values`, [seeds, 1 + rhos]; column 0 is the base, and NaN means that
    nothing was measured.
    """

    width: Width
    values: np.ndarray

    @property
    def pairs(self) -> dict[int, tuple[float, float]]:
        """Map each seed that has both runs to its values of the base, and of SAM at the best rho of the width."""
        if self.width.best is None:
            return {}
        both = self.values[:, [0, 1 + self.width.best]]
        seeds = zip(self.width.seeds, both, strict=True)
        return {seed: (float(base), float(sam)) for seed, (base, sam) in seeds if np.isfinite(base + sam)}


class Means(NamedTuple):
    """A quantity of the base and of SAM, and their comparison; NaN without seeds, and the interval below two seeds.

    comparison: "ratio" (SAM / base, geometric means) or "difference" (SAM - base).
    """

    base: float = math.nan
    sam: float = math.nan
    comparison: str = DIFFERENCE
    effect: float = math.nan
    low: float = math.nan
    high: float = math.nan
    num_seeds: int = 0


class Ends(NamedTuple):
    """A value with its 95 % interval over seeds, NaN where unknown, and how many seeds and widths have it."""

    value: float = math.nan
    low: float = math.nan
    high: float = math.nan
    num_seeds: int = 0
    num_widths: int = 1


@table.Rows
@table.for_part
def by_width(part: table.Part, quantity: str, *, keep_collapsed: bool = False) -> Iterable[dict[str, Any]]:
    """Compare a measured quantity of SAM with that of its base at every width.

    Args:
      quantity: its column, such as "curvature.top_eigenvalue".
      keep_collapsed: include the runs that are no better than chance. A network with the same output for every input is
        flat, but uninformative about the minima that SAM finds.
    Returns: one row for each width, the smallest first: the width, `num_params`, `best_rho`, and the fields of `Means`.
    Raises: as `gain.gain_by_width`, and ValueError if there is no such column.
    """
    if quantity not in part.runs.columns:
        names = [each.name for each in quantities.measured(part.runs)]
        if not names:
            raise ValueError(
                f"measured quantity={quantity!r}: this table has no measurements; take some by "
                "`python main.py measure W --measurements=curvature`."
            )
        raise ValueError(registry.unknown("measured quantity", quantity, names))
    arranged = arrange(part, [quantity], keep_collapsed=keep_collapsed)[quantity]
    return rows(arranged, catalogue.quantity(quantity), name=part.question.width)


def arrange(part: table.Part, names: Iterable[str], *, keep_collapsed: bool = False) -> dict[str, list[Measured]]:
    """Arrange measured columns like the runs of each width, without the runs that are no better than chance."""
    names, name_of_width = list(names), part.question.width
    runs = {
        (row[name_of_width], fields.effective_rho(row), int(row["seed"])): row
        for row in reversed(fields.done(part.runs, [name_of_width, "seed", *names]))  # the first of repeats
        if row["seed"] is not None
    }
    measured_by_name: dict[str, list[Measured]] = {name: [] for name in names}
    for width in part.widths:
        rows = [[runs.get((width.value, rho, seed), {}) for rho in (0.0, *width.rhos)] for seed in width.seeds]
        for name in names:
            numbers = np.array([[row.get(name) for row in line] for line in rows], dtype=float)
            numbers = np.where(np.isfinite(numbers), numbers, np.nan).reshape(width.values.shape)
            if width.collapsed is not None and not keep_collapsed:
                numbers[width.collapsed] = np.nan
            measured_by_name[name].append(Measured(width, numbers))
    return measured_by_name


def compared_by(widths_measured: Iterable[Measured], quantity: Quantity) -> str:
    """Return how a quantity is compared: by its ratio if all of its values are positive, else by its difference."""
    values = np.concatenate(
        [measured.values[np.isfinite(measured.values)] for measured in widths_measured] or [np.empty(0)]
    )
    return RATIO if len(values) and values.min() > 0 and not quantity.is_signed else DIFFERENCE


def mean(values: Sequence[float] | np.ndarray, *, comparison: str) -> Ends:
    """Compute a mean over seeds and its 95 % t interval; for ratios the geometric mean, from their logarithms."""
    return _ends(estimates.mean(values if comparison == DIFFERENCE else np.log(values)), comparison)


def _ends(estimate: Estimate, comparison: str) -> Ends:
    """Return an estimate and its ends; for ratios, whose estimate is a logarithm, as factors."""
    numbers = (estimate.value, estimate.low, estimate.high)
    return Ends(*(numbers if comparison == DIFFERENCE else map(math.exp, numbers)), num_seeds=estimate.num_seeds)


def rows(widths_measured: Sequence[Measured], quantity: Quantity, *, name: str = "num_params") -> list[dict[str, Any]]:
    """Return the rows of `by_width` for a quantity that is already arranged; `name` is the column of the width."""
    comparison = compared_by(widths_measured, quantity)
    return [
        {name: measured.width.value, "num_params": measured.width.num_params, "best_rho": measured.width.best_rho}
        | means(measured, comparison=comparison)._asdict()
        for measured in widths_measured
    ]


def means(measured: Measured, *, comparison: str) -> Means:
    """Compare SAM with its base at one width, over the seeds that have both."""
    pairs = np.array(list(measured.pairs.values())).reshape(-1, 2)
    if not len(pairs):
        return Means(comparison=comparison)
    base, sam = (mean(pairs[:, column], comparison=comparison).value for column in (0, 1))
    effect = mean(_effects(pairs, comparison), comparison=comparison)
    return Means(
        base=base,
        sam=sam,
        comparison=comparison,
        effect=effect.value,
        low=effect.low,
        high=effect.high,
        num_seeds=len(pairs),
    )


def change(widths_measured: Sequence[Measured], *, comparison: str) -> Ends:
    """Fit the comparison against the logarithm of the number of parameters, for each seed that all widths have.

    Returns: the mean over seeds of their least-squares slopes, per tenfold increase in parameters; NaN below two widths
      or seeds. The slopes of a ratio are those of its logarithm, written as a factor.
    """
    pairs = {measured.width.num_params: measured.pairs for measured in widths_measured if measured.pairs}
    sizes, seeds = list(pairs), sorted(set.intersection(*map(set, pairs.values()))) if pairs else []
    if not estimates.span(sizes) or not seeds:
        return Ends(num_seeds=len(seeds), num_widths=len(sizes))
    effects = np.array(
        [_effects(np.array([at_width[seed] for seed in seeds]), comparison) for at_width in pairs.values()]
    )
    scores = estimates.plain(np.log(effects) if comparison == RATIO else effects, sizes, seeds)
    slope = estimates.contrast(scores, estimates.slope_weights(sizes))
    return _ends(slope, comparison)._replace(num_widths=len(sizes))


def correlation(widths_measured: Sequence[Measured]) -> Ends:
    """Compute Spearman's rank correlation of a quantity with the metric, within each width and seed over its rhos.

    It is positive where larger values accompany a better metric.

    Neither the width nor the initial weights can then be a common cause; rho can, since it varies.
    Returns: NaN without a seed that has three values of rho (including the base) at some width; below two seeds no
      interval. The correlation of a seed is the mean over its widths, so each seed counts once.
    """
    by_seed: dict[int, list[float]] = {}
    for measured in widths_measured:
        scores = measured.width.sign * measured.width.values
        for seed, numbers, score in zip(measured.width.seeds, measured.values, scores, strict=True):
            both = np.isfinite(numbers) & np.isfinite(score)
            value = _spearman(numbers[both], score[both]) if both.sum() >= 3 else math.nan
            if math.isfinite(value):
                by_seed.setdefault(seed, []).append(value)
    result = estimates.mean([float(np.mean(values)) for values in by_seed.values()])
    low, high = max(result.low, -1.0), min(result.high, 1.0)
    return Ends(value=result.value, low=low, high=high, num_seeds=len(by_seed))


def correlation_text(correlation: Ends) -> str:
    """Write a rank correlation and its interval."""
    if not math.isfinite(correlation.value):
        return "no rank correlation: fewer than three values of ρ"
    ends = f" ({correlation.low:+.2f} to {correlation.high:+.2f})" if math.isfinite(correlation.low) else ""
    return f"rank correlation {correlation.value:+.2f}{ends}"


def _effects(pairs: np.ndarray, comparison: str) -> np.ndarray:
    return pairs[:, 1] / pairs[:, 0] if comparison == RATIO else pairs[:, 1] - pairs[:, 0]


def _spearman(first: np.ndarray, second: np.ndarray) -> float:
    """Compute the rank correlation, with ties at their mean rank; NaN where all values of either are equal."""
    from scipy.stats import spearmanr  # takes a second to import

    if not (np.ptp(first) and np.ptp(second)):
        return math.nan  # without SciPy's warning
    result: Any = spearmanr(first, second)
    return float(result.statistic)
