"""What was measured on the minima of SAM and of its base optimizer, compared in pairs of one seed.

A quantity that is positive throughout, such as the top eigenvalue of the Hessian, is compared by its ratio SAM / base:
its means are geometric, and its interval is that of the mean logarithm. Others, such as a margin, are compared by their
difference SAM - base. SAM is at the rho that is chosen by the metric, not by what was measured.
"""

import math
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from flatwide import catalogue, registry
from flatwide.analysis import fields, intervals, quantities, trend, widths
from flatwide.catalogue.entries import Quantity

if TYPE_CHECKING:
    import pandas as pd

RATIO, DIFFERENCE = "ratio", "difference"


class Measured(NamedTuple):
    """A quantity at one width.

    cell: the runs of the width. values: shaped like `cell.values`, [seeds, 1 + rhos]; column 0 is the base, and NaN
    stands where nothing was measured.
    """

    cell: widths.Width
    values: np.ndarray

    @property
    def pairs(self) -> dict[int, tuple[float, float]]:
        """Map each seed that has both to its values of the base, and of SAM at the width's best rho."""
        if self.cell.best is None:
            return {}
        both = self.values[:, [0, 1 + self.cell.best]]
        seeds = zip(self.cell.seeds, both, strict=True)
        return {seed: (float(base), float(sam)) for seed, (base, sam) in seeds if np.isfinite(base + sam)}


class Means(NamedTuple):
    """A quantity of the base and of SAM, and how the two compare; NaN where there is no seed, and below two of them.

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
    """How the comparison of SAM with its base changes as the number of parameters grows tenfold.

    slope: a factor of the ratio, or what the difference grows by. low, high: its 95 % t interval.
    """

    slope: float
    low: float
    high: float
    num_seeds: int
    num_widths: int


class Correlation(NamedTuple):
    """Spearman's rank correlation of a quantity with the metric, both of the runs of one width and seed.

    Positive where larger values go with a better metric. low, high: the 95 % t interval of the mean over seeds.
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
            return "no rank correlation: fewer than three ρ"
        ends = f" ({self.low:+.2f} to {self.high:+.2f})" if math.isfinite(self.low) else ""
        return f"rank correlation {self.mean:+.2f}{ends}"


def by_width(
    runs: "pd.DataFrame",
    quantity: str,
    *,
    width: str = "num_params",
    metric: str = "test_metric",
    choose_by: str | None = None,
    keep_collapsed: bool = False,
) -> "pd.DataFrame":
    """Compare a measured quantity of SAM with that of its base at every width.

    Args:
      runs, width, metric, choose_by: as for `gain.gain_by_width`.
      quantity: its column, such as "curvature.top_eigenvalue".
      keep_collapsed: count the runs that are no better than chance too. A network that says the same of every input is
        flat, and says nothing of the minima that SAM finds.
    Returns: one row a width, the smallest first: the width, `num_params`, `best_rho`, and the fields of `Means`.
    Raises: as `gain.gain_by_width`, and ValueError if there is no such column.
    """
    import pandas as pd

    if quantity not in runs.columns:
        known = [one.name for one in quantities.measured(runs)]
        raise ValueError(registry.unknown("measured quantity", quantity, known))
    cells = widths.by_width(runs, width=width, metric=metric, choose_by=choose_by)
    found = arrange(runs, cells, [quantity], width=width, keep_collapsed=keep_collapsed)[quantity]
    return pd.DataFrame(of_widths(found, catalogue.quantity(quantity), width=width))


def arrange(
    runs: "pd.DataFrame",
    cells: Sequence[widths.Width],
    names: Iterable[str],
    *,
    width: str = "num_params",
    keep_collapsed: bool = False,
) -> dict[str, list[Measured]]:
    """Arrange measured columns as the runs of each width are, without the runs that are no better than chance."""
    names = list(names)
    places = {
        (row[width], fields.effective_rho(row), int(row["seed"])): row
        for row in reversed(fields.done(runs, [width, "seed", *names]))  # of repeats the first, as elsewhere
        if row["seed"] is not None
    }
    found: dict[str, list[Measured]] = {name: [] for name in names}
    for cell in cells:
        rows = [[places.get((cell.value, rho, seed), {}) for rho in (0.0, *cell.rhos)] for seed in cell.seeds]
        for name in names:
            values = [[_number(row.get(name)) for row in line] for line in rows]
            table = np.array(values, dtype=float).reshape(cell.values.shape)
            if cell.collapsed is not None and not keep_collapsed:
                table[cell.collapsed] = np.nan
            found[name].append(Measured(cell, table))
    return found


def compared_by(found: Iterable[Measured], quantity: Quantity) -> str:
    """Tell how a quantity is compared: by its ratio where all of its values are positive, else by its difference."""
    values = np.concatenate([one.values[np.isfinite(one.values)] for one in found] or [np.empty(0)])
    return RATIO if len(values) and values.min() > 0 and not quantity.is_signed else DIFFERENCE


