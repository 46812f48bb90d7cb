"""Roles of the columns of a results table: sizes, axes, and fields that only some runs read or that never matter."""

import math
import re
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, TypeAlias

from flatwide import chance
from flatwide.columns import COLLAPSED, DONE, RESULT_FIELDS
from flatwide.config.schema import SCHEMA

if TYPE_CHECKING:
    import pandas as pd

Frame: TypeAlias = "pd.DataFrame"  # pandas is imported where it is used
WIDTH, DEPTH, SIZE = "width", "depth", "size"
_DEPTHS = ("num_blocks", "num_layers")
LENGTHS = ("num_epochs", "num_train_steps")
SHAPES = tuple(name for name, field in SCHEMA.items() if field.shape)  # they determine the width
SIZES = (*SHAPES, "sparsity", "num_params")  # may vary together with the width
WATCH_ONLY = frozenset({"study", *(name for name, field in SCHEMA.items() if not field.identity)})
_NO_AXIS = {"run", "problem", "rho", "seed", "optimizer", COLLAPSED}
ASIDE = "aside"  # `aside.x` is a column x of a user's table that is not a field
_DECIDING = ("rho", "optimizer", "base_optimizer", "sparsity", "status")
_OPTIMIZERS = {"sgd": "SGD", "adam": "Adam", "adamw": "AdamW"}


def is_config(name: str) -> bool:
    """Whether a column is a config field, or a column of the user, that can change a result.

    A column with a dot is not: it is a version, a measurement (`curvature.trace`) or set aside.
    """
    results: Iterable[str] = RESULT_FIELDS
    return "." not in name and name not in results and name not in _NO_AXIS and name not in WATCH_ONLY


def effective_rho(run: dict[str, Any]) -> float:
    """Return the rho that a run effectively had: 0 for anything but SAM."""
    return float(run["rho"]) if run.get("optimizer", "sam") in ("sam", None) else 0.0


def ignores(run: dict[str, Any], name: str) -> bool:
    """Whether a base run, or one without a mask, belongs to every value of a field because it does not read it."""
    has_ascent, has_mask = effective_rho(run) > 0, bool(run.get("sparsity"))
    if (field := SCHEMA.get(name)) is not None:
        return (field.ascent and not has_ascent) or (field.mask and not has_mask)
    # A field of a user's SAM variant: the table leaves it empty for runs without an ascent.
    return run[name] is None and not has_ascent


def is_unread(run: dict[str, Any], name: str) -> bool:
    """Whether a run does not read a field: its value is empty although the field is not optional."""
    field = SCHEMA.get(name)
    return ignores(run, name) or (run[name] is None and field is not None and not field.optional)


def value(run: dict[str, Any], name: str) -> Any:
    """Return the value of a field; the base optimizer of a run without SAM is its optimizer."""
    if name == "base_optimizer" and run.get("optimizer") not in ("sam", None):
        return run["optimizer"]
    return run[name]


def length(run: dict[str, Any]) -> tuple[str, float]:
    """Return the length of a run as a field and its value: epochs, or steps where those are set."""
    name = next((name for name in reversed(LENGTHS) if run.get(name) is not None), "")
    return name, run.get(name) or 0


def gradients_a_step(run: dict[str, Any]) -> float:
    """Return the gradients per step of a run; where not recorded, 1, or 2 with SAM."""
    count, num_steps = run.get("num_gradients"), run.get("steps")
    if count and num_steps:
        return count / num_steps
    return 2.0 if effective_rho(run) > 0 else 1.0


def equal_compute_length(gradients: float, length: float) -> int:
    """Return the length of a base run of equal compute, rounded up so as never to favor SAM.

    Args:
      gradients: per step of SAM. length: of SAM, in steps or epochs.
    """
    # Two except at a few steps, such as the first of a rho that begins at 0, counts as two; the other tolerance is for
    # a quotient that rounding lifts above a whole number.
    ratio = max(gradients, 2.0) if abs(gradients - 2) < 5e-4 else gradients
    return math.ceil(ratio * length - 1e-9)


def resolution(rows: list[dict[str, Any]], metric: str) -> float:
    """Return the step of an accuracy, one over the number of test items, where the runs record it; else 0."""
    counts: set[Any] = {row.get("num_test_items") for row in rows} - {None}
    is_accuracy = metric.startswith("test_metric") and {row.get("metric_name") for row in rows} == {"accuracy"}
    return 1 / min(counts) if is_accuracy and counts and min(counts) > 0 else 0.0


def signs(rows: list[dict[str, Any]], names: Iterable[str]) -> dict[str, int]:
    """Map columns to 1 where a higher value is better, else -1, as for every column whose name ends in "loss".

    Raises: ValueError if runs differ in the direction of their metric.
    """
    higher = {row["higher_is_better"] for row in rows} - {None}
    if len(higher) != 1:
        raise ValueError("higher_is_better differs between runs; compare runs of one metric.")
    return {name: -1 if name.endswith("loss") or higher == {False} else 1 for name in names}


def records(runs: Frame, names: Iterable[str] | None = None) -> list[dict[str, Any]]:
    """Convert a table, or its columns among `names`, to dicts, with None for missing values."""
    # Column by column, for speed: a table of ten thousand runs has almost a million entries.
    names = list(runs.columns) if names is None else [name for name in dict.fromkeys(names) if name in runs.columns]
    columns = []
    for name in names:
        column: Any = runs[name]
        values, missing = column.tolist(), column.isna()
        if missing.any():
            values = [None if is_missing else item for item, is_missing in zip(values, missing.tolist(), strict=True)]
        columns.append(values)
    return [dict(zip(names, row, strict=True)) for row in zip(*columns, strict=True)]


