"""Conversion of any table with one row per run to a results table."""

from typing import Any

from flatwide import registry
from flatwide.analysis.fields import Frame
from flatwide.columns import FRACTION_METRICS

_MAY_BE_MISSING = ("test_metric", "validation_metric", "validation_loss")


def from_columns(
    table: Frame,
    *,
    size: str = "num_params",
    rho: str = "rho",
    seed: str = "seed",
    metric: str = "test_metric",
    higher_is_better: bool = True,
    metric_name: str = "metric",
    choose_by: str | None = None,
) -> Frame:
    """Convert any table with one row per run and at least four columns to a results table.

    Args:
      size: column of parameter counts.
      rho: column of radii; 0 is the base.
      seed: column of whole numbers; the base and SAM run of a seed are compared as a pair.
      metric: column of the metric; a run without one has diverged.
      choose_by: column that the best rho is chosen by, such as a validation accuracy. It becomes `validation_metric`,
        which the analysis chooses by where every run has it; one whose name ends in "loss" becomes `validation_loss`,
        which must be passed as `choose_by` where a choice is made.
      higher_is_better, metric_name: direction and name of the metric; an accuracy is a fraction here, not a percentage.
    Raises: ValueError if a column is missing or holds invalid values.
    """
    import pandas as pd

    names = {size: "num_params", rho: "rho", seed: "seed", metric: "test_metric"}
    chosen = ""
    if choose_by in names:
        raise ValueError(
            f"choose_by={choose_by!r}: this column is already the {names[choose_by]}; choose another column."
        )
    if choose_by is not None:
        names[choose_by] = chosen = "validation_loss" if choose_by.endswith("loss") else "validation_metric"
    for column in names:
        if column not in table.columns:
            raise ValueError(registry.unknown("column", column, map(str, table.columns)))
    clash = [name for name in names.values() if name in table.columns and name not in names]
    renamed: Any = table.drop(columns=clash).rename(columns=names).reset_index(drop=True)
    for column, name in names.items():
        numbers: Any = pd.to_numeric(renamed[name], errors="coerce")
        wrong = renamed[name][numbers.isna() & (renamed[name].notna() | (name not in _MAY_BE_MISSING))]
        if len(wrong):
            raise ValueError(f"column {column!r} holds {wrong.iloc[0]!r}: expected a number in every row.")
        renamed[name] = numbers
    for column, name in ((size, "num_params"), (seed, "seed")):
        if (renamed[name] != renamed[name].round()).any():
            raise ValueError(f"column {column!r}: expected whole numbers.")
        renamed[name] = renamed[name].astype("int64")
    if (renamed["rho"] < 0).any():
        raise ValueError(f"column {rho!r} holds {renamed['rho'].min():g}: expected numbers >= 0 (0 is the base).")
    if metric_name in FRACTION_METRICS and renamed["test_metric"].max() > 1:
        raise ValueError(
            f"column {metric!r} holds {renamed['test_metric'].max():g}: expected fractions; divide by 100."
        )
    if chosen and (renamed[chosen].isna() & renamed["test_metric"].notna()).any():
        raise ValueError(f"column {choose_by!r} is empty in a row that has {metric!r}: expected a number to choose by.")
    facts: dict[str, Any] = {"higher_is_better": higher_is_better, "metric_name": metric_name}
    if "optimizer" not in renamed.columns:
        facts["optimizer"] = "sam"
    if "status" not in renamed.columns:
        facts["status"] = ["diverged" if missing else "finished" for missing in renamed["test_metric"].isna()]
    return renamed.assign(**facts)