def mean(values: Sequence[float] | np.ndarray, *, comparison: str) -> intervals.Mean:
    """Compute a mean over seeds and its 95 % t interval; of ratios the geometric mean, from their logarithms.

    Returns: the standard error is that of the logarithms, for ratios.
    """
    if comparison == DIFFERENCE:
        return intervals.mean(values)
    found = intervals.mean(np.log(values))
    return intervals.Mean(math.exp(found.mean), found.standard_error, math.exp(found.low), math.exp(found.high))


def of_widths(found: Sequence[Measured], quantity: Quantity, *, width: str) -> list[dict[str, Any]]:
    """Give the rows of `by_width` for runs that are arranged already."""
    comparison = compared_by(found, quantity)
    return [
        {width: one.cell.value, "num_params": one.cell.num_params, "best_rho": one.cell.best_rho}
        | means(one, comparison=comparison)._asdict()
        for one in found
    ]


def means(one: Measured, *, comparison: str) -> Means:
    """Compare SAM with its base at one width, over the seeds that have both."""
    pairs = np.array(list(one.pairs.values())).reshape(-1, 2)
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
    base, sam = (mean(pairs[:, column], comparison=comparison).mean for column in (0, 1))
    effect = mean(_effects(pairs, comparison), comparison=comparison)
    return Means(
        base=base,
        sam=sam,
        comparison=comparison,
        effect=effect.mean,
        low=effect.low,
        high=effect.high,
        num_seeds=len(pairs),
    )


def change(found: Sequence[Measured], *, comparison: str) -> Change:
    """Fit the comparison against the logarithm of the number of parameters, for each seed that all widths have.

    Returns: the mean over seeds of their least-squares slopes with its t interval; NaN below two widths or seeds. The
      slopes of a ratio are those of its logarithm, and given as a factor.
    """
    having = [one for one in found if one.pairs]
    seeds = sorted(set.intersection(*(set(one.pairs) for one in having))) if having else []
    if len({one.cell.num_params for one in having}) < 2 or not seeds:
        return Change(slope=math.nan, low=math.nan, high=math.nan, num_seeds=len(seeds), num_widths=len(having))
    table = np.array([_effects(np.array([one.pairs[seed] for seed in seeds]), comparison) for one in having])
    weights = trend.slope_weights([one.cell.num_params for one in having])
    if comparison == RATIO:
        slope = mean(np.exp(weights @ np.log(table)), comparison=RATIO)
    else:
        slope = mean(weights @ table, comparison=DIFFERENCE)
    return Change(slope=slope.mean, low=slope.low, high=slope.high, num_seeds=len(seeds), num_widths=len(having))


def correlation(found: Sequence[Measured]) -> Correlation:
    """Compute how the order of a quantity agrees with that of the metric, within each width and seed over its rhos.

    So neither the width nor the initial weights can be the cause of both; rho can, for it differs along the way.
    Returns: NaN without a seed that has three rhos (the base among them) at some width; below two seeds no interval. A
      seed's correlation is the mean over its widths, so each seed counts once.
    """
    by_seed: dict[int, list[float]] = {}
    used = set()
    for one in found:
        scores = one.cell.sign * one.cell.values
        for seed, mine, score in zip(one.cell.seeds, one.values, scores, strict=True):
            both = np.isfinite(mine) & np.isfinite(score)
            value = _spearman(mine[both], score[both]) if both.sum() >= 3 else math.nan
            if math.isfinite(value):
                by_seed.setdefault(seed, []).append(value)
                used.add(one.cell.num_params)
    result = intervals.mean([float(np.mean(values)) for values in by_seed.values()])
    return Correlation(
        mean=result.mean,
        low=max(result.low, -1.0),
        high=min(result.high, 1.0),
        num_seeds=len(by_seed),
        num_widths=len(used),
    )


def sentence(found: Sequence[Measured], quantity: Quantity, *, base: str = "the base") -> str:
    """Say what SAM does to a quantity at the largest width, and whether that changes with width; empty without a pair.

    Args:
      found: one a width, the smallest first.
      base: name of the base optimizer.
    """
    having = [one for one in found if one.pairs]
    if not having:
        return ""
    comparison = compared_by(found, quantity)
    last, at = means(having[-1], comparison=comparison), having[-1].cell
    seeds = "one seed, which has no interval" if last.num_seeds == 1 else f"{last.num_seeds} seeds"
    unit = f" {quantity.unit}" if quantity.unit else ""
    text = (
        f"At {at.num_params:,} parameters the {quantity.title} is {last.base:.3g}{unit} for {base} and {last.sam:.3g} "
        f"for SAM at ρ = {at.best_rho:g} ({_effect(last, base)}, {seeds})."
    )
    moved = change(found, comparison=comparison)
    if moved.num_widths < 2 or not math.isfinite(moved.slope):
        return text
    neutral = 1.0 if comparison == RATIO else 0.0
    verdict = "shows no clear change with width"
    if moved.low > neutral or moved.high < neutral:
        seems = "seems to " if moved.num_seeds < 3 or moved.num_widths < 3 else ""
        verb = "rise" if moved.low > neutral else "fall"
        verdict = f"{seems}{verb}{'' if seems else 's'} with width"
    sign = "×" if comparison == RATIO else ""
    number = "{:.3g}" if comparison == RATIO else "{:+.3g}"
    reach = f", 95 % interval {sign}{number.format(moved.low)} to {sign}{number.format(moved.high)}"
    reach += f", {moved.num_seeds} seeds"
    reach = reach if math.isfinite(moved.low) else ""
    rate = f"{sign}{number.format(moved.slope)} for ten times the parameters{reach}"
    radii = sorted({one.cell.best_rho for one in having})
    # A radius that grows with width flattens by itself: the reader must not take that for width's doing.
    differs = f", with a ρ from {radii[0]:g} to {radii[-1]:g}" if len(radii) > 1 else ""
    return f"{text} The {comparison} {verdict} ({rate}, {moved.num_widths} widths{differs})."


