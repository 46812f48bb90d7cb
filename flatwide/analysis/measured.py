"""Measurements of the minima of SAM and of its base optimizer, compared in pairs of the same seed.

A quantity that is always positive, such as the top eigenvalue of the Hessian, is compared by its ratio SAM / base, with
geometric means and the interval of the mean logarithm. Others, such as a margin, are compared by their difference
SAM - base. The rho of SAM is chosen by the metric, not by the measurement.
"""

import math
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from flatwide import catalogue, registry
from flatwide.analysis import estimates, fields, quantities, table
from flatwide.analysis.estimates import Estimate
from flatwide.analysis.widths import Width
from flatwide.catalogue.entries import Quantity

if TYPE_CHECKING:
    import pandas as pd

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

    base: float
    sam: float
    comparison: str
    effect: float
    low: float
    high: float
    num_seeds: int


class Change(NamedTuple):
    """The change of the comparison of SAM with its base per tenfold increase in parameters.

    slope: a factor of the ratio, or a change of the difference. low, high: its 95 % interval.
    """

    slope: float
    low: float
    high: float
    num_seeds: int
    num_widths: int


class Correlation(NamedTuple):
    """Spearman's rank correlation of a quantity with the metric, over the runs of one width and seed.

    Positive where larger values accompany a better metric. low, high: the 95 % t interval of the mean over seeds.
    """

    mean: float
    low: float
    high: float
    num_seeds: int
    num_widths: int

    @property
    def text(self) -> str:
        """Return the mean and its interval in words."""
        if not math.isfinite(self.mean):
            return "no rank correlation: fewer than three values of ρ"
        ends = f" ({self.low:+.2f} to {self.high:+.2f})" if math.isfinite(self.low) else ""
        return f"rank correlation {self.mean:+.2f}{ends}"


@table.for_part
def by_width(part: table.Part, quantity: str, *, keep_collapsed: bool = False) -> "pd.DataFrame":
    """Compare a measured quantity of SAM with that of its base at every width.

    Args:
      quantity: its column, such as "curvature.top_eigenvalue".
      keep_collapsed: include the runs that are no better than chance. A network with the same output for every input is
        flat, but uninformative about the minima that SAM finds.
    Returns: one row for each width, the smallest first: the width, `num_params`, `best_rho`, and the fields of `Means`.
    Raises: as `gain.gain_by_width`, and ValueError if there is no such column.
    """
    import pandas as pd

    if quantity not in part.runs.columns:
        names = [quantity_of_table.name for quantity_of_table in quantities.measured(part.runs)]
        if not names:
            raise ValueError(
                f"measured quantity={quantity!r}: this table has no measurements; take some by "
                "`python main.py measure W --measurements=curvature`."
            )
        raise ValueError(registry.unknown("measured quantity", quantity, names))
    arranged = arrange(part, [quantity], keep_collapsed=keep_collapsed)[quantity]
    return pd.DataFrame(rows(arranged, catalogue.quantity(quantity), name=part.question.width))


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
            values = [[_number(row.get(name)) for row in line] for line in rows]
            numbers = np.array(values, dtype=float).reshape(width.values.shape)
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


class Ends(NamedTuple):
    """A value and the two ends of its interval, in the units of a quantity or as a ratio."""

    value: float
    low: float
    high: float


def mean(values: Sequence[float] | np.ndarray, *, comparison: str) -> Ends:
    """Compute a mean over seeds and its 95 % t interval; for ratios the geometric mean, from their logarithms."""
    return ends(estimates.mean(values if comparison == DIFFERENCE else np.log(values)), comparison=comparison)


def ends(estimate: Estimate, *, comparison: str) -> Ends:
    """Return an estimate and its ends; for ratios, whose estimate is a logarithm, as factors."""
    numbers = (estimate.value, estimate.low, estimate.high)
    return Ends(*(numbers if comparison == DIFFERENCE else map(math.exp, numbers)))


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
        return Means(
            base=math.nan,
            sam=math.nan,
            comparison=comparison,
            effect=math.nan,
            low=math.nan,
            high=math.nan,
            num_seeds=0,
        )
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


