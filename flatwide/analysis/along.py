"""The trend of any column along any axis, and its interaction with another: slopes with intervals."""

import dataclasses
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from flatwide import catalogue, registry
from flatwide.analysis import arms, estimates, fields, measured, table
from flatwide.analysis.estimates import Estimate, Scores
from flatwide.analysis.widths import Width
from flatwide.columns import RESULT_FIELDS

BASE, SAM, GAIN, EVERY = "base", "sam", "gain", "every"
ARMS = (BASE, SAM, GAIN, EVERY)


class Along(NamedTuple):
    """A slope, or the difference of slopes, along an axis.

    slope: of the quantity or of its natural logarithm; NaN below two values of an axis.
    values: of the axis; with an interaction those that every level has. levels: of the other axis; empty without one.
    is_log: whether the logarithm was fitted, because the quantity is a measurement and always positive; exp(slope) is
      then a factor.
    """

    slope: Estimate
    values: tuple[float, ...]
    levels: tuple[float, ...]
    is_log: bool


def trend(
    runs: fields.Frame,
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
      runs: runs that differ in the axes named here, rho and seed, and in width where it varies with an axis.
      quantity: a numeric column: the metric or another result, or a measurement such as "moments.s_2".
      along: the axis: "num_params", "rho", or a config field such as "label_noise" or "sparsity".
      arm: "base"; "sam", each seed at the rho that the other seeds choose; "gain", SAM minus base, positive where SAM
        is better if the quantity is the metric; "every" for `along="rho"`, where each rho counts, including 0.
      interaction: another axis; the result is then the change of the slope along the first axis per unit of this one,
        over the values of the first that all levels have.
      metric, choose_by: the columns that rho is chosen by, as for `gain.gain_by_width`.
    Returns: the mean over seeds that have every value of their least-squares slopes, per unit of the axis or, along
      sizes, per tenfold increase, with the interval of `estimates.contrast`; along rho the t interval of the slopes.
    Raises: ValueError for an unknown column, another arm, or several networks or settings at one value of the axis.
    """
    if arm not in ARMS:
        raise ValueError(registry.unknown("arm", arm, ARMS))
    if (arm == EVERY) != (along == "rho"):
        raise ValueError(f"arm={arm!r} along {along!r}: expected arm='every' along rho, and only along rho.")
    for name in (quantity, along, *([interaction] if interaction else [])):
        if name not in runs.columns:
            raise ValueError(registry.unknown("column", name, runs.columns))
    is_log = _is_log(runs, quantity, metric)
    options: dict[str, Any] = {"arm": arm, "metric": metric, "choose_by": choose_by, "is_log": is_log}
    levels = [] if interaction is None else _values(runs, interaction)
    runs_by_level = [runs] if interaction is None else [runs[runs[interaction] == level] for level in levels]
    points = [_points(each, quantity, along, **options) for each in runs_by_level]
    # Slopes over different values would differ because a curve bends, not because of the level.
    values = [value for value in (points[0] if points else {}) if all(value in others for others in points)]
    slope = Estimate()
    if len(values) > 1 and (interaction is None or len(levels) > 1):
        together = estimates.joined([by_value[value] for by_value in points for value in values])
        lines = [_line(levels, interaction) if interaction is not None else np.ones(1), _line(values, along)]
        weights = np.outer(*lines).ravel()
        # Along rho the runs of a seed share their base.
        is_shared = along == "rho"
        slope = estimates.mean(weights @ together.values) if is_shared else estimates.contrast(together, weights)
    return Along(slope=slope, values=tuple(values), levels=tuple(levels), is_log=is_log)


def _line(values: Sequence[float], axis: str) -> np.ndarray:
    return estimates.slope_weights(values) if is_size(axis) else estimates.line_weights(np.array(values, dtype=float))


def _points(
    runs: Any, quantity: str, along: str, *, arm: str, metric: str, choose_by: str | None, is_log: bool
) -> dict[float, Scores]:
    """Score the runs of one level of the other axis at each value of the axis."""
    if along == "rho":
        part = _only_width(runs, "all runs", metric, choose_by)
        (width,) = part.widths
        columns = zip((0.0, *width.rhos), _numbers(part, quantity, is_log).T, strict=True)
        points = {value: _plain(width, column, np.isfinite(column)) for value, column in columns}
        return {value: scores for value, scores in points.items() if scores.seeds}
    read = (along, "rho", "optimizer", "sparsity")  # converting all columns of a wide table to rows is slow
    # Base runs that do not read the field belong to every value of it.
    shared = np.array([fields.ignores(row, along) for row in fields.records(runs, read)])
    if missing := int((runs[along].isna() & ~shared).sum()):
        raise ValueError(
            f"along={along!r}: {missing} runs have no value there (None may mean all). Write the number it means into "
            "the runs, or select the other runs."
        )
    points = {}
    for value in _values(runs[~shared], along):
        here = runs[(runs[along] == value) | shared]
        part = _only_width(here, f"{along}={value:g}", metric, choose_by)
        scores = _scores(part.widths[0], _numbers(part, quantity, is_log), arm, is_metric=quantity == metric)
        points |= {value: scores} if scores.seeds else {}
    return points


def _only_width(runs: Any, where: str, metric: str, choose_by: str | None) -> table.Part:
    """Return runs of one width as a part."""
    part = table.part(runs, metric=metric, choose_by=choose_by)
    if len(part.widths) != 1:
        sizes = ", ".join(f"{width.num_params:,}" for width in part.widths)
        raise ValueError(
            f"{where} has networks of {sizes} parameters: select one size, or an axis that distinguishes them."
        )
    return part


def _numbers(part: table.Part, quantity: str, is_log: bool) -> np.ndarray:
    """Return the quantity in the arrangement of the only width, [seeds, 1 + rhos]."""
    keep_collapsed = quantity in RESULT_FIELDS  # results of collapsed runs count; measurements of them do not
    (arranged,) = measured.arrange(part, [quantity], keep_collapsed=keep_collapsed)[quantity]
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.log(arranged.values) if is_log else arranged.values


def _scores(width: Width, numbers: np.ndarray, arm: str, *, is_metric: bool) -> Scores:
    """Score each seed; SAM at the rho that the other seeds choose."""
    if arm == BASE or not width.candidates:
        have = np.isfinite(numbers[:, 0]) & (arm == BASE)
        return _plain(width, numbers[:, 0], have)
    compared = width.compared(numbers, is_metric=False)
    if arm == SAM:
        return arms.scores([compared.sam_alone])
    return arms.scores([dataclasses.replace(compared, sign=width.sign) if is_metric else compared])


def _plain(width: Width, column: np.ndarray, have: np.ndarray) -> Scores:
    """Arrange the numbers of the seeds that have one."""
    seeds = [seed for seed, has in zip(width.seeds, have, strict=True) if has]
    return estimates.plain(column[have][None], [width.num_params], seeds)


def _values(runs: Any, name: str) -> list[float]:
    """List the values of an axis among the completed runs."""
    axis_values = {row[name] for row in fields.done(runs, [name])} - {None}
    if any(isinstance(value, str) for value in axis_values):
        raise ValueError(
            f"{name} holds {sorted(map(str, axis_values))}: expected a numeric axis; use num_params for sizes."
        )
    return sorted(float(value) for value in axis_values)


def _is_log(runs: Any, quantity: str, metric: str) -> bool:
    """Whether a quantity is a measurement that is positive in every run, as in `measured.compared_by`."""
    if quantity == metric or quantity in RESULT_FIELDS or catalogue.quantity(quantity).is_signed:
        return False
    values = [row[quantity] for row in fields.done(runs, [quantity]) if row[quantity] is not None]
    return bool(values) and min(values) > 0


def is_size(axis: str) -> bool:
    """Whether an axis is one of sizes, along which a slope is per tenfold increase."""
    return axis in ("num_params", "num_nonzero_params", "train_examples", *fields.SHAPES)