def done(runs: Frame, names: Iterable[str] = ()) -> list[dict[str, Any]]:
    """Convert the completed runs to dicts of some columns, with the row number of each in the table as `row_index`."""
    rows = records(runs, [*_DECIDING, *names])
    for index, row in enumerate(rows):
        row["row_index"] = index
    return [row for row in rows if row["status"] in DONE]


def arms_of_widths(runs: Frame, *, width: str = "num_params") -> dict[Any, set[bool]]:
    """Map each width to which arms have a completed run there: False for the base, True for SAM."""
    has: dict[Any, set[bool]] = {}
    for row in done(runs, [width]):
        has.setdefault(row[width], set()).add(effective_rho(row) > 0)
    return has


def varying(runs: Frame, *, width: str = "num_params") -> dict[str, list[Any]]:
    """Find the config fields, besides width, rho and seed, that have several values among the runs of a width.

    Returns: field -> its values at the first width that has several, in the order of the table.
    """
    size_names = {width, *SHAPES, "num_params"}
    names = [name for name in runs.columns if name not in size_names and is_config(name) and varies(runs[name])]
    if {"optimizer", "base_optimizer"} <= set(runs.columns) and varies(runs["optimizer"]):
        names = list(dict.fromkeys([*names, "base_optimizer"]))
    if not names:
        return {}
    rows = done(runs, [width, "pruner", *names])
    has_dense = {row[width] for row in rows if not row.get("sparsity")}
    several_values = {}
    for name in names:
        seen: dict[Any, dict[Any, None]] = {}
        for row in rows:
            if name == "base_optimizer" or not is_unread(row, name):
                # At a fixed number of weights, each pruner has its own sparsity at a width, which is not an axis.
                is_budget = name == "sparsity" and row[width] not in has_dense
                at = (row[width], row.get("pruner")) if is_budget else row[width]
                seen.setdefault(at, {})[value(row, name)] = None
        distinct = [list(values) for values in seen.values() if len(values) > 1]
        if distinct:
            several_values[name] = distinct[0]
    return several_values


def with_collapsed(runs: Frame) -> Frame:
    """Add the column `is_collapsed`: whether a finished run is no better than a prediction that ignores its inputs.

    The rule is `chance.is_collapsed`. The value is NA where a run is not finished or the chance level is unknown. A
    table that has the column keeps it.
    Raises: ValueError if the column exists and holds anything other than true, false or nothing.
    """
    import pandas as pd

    if COLLAPSED in runs.columns:
        try:
            return runs.assign(**{COLLAPSED: runs[COLLAPSED].astype("boolean")})
        except (TypeError, ValueError):
            unexpected = next(item for item in runs[COLLAPSED] if item not in (True, False, None) and item == item)
            raise ValueError(f"column {COLLAPSED!r} holds {unexpected!r}: expected true, false or nothing.") from None
    names = [name for name in chance.COLUMNS if name in runs.columns]
    values = [chance.is_collapsed(row) for row in records(runs, names)] if names else [None] * len(runs)
    column = pd.Series(pd.array(values, dtype="boolean"), index=runs.index, name=COLLAPSED)
    return pd.concat([runs, column], axis=1)  # pandas warns where a column is added to a wide table one by one


def varies(column: Any) -> bool:
    """Whether a column has several values, or a value in some rows only."""
    missing = column.isna()
    if missing.any():
        return not missing.all()
    values = column.tolist()
    return any(item != values[0] for item in values)


def base_name(runs: Frame, *, unknown: str = "its base optimizer") -> str:
    """Return the name of the base optimizer of some runs for a table or figure, such as SGD.

    Args:
      unknown: the name where the table does not have it.
    """
    if not {"optimizer", "base_optimizer"} <= set(runs.columns):
        return unknown
    with_optimizer = [run for run in records(runs, ["optimizer", "base_optimizer"]) if run["optimizer"] is not None]
    used = {value(run, "base_optimizer") for run in with_optimizer}
    return " and ".join(sorted(_OPTIMIZERS.get(name, str(name)) for name in used))


def metric_name(runs: Frame, metric: str = "test_metric") -> str:
    """Return the name of a compared column of some runs, such as accuracy, or loss for any loss."""
    if metric.endswith("loss"):
        return "loss"
    names = runs["metric_name"].dropna() if "metric_name" in runs.columns else []
    return str(next(iter(names), "metric"))


def what_grows(runs: Frame) -> str:
    """Return what makes the networks of some runs larger: WIDTH, DEPTH, or SIZE where both do."""
    growing = set()
    for name in (name for name in SHAPES if name in runs.columns):
        layers = [re.findall(r"\d+", value) for value in set(map(str, runs[name].dropna()))]
        if len(layers) > 1 and name in _DEPTHS:
            growing.add(DEPTH)
        elif len(layers) > 1:
            growing |= {DEPTH} if len(set(map(len, layers))) > 1 else set()
            growing |= {WIDTH} if len({tuple(sorted(set(numbers))) for numbers in layers}) > 1 else set()
    return SIZE if len(growing) > 1 else next(iter(growing), WIDTH)