def change(widths_measured: Sequence[Measured], *, comparison: str) -> Change:
    """Fit the comparison against the logarithm of the number of parameters, for each seed that all widths have.

    Returns: the mean over seeds of their least-squares slopes with its t interval; NaN below two widths or seeds. The
      slopes of a ratio are those of its logarithm, written as a factor.
    """
    with_pairs = [measured for measured in widths_measured if measured.pairs]
    seeds = sorted(set.intersection(*(set(measured.pairs) for measured in with_pairs))) if with_pairs else []
    if not estimates.span([measured.width.num_params for measured in with_pairs]) or not seeds:
        return Change(slope=math.nan, low=math.nan, high=math.nan, num_seeds=len(seeds), num_widths=len(with_pairs))
    effects = np.array(
        [_effects(np.array([measured.pairs[seed] for seed in seeds]), comparison) for measured in with_pairs]
    )
    sizes = [measured.width.num_params for measured in with_pairs]
    scores = estimates.plain(np.log(effects) if comparison == RATIO else effects, sizes, seeds)
    slope = ends(estimates.contrast(scores, estimates.slope_weights(sizes)), comparison=comparison)
    return Change(slope=slope.value, low=slope.low, high=slope.high, num_seeds=len(seeds), num_widths=len(with_pairs))


def correlation(widths_measured: Sequence[Measured]) -> Correlation:
    """Compute the rank correlation of a quantity with the metric, within each width and seed over its values of rho.

    Neither the width nor the initial weights can then be a common cause; rho can, since it varies.
    Returns: NaN without a seed that has three values of rho (including the base) at some width; below two seeds no
      interval. The correlation of a seed is the mean over its widths, so each seed counts once.
    """
    by_seed: dict[int, list[float]] = {}
    used = set()
    for measured in widths_measured:
        scores = measured.width.sign * measured.width.values
        for seed, numbers, score in zip(measured.width.seeds, measured.values, scores, strict=True):
            both = np.isfinite(numbers) & np.isfinite(score)
            value = _spearman(numbers[both], score[both]) if both.sum() >= 3 else math.nan
            if math.isfinite(value):
                by_seed.setdefault(seed, []).append(value)
                used.add(measured.width.num_params)
    result = estimates.mean([float(np.mean(values)) for values in by_seed.values()])
    return Correlation(
        mean=result.value,
        low=max(result.low, -1.0),
        high=min(result.high, 1.0),
        num_seeds=len(by_seed),
        num_widths=len(used),
    )


def sentence(widths_measured: Sequence[Measured], quantity: Quantity, *, base: str = "the base") -> str:
    """Write how SAM changes a quantity at the largest width, and whether that depends on width; empty without a pair.

    Args:
      widths_measured: one for each width, the smallest first.
      base: name of the base optimizer.
    """
    with_pairs = [measured for measured in widths_measured if measured.pairs]
    if not with_pairs:
        return ""
    comparison = compared_by(widths_measured, quantity)
    last, at = means(with_pairs[-1], comparison=comparison), with_pairs[-1].width
    seeds = "one seed, which has no interval" if last.num_seeds == 1 else f"{last.num_seeds} seeds"
    unit = f" {quantity.unit}" if quantity.unit else ""
    text = (
        f"At {at.num_params:,} parameters the {quantity.title} is {last.base:.3g}{unit} for {base} and {last.sam:.3g} "
        f"for SAM at ρ = {at.best_rho:g} ({_effect(last, base)}, {seeds})."
    )
    trend_with_width = change(widths_measured, comparison=comparison)
    if trend_with_width.num_widths < 2 or not math.isfinite(trend_with_width.slope):
        return text
    neutral = 1.0 if comparison == RATIO else 0.0
    verdict = "shows no clear change with width"
    if trend_with_width.low > neutral or trend_with_width.high < neutral:
        seems = "seems to " if trend_with_width.num_seeds < 3 or trend_with_width.num_widths < 3 else ""
        verb = "rise" if trend_with_width.low > neutral else "fall"
        verdict = f"{seems}{verb}{'' if seems else 's'} with width"
    sign = "×" if comparison == RATIO else ""
    number = "{:.3g}" if comparison == RATIO else "{:+.3g}"
    reach = (
        f", 95 % interval {sign}{number.format(trend_with_width.low)} to {sign}{number.format(trend_with_width.high)}"
    )
    reach += f", {trend_with_width.num_seeds} seeds"
    reach = reach if math.isfinite(trend_with_width.low) else ""
    rate = f"{sign}{number.format(trend_with_width.slope)} per tenfold increase in parameters{reach}"
    radii = sorted({measured.width.best_rho for measured in with_pairs})
    # A radius that grows with width flattens by itself: the reader must not attribute that to width.
    differs = f", with ρ from {radii[0]:g} to {radii[-1]:g}" if len(radii) > 1 else ""
    return f"{text} The {comparison} {verdict} ({rate}, {trend_with_width.num_widths} widths{differs})."


