"""The trend of any column along any axis, and its interaction with another: slopes with intervals."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from flatwide import catalogue, registry
from flatwide.analysis import arms, estimates, fields, measured, widths
from flatwide.analysis.estimates import Estimate, Scores
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
      sizes, per tenfold increase, with the interval of `estimates.contrast`; along rho, where
      the runs of a seed share their base, the t interval of their slopes.
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
    levels = [] if interaction is None else _values(table, interaction)
    of_levels = [table] if interaction is None else [table[table[interaction] == level] for level in levels]
    points = [_points(runs, quantity, along, **options) for runs in of_levels]
    # Slopes over different values would differ because a curve bends, not because of the level.
    values = [value for value in (points[0] if points else {}) if all(value in others for others in points)]
    every = [by_value[value] for by_value in points for value in values]
    estimate = Estimate()
    if len(values) > 1 and (interaction is None or len(levels) > 1):
        seeds = sorted(set.intersection(*(set(scores.seeds) for scores in every)))
        together = estimates.joined(every, seeds)
        lines = [_line(levels, interaction) if interaction is not None else np.ones(1), _line(values, along)]
        weights = np.outer(*lines).ravel()
        if along == "rho":
            estimate = estimates.mean(weights @ together.values)
        else:
            estimate = estimates.contrast(together, weights)
    return Along(
        slope=estimate.value,
        standard_error=estimate.error,
        low=estimate.low,
        high=estimate.high,
        num_seeds=estimate.num_seeds,
        values=tuple(values),
        levels=tuple(levels),
        is_log=is_log,
        per_decade=is_size(along),
    )


def _line(values: Sequence[float], axis: str) -> np.ndarray:
    return estimates.slope_weights(values) if is_size(axis) else estimates.line_weights(np.array(values, dtype=float))


def _points(
    table: Any, quantity: str, along: str, *, arm: str, metric: str, choose_by: str | None, is_log: bool
) -> dict[float, Scores]:
    """Score the runs of one level of the other axis at each value of the axis."""
    if along == "rho":
        cell = _cell(table, "all runs", metric, choose_by)
        numbers = _numbers(table, cell, quantity, is_log)
        points = {}
        for value, column in zip((0.0, *cell.rhos), numbers.T, strict=True):
            have = np.isfinite(column)
            if have.any():
                seeds = [seed for seed, has in zip(cell.seeds, have, strict=True) if has]
                points[value] = estimates.plain(column[have][None], [cell.num_params], seeds)
        return points
    read = (along, "rho", "optimizer", "sparsity")  # converting all columns of a wide table to rows is slow
    # Base runs that do not read the field belong to every value of it.
    serving = np.array([fields.ignores(row, along) for row in fields.records(table, read)])
    if missing := int((table[along].isna() & ~serving).sum()):
        raise ValueError(
            f"along={along!r}: {missing} runs have no value there (None may mean all). Write the number it means into "
            "the table, or select the other runs."
        )
    points = {}
    for value in _values(table[~serving], along):
        here = table[(table[along] == value) | serving]
        cell = _cell(here, f"{along}={value:g}", metric, choose_by)
        scores = _of_arm(cell, _numbers(here, cell, quantity, is_log), arm, is_metric=quantity == metric)
        points |= {value: scores} if scores.seeds else {}
    return points


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


def _of_arm(cell: widths.Width, numbers: np.ndarray, arm: str, *, is_metric: bool) -> Scores:
    """Score each seed; SAM at the rho that the other seeds choose."""
    if arm == BASE or not cell.candidates:
        have = np.isfinite(numbers[:, 0]) & (arm == BASE)
        seeds = [seed for seed, has in zip(cell.seeds, have, strict=True) if has]
        return estimates.plain(numbers[have, :1].T, [cell.num_params], seeds)
    compared = cell.compared(cell.candidates, numbers)
    if arm == SAM:
        return arms.scores([compared.of_sam_alone])
    return arms.scores([compared._replace(sign=cell.sign) if is_metric else compared])


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
