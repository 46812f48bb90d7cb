"""The trend of any column along any axis, and its interaction with another: slopes of each seed, with t intervals."""

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from flatwide import catalogue, registry
from flatwide.analysis import fields, intervals, measured, noise, selection, widths
from flatwide.columns import RESULT_FIELDS

if TYPE_CHECKING:
    import pandas as pd

BASE, SAM, GAIN, EVERY = "base", "sam", "gain", "every"
ARMS = (BASE, SAM, GAIN, EVERY)


class Along(NamedTuple):
    """A slope, or the difference of slopes; NaN below two values of an axis, and its interval below two seeds.

    slope: the mean over seeds, of the quantity or of its natural logarithm. low, high: its 95 % interval.
    is_log: whether the logarithm was fitted, because the quantity is a measurement and always positive; exp(slope) is
      then a factor.
    per_decade: whether the axis is one of sizes, whose logarithm to base 10 was used.
    values: of the axis; with an interaction those that every level has. levels: of the other axis; empty without one.
    """

    slope: float
    standard_error: float
    low: float
    high: float
    num_seeds: int
    values: tuple[float, ...]
    levels: tuple[float, ...]
    is_log: bool
    per_decade: bool


def trend(
    table: "pd.DataFrame",
    quantity: str,
    *,
    along: str,
    arm: str = GAIN,
    interaction: str | None = None,
    metric: str = "test_metric",
    choose_by: str | None = None,
) -> Along:
    """Fit a column against an axis, separately for each seed.

    Args:
      table: runs that differ in the axes named here, rho and seed, and in width where it varies with an axis.
      quantity: a numeric column: the metric or another result, or a measurement such as "moments.s_2".
      along: the axis: "num_params", "rho", or a config field such as "label_noise" or "sparsity".
      arm: "base"; "sam", each seed at the rho that the other seeds choose; "gain", SAM minus base, positive where SAM
        is better if the quantity is the metric; "every" for `along="rho"`, where each rho counts, including 0.
      interaction: another axis; the result is then the change of the slope along the first axis per unit of this one,
        over the values of the first that all levels have.
      metric, choose_by: the columns that rho is chosen by, as for `gain.gain_by_width`.
    Returns: the mean over seeds that have every value of their least-squares slopes, per unit of the axis or, along
      sizes, per tenfold increase, with its t interval, widened by `selection.stretch_of_scores` where rho was chosen.
    Raises: ValueError for an unknown column or arm, an arm that does not match the axis, or several networks or
      settings at one value of the axis.
    Cost: nothing is trained.
    """
    if arm not in ARMS:
        raise ValueError(registry.unknown("arm", arm, ARMS))
    if (arm == EVERY) != (along == "rho"):
        raise ValueError(f"arm={arm!r} along {along!r}: expected arm='every' along rho, and only along rho.")
    for name in (quantity, along, *([interaction] if interaction else [])):
        if name not in table.columns:
            raise ValueError(registry.unknown("column", name, table.columns))
    is_log = _is_log(table, quantity, metric)
    options: dict[str, Any] = {"arm": arm, "metric": metric, "choose_by": choose_by, "is_log": is_log}
    if interaction is None:
        levels: list[float] = []
        points, stretch = _points(table, quantity, along, **options)
        line, values = _fit(points, along), tuple(points)
    else:
        levels = _values(table, interaction)
        points_of_levels = [_points(table[table[interaction] == level], quantity, along, **options) for level in levels]
        stretch = max((points_of_level[1] for points_of_level in points_of_levels), default=1.0)
        # Slopes over different values would differ because a curve bends, not because of the level.
        values = (
            tuple(
                value
                for value in points_of_levels[0][0]
                if all(value in points_of_level[0] for points_of_level in points_of_levels)
            )
            if points_of_levels
            else ()
        )
        slopes = [
            _fit({value: points_of_level[0][value] for value in values}, along) for points_of_level in points_of_levels
        ]
        line = _fit(dict(zip(levels, slopes, strict=True)), interaction)
    mean = intervals.mean(list(line.values()), stretch=stretch)
    return Along(
        slope=mean.mean,
        standard_error=mean.standard_error,
        low=mean.low,
        high=mean.high,
        num_seeds=len(line),
        values=values,
        levels=tuple(levels),
        is_log=is_log,
        per_decade=is_size(along),
    )