def axes_sentence(widths_measured: Sequence[Measured], quantity: Quantity, *, base: str = "the base") -> str:
    """Write how a quantity of the base alone changes with width, and how it changes along rho at the largest width.

    It rises or falls where the intervals of the slope and of the last value minus the first both show it. Along rho
    every value counts, the base being rho 0, so nothing was selected. Empty where there are fewer than two seeds, two
    widths and three values of rho.
    """
    is_log = compared_by(widths_measured, quantity) == RATIO
    texts = []
    with np.errstate(divide="ignore", invalid="ignore"):
        arrays = [np.log(measured.values) if is_log else measured.values for measured in widths_measured]
    by_seed = [
        dict(zip(measured.width.seeds, numbers[:, 0], strict=True))
        for measured, numbers in zip(widths_measured, arrays, strict=True)
    ]
    with_base = [
        (measured.width.num_params, by_seed_of_width)
        for measured, by_seed_of_width in zip(widths_measured, by_seed, strict=True)
        if np.isfinite([*by_seed_of_width.values()]).any()
    ]
    seeds = (
        [
            seed
            for seed in widths_measured[0].width.seeds
            if all(np.isfinite(by_seed_of_width.get(seed, math.nan)) for _, by_seed_of_width in with_base)
        ]
        if with_base
        else []
    )
    if estimates.span([size for size, _ in with_base]) and len(seeds) > 1:
        values = np.array([[by_seed_of_width[seed] for seed in seeds] for _, by_seed_of_width in with_base])
        weights = estimates.slope_weights([size for size, _ in with_base])
        text = _line(weights @ values, values, is_log=is_log, unit="per tenfold increase in parameters")
        texts.append(f"For {base} alone the {quantity.title} {text.replace(' along it', ' with width')}.")
    last = widths_measured[-1] if widths_measured else None
    if last is not None and len(last.width.rhos) > 1:
        whole = arrays[-1][np.isfinite(arrays[-1]).all(axis=1)]
        positions = np.array([0.0, *last.width.rhos])
        if len(whole) > 1:
            centered = positions - positions.mean()
            slopes = 0.1 * whole @ centered / (centered @ centered)
            text = _line(slopes, whole.T, is_log=is_log, unit="per increase of 0.1 in ρ")
            at = f"at {last.width.num_params:,} parameters, {base} being ρ = 0"
            texts.append(f"Along ρ ({positions[0]:g} to {positions[-1]:g}, {at}) it {text.replace(' along it', '')}.")
    return " ".join(texts)


def _line(slopes: np.ndarray, values: np.ndarray, *, is_log: bool, unit: str) -> str:
    """Write whether values rise or fall along an axis, and the slope with its interval.

    Args:
      slopes: [seeds]. values: [positions, seeds].
    """
    slope, rise = estimates.mean(slopes), estimates.mean(values[-1] - values[0])
    verb = "shows no clear change along it"
    if min(slope.low, rise.low) > 0:
        verb = "rises along it"
    elif max(slope.high, rise.high) < 0:
        verb = "falls along it"

    def numbers(estimate: Estimate) -> tuple[str, str]:
        mean, low, high = (
            f"×{math.exp(end):.3g}" if is_log else f"{end:+.3g}"
            for end in (estimate.value, estimate.low, estimate.high)
        )
        return mean, f"95 % interval {low} to {high}"

    (mean, ends), (last, last_ends) = numbers(slope), numbers(rise)
    return f"{verb} ({mean} {unit}, {ends}; from the first to the last {last}, {last_ends}; {len(slopes)} seeds)"


def _effect(compared: Means, base: str) -> str:
    if compared.comparison == RATIO:
        words, ends = f"ratio {compared.effect:.3g}", f"{compared.low:.3g} to {compared.high:.3g}"
    else:
        words, ends = f"SAM − {base} {compared.effect:+.3g}", f"{compared.low:+.3g} to {compared.high:+.3g}"
    return words + (f", 95 % interval {ends}" if math.isfinite(compared.low) else "")


def _effects(pairs: np.ndarray, comparison: str) -> np.ndarray:
    return pairs[:, 1] / pairs[:, 0] if comparison == RATIO else pairs[:, 1] - pairs[:, 0]


def _spearman(first: np.ndarray, second: np.ndarray) -> float:
    """Compute the rank correlation, with ties at their mean rank; NaN where all values of either are equal."""
    from scipy.stats import spearmanr  # takes a second to import

    if not (np.ptp(first) and np.ptp(second)):
        return math.nan  # without SciPy's warning
    result: Any = spearmanr(first, second)
    return float(result.statistic)


def _number(value: Any) -> float:
    return math.nan if value is None or not math.isfinite(value) else float(value)