def axes_sentence(found: Sequence[Measured], quantity: Quantity, *, base: str = "the base") -> str:
    """Say how a quantity of the base alone changes with width, and how it changes along rho at the largest width.

    It is said to rise or fall where the intervals of the slope and of the last value less the first both say so. Along
    rho every value counts, the base being rho 0, so nothing was chosen. Empty where there are fewer than two seeds, two
    widths and three rhos.
    """
    is_log = compared_by(found, quantity) == RATIO
    texts = []
    with np.errstate(divide="ignore", invalid="ignore"):
        tables = [np.log(one.values) if is_log else one.values for one in found]
    by_seed = [dict(zip(one.cell.seeds, table[:, 0], strict=True)) for one, table in zip(found, tables, strict=True)]
    kept = [
        (one.cell.num_params, own)
        for one, own in zip(found, by_seed, strict=True)
        if np.isfinite([*own.values()]).any()
    ]
    seeds = (
        [seed for seed in found[0].cell.seeds if all(np.isfinite(own.get(seed, math.nan)) for _, own in kept)]
        if kept
        else []
    )
    if len({size for size, _ in kept}) > 1 and len(seeds) > 1:
        values = np.array([[own[seed] for seed in seeds] for _, own in kept])
        weights = trend.slope_weights([size for size, _ in kept])
        text = _line(weights @ values, values, is_log=is_log, unit="for ten times the parameters")
        texts.append(f"For {base} alone the {quantity.title} {text.replace(' along it', ' with width')}.")
    last = found[-1] if found else None
    if last is not None and len(last.cell.rhos) > 1:
        whole = tables[-1][np.isfinite(tables[-1]).all(axis=1)]
        places = np.array([0.0, *last.cell.rhos])
        if len(whole) > 1:
            centered = places - places.mean()
            slopes = 0.1 * whole @ centered / (centered @ centered)
            text = _line(slopes, whole.T, is_log=is_log, unit="for 0.1 more ρ")
            at = f"at {last.cell.num_params:,} parameters, {base} being ρ = 0"
            texts.append(f"Along ρ ({places[0]:g} to {places[-1]:g}, {at}) it {text.replace(' along it', '')}.")
    return " ".join(texts)


def _line(slopes: np.ndarray, values: np.ndarray, *, is_log: bool, unit: str) -> str:
    """Write whether values rise or fall along an axis, and the slope with its interval.

    Args:
      slopes: [seeds]. values: [places, seeds].
    """
    slope, rise = intervals.mean(slopes), intervals.mean(values[-1] - values[0])
    verb = "shows no clear change along it"
    if min(slope.low, rise.low) > 0:
        verb = "rises along it"
    elif max(slope.high, rise.high) < 0:
        verb = "falls along it"

    def numbers(one: intervals.Mean) -> tuple[str, str]:
        mean, low, high = (
            f"×{math.exp(end):.3g}" if is_log else f"{end:+.3g}" for end in (one.mean, one.low, one.high)
        )
        return mean, f"95 % interval {low} to {high}"

    (mean, ends), (last, last_ends) = numbers(slope), numbers(rise)
    return f"{verb} ({mean} {unit}, {ends}; from the first to the last {last}, {last_ends}; {len(slopes)} seeds)"


def _effect(found: Means, base: str) -> str:
    if found.comparison == RATIO:
        words, ends = f"ratio {found.effect:.3g}", f"{found.low:.3g} to {found.high:.3g}"
    else:
        words, ends = f"SAM − {base} {found.effect:+.3g}", f"{found.low:+.3g} to {found.high:+.3g}"
    return words + (f", 95 % interval {ends}" if math.isfinite(found.low) else "")


def _effects(pairs: np.ndarray, comparison: str) -> np.ndarray:
    return pairs[:, 1] / pairs[:, 0] if comparison == RATIO else pairs[:, 1] - pairs[:, 0]


def _spearman(first: np.ndarray, second: np.ndarray) -> float:
    """Correlate ranks, equal values at the mean of their ranks; NaN where all values of one are equal."""
    from scipy.stats import spearmanr  # takes a second to import

    if not (np.ptp(first) and np.ptp(second)):
        return math.nan  # and no warning of SciPy's
    result: Any = spearmanr(first, second)
    return float(result.statistic)


def _number(value: Any) -> float:
    return math.nan if value is None or not math.isfinite(value) else float(value)