def _points(
    table: Any, quantity: str, along: str, *, arm: str, metric: str, choose_by: str | None, is_log: bool
) -> tuple[dict[float, dict[int, float]], float]:
    """Arrange the numbers of one level of the other axis.

    Returns: value of the axis -> seed -> number, and the factor by which an interval must be wider.
    """
    stretch, points = 1.0, {}
    if along == "rho":
        cell = _cell(table, "all runs", metric, choose_by)
        numbers = _numbers(table, cell, quantity, is_log)
        for value, column in zip((0.0, *cell.rhos), numbers.T, strict=True):
            points[value] = {s: x for s, x in zip(cell.seeds, column, strict=True) if math.isfinite(x)}
        return {value: by_seed for value, by_seed in points.items() if by_seed}, stretch
    cells = []
    read = (along, "rho", "optimizer", "sparsity")  # converting all columns of a wide table to rows is slow
    # Base runs that do not read the field belong to every value of it.
    serving = np.array([fields.ignores(row, along) for row in fields.records(table, read)])
    if missing := int((table[along].isna() & ~serving).sum()):
        raise ValueError(
            f"along={along!r}: {missing} runs have no value there (None may mean all). Write the number it means into "
            "the table, or select the other runs."
        )
    for value in _values(table[~serving], along):
        here = table[(table[along] == value) | serving]
        cell = _cell(here, f"{along}={value:g}", metric, choose_by)
        points[value] = _of_arm(cell, _numbers(here, cell, quantity, is_log), arm, is_metric=quantity == metric)
        cells.append(cell)
    chosen = [cell for cell in cells if arm != BASE and len(cell.candidates) > 1]
    if chosen and (seeds := min(len(cell.complete().seeds) for cell in chosen)) > 1:
        most = max(len(cell.candidates) for cell in chosen)
        stretch = selection.stretch_of_scores(seeds, most, ratio=noise.ratio_of_widths(chosen))
    return points, stretch


def _cell(runs: Any, where: str, metric: str, choose_by: str | None) -> widths.Width:
    cells = widths.by_width(runs, metric=metric, choose_by=choose_by)
    if len(cells) != 1:
        sizes = ", ".join(f"{cell.num_params:,}" for cell in cells)
        raise ValueError(
            f"{where} has networks of {sizes} parameters: select one size, or an axis that distinguishes them."
        )
    return cells[0]


def _numbers(runs: Any, cell: widths.Width, quantity: str, is_log: bool) -> np.ndarray:
    """Return the quantity in the arrangement of a cell, [seeds, 1 + rhos]."""
    keep_collapsed = quantity in RESULT_FIELDS  # results of collapsed runs count; measurements of them do not
    (arranged,) = measured.arrange(runs, [cell], [quantity], keep_collapsed=keep_collapsed)[quantity]
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.log(arranged.values) if is_log else arranged.values


def _of_arm(cell: widths.Width, numbers: np.ndarray, arm: str, *, is_metric: bool) -> dict[int, float]:
    """Return the number of each seed; for SAM, at the rho that the other seeds choose."""
    if arm == BASE:
        numbers_of_arm = numbers[:, 0]
    else:
        at = [1 + column for column in cell.candidates]
        whole = np.isfinite(cell.choices[:, at]).all(axis=1) & np.isfinite(numbers[:, [0, *at]]).all(axis=1)
        numbers_of_arm = np.full(len(cell.seeds), math.nan)
        if whole.sum() > 1 and at:
            numbers_of_arm[whole] = selection.cross_fit(numbers[whole][:, at], cell.choices[whole][:, at])
        if arm == GAIN:
            numbers_of_arm = (cell.sign if is_metric else 1) * (numbers_of_arm - numbers[:, 0])
    return {seed: float(value) for seed, value in zip(cell.seeds, numbers_of_arm, strict=True) if math.isfinite(value)}


def _fit(points: Mapping[float, Mapping[int, float]], axis: str) -> dict[int, float]:
    """Fit a line to each seed that has every value of the axis."""
    if len(points) < 2:
        return {}
    positions = np.log10(list(points)) if is_size(axis) else np.array(list(points), dtype=float)
    centered = positions - positions.mean()
    seeds = sorted(set.intersection(*(set(by_seed) for by_seed in points.values())))
    return {
        seed: float(centered @ [by_seed[seed] for by_seed in points.values()] / (centered @ centered)) for seed in seeds
    }


def _values(table: Any, name: str) -> list[float]:
    """List the values of an axis among the completed runs."""
    axis_values = {row[name] for row in fields.done(table, [name])} - {None}
    if any(isinstance(value, str) for value in axis_values):
        raise ValueError(
            f"{name} holds {sorted(map(str, axis_values))}: expected a numeric axis; use num_params for sizes."
        )
    return sorted(float(value) for value in axis_values)


def _is_log(table: Any, quantity: str, metric: str) -> bool:
    """Whether a quantity is a measurement that is positive in every run, as in `measured.compared_by`."""
    if quantity == metric or quantity in RESULT_FIELDS or catalogue.quantity(quantity).is_signed:
        return False
    values = [row[quantity] for row in fields.done(table, [quantity]) if row[quantity] is not None]
    return bool(values) and min(values) > 0


def is_size(axis: str) -> bool:
    """Whether an axis is one of sizes, along which a slope is per tenfold increase."""
    return axis in ("num_params", "num_nonzero_params", "train_examples", *fields.SHAPES)
