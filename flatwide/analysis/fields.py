"""What the columns of a results table are: sizes, axes, fields that only some runs read, and what never matters."""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from flatwide import chance
from flatwide.columns import COLLAPSED, DONE, RESULT_FIELDS
from flatwide.config.schema import SCHEMA

if TYPE_CHECKING:
    import pandas as pd

LENGTHS = ("num_epochs", "num_train_steps")
SHAPES = tuple(name for name, field in SCHEMA.items() if field.shape)  # they make the width
SIZES = (*SHAPES, "sparsity", "num_params")  # what may go along with the width
WATCH_ONLY = frozenset({"study", *(name for name, field in SCHEMA.items() if not field.identity)})
_NO_AXIS = {"run", "problem", "rho", "seed", "optimizer", COLLAPSED}
ASIDE = "aside"  # `aside.x` is a column x of somebody's table that is no field
_DECIDING = ("rho", "optimizer", "base_optimizer", "sparsity", "status")


def is_config(name: str) -> bool:
    """Tell whether a column is a config field, or a column of the user's own, that can change a result.

    One with a dot is none: it is a version, a measurement (`curvature.trace`) or set aside.
    """
    results: Iterable[str] = RESULT_FIELDS
    return "." not in name and name not in results and name not in _NO_AXIS and name not in WATCH_ONLY


def effective_rho(run: dict[str, Any]) -> float:
    """Give the rho that a run really had: 0 for anything but SAM."""
    return float(run["rho"]) if run.get("optimizer", "sam") in ("sam", None) else 0.0


def ignores(run: dict[str, Any], name: str) -> bool:
    """Whether a base run or one without a mask serves every value of a field, for it does not read it."""
    has_ascent, has_mask = effective_rho(run) > 0, bool(run.get("sparsity"))
    if (field := SCHEMA.get(name)) is not None:
        return (field.ascent and not has_ascent) or (field.mask and not has_mask)
    # A field of the user's own SAM variant: the table leaves the cells of runs without an ascent empty.
    return run[name] is None and not has_ascent


def is_unread(run: dict[str, Any], name: str) -> bool:
    """Whether a run does not read a field: its cell is empty though the field may not be."""
    field = SCHEMA.get(name)
    return ignores(run, name) or (run[name] is None and field is not None and not field.optional)


def value(run: dict[str, Any], name: str) -> Any:
    """Give the value of a field, where the base of a run that is not SAM is its own optimizer."""
    if name == "base_optimizer" and run.get("optimizer") not in ("sam", None):
        return run["optimizer"]
    return run[name]


def length(run: dict[str, Any]) -> tuple[str, float]:
    """Return how long a run is, as the field that says so and its value: epochs, or steps where those are set."""
    name = next((name for name in reversed(LENGTHS) if run.get(name) is not None), "")
    return name, run.get(name) or 0


def gradients_a_step(run: dict[str, Any]) -> float:
    """Return how many gradients a run took a step, to three decimals; where that is not recorded, 1, or 2 with SAM."""
    count, num_steps = run.get("num_gradients"), run.get("steps")
    if count and num_steps:
        return round(count / num_steps, 3)
    return 2.0 if effective_rho(run) > 0 else 1.0


def records(runs: "pd.DataFrame", names: Iterable[str] | None = None) -> list[dict[str, Any]]:
    """Turn a table, or those of the named columns that it has, into dicts, with None for whatever is missing."""
    # By columns: a table of ten thousand runs has most of a million entries.
    names = list(runs.columns) if names is None else [name for name in dict.fromkeys(names) if name in runs.columns]
    columns = []
    for name in names:
        column: Any = runs[name]
        values, missing = column.tolist(), column.isna()
        if missing.any():
            values = [None if gone else entry for entry, gone in zip(values, missing.tolist(), strict=True)]
        columns.append(values)
    return [dict(zip(names, row, strict=True)) for row in zip(*columns, strict=True)]


def done(runs: "pd.DataFrame", names: Iterable[str] = ()) -> list[dict[str, Any]]:
    """Turn the runs that are done into dicts of some columns, with the `place` of each in the table."""
    rows = [row | {"place": place} for place, row in enumerate(records(runs, [*_DECIDING, *names]))]
    return [row for row in rows if row["status"] in DONE]


def varying(runs: "pd.DataFrame", *, width: str = "num_params") -> dict[str, list[Any]]:
    """Find the config fields, besides width, rho and seed, that have several values among the runs of one width.

    Returns: field -> its values at the first width that has several, in the order of the table.
    """
    known = {width, *SHAPES, "num_params"}
    names = [name for name in runs.columns if name not in known and is_config(name) and _has_several(runs[name])]
    if {"optimizer", "base_optimizer"} <= set(runs.columns) and _has_several(runs["optimizer"]):
        names = list(dict.fromkeys([*names, "base_optimizer"]))
    if not names:
        return {}
    rows = done(runs, [width, "pruner", *names])
    has_dense = {row[width] for row in rows if not row.get("sparsity")}
    found = {}
    for name in names:
        seen: dict[Any, dict[Any, None]] = {}
        for row in rows:
            if name == "base_optimizer" or not is_unread(row, name):
                # At a budget of weights each pruner has its own sparsity at a width, which is no axis.
                is_budget = name == "sparsity" and row[width] not in has_dense
                at = (row[width], row.get("pruner")) if is_budget else row[width]
                seen.setdefault(at, {})[value(row, name)] = None
        several = [list(values) for values in seen.values() if len(values) > 1]
        if several:
            found[name] = several[0]
    return found


def narrow(runs: "pd.DataFrame", *, width: str = "num_params") -> "pd.DataFrame":
    """Leave out the config columns that are the same in every run: they tell nothing."""
    runs = with_collapsed(runs)  # while the data set is there, which decides it
    kept = {width, *_DECIDING, *SHAPES}
    same = [
        c for c in runs.columns if c not in kept and (is_config(c) or c in WATCH_ONLY) and not _has_several(runs[c])
    ]
    return runs.drop(columns=same)


def with_collapsed(runs: "pd.DataFrame") -> "pd.DataFrame":
    """Add the column `is_collapsed`: whether a finished run is no better than a prediction that ignores its inputs.

    Its rule is `chance.is_collapsed`. NA stands where a run is not finished, or what chance gives is not known. A table
    that has the column keeps it.
    Raises: ValueError if it has the column, and something else than true, false or nothing in it.
    """
    import pandas as pd

    if COLLAPSED in runs.columns:
        try:
            return runs.assign(**{COLLAPSED: runs[COLLAPSED].astype("boolean")})
        except (TypeError, ValueError):
            held = next(entry for entry in runs[COLLAPSED] if entry not in (True, False, None) and entry == entry)
            raise ValueError(f"column {COLLAPSED!r} holds {held!r}: expected true, false or nothing.") from None
    names = [name for name in chance.COLUMNS if name in runs.columns]
    values = [chance.is_collapsed(row) for row in records(runs, names)] if names else [None] * len(runs)
    return runs.assign(**{COLLAPSED: pd.array(values, dtype="boolean")})


def _has_several(column: Any) -> bool:
    missing = column.isna()
    if missing.any():
        return not missing.all()
    values = column.tolist()
    return any(entry != values[0] for entry in values)
