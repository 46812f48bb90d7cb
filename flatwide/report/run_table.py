"""The data of the table of all runs, which the page sorts and filters."""

import math
from typing import Any

from flatwide.analysis import fields
from flatwide.columns import COLLAPSED, FRACTION_METRICS, RESULT_FIELDS
from flatwide.report.key_table import width_text

_SHOWN = (  # result fields, the most important first
    "num_params",
    "num_nonzero_params",
    "test_metric",
    "test_metric_best",
    "best_epoch",
    "validation_metric",
    "test_metric_at_best_validation",
    "train_metric",
    "test_loss",
    "validation_loss",
    "train_loss",
    "epochs",
    "diverged_at_step",
    "seconds",
)


def is_metric(column: str) -> bool:
    """Whether a column is a score or a loss of a run, or a measurement on its network."""
    first, dot, _ = column.partition(".")
    if dot:
        return first not in ("versions", fields.ASIDE)
    return column.startswith(("test_", "train_", "validation_")) and ("metric" in column or "loss" in column)


def run_table(runs: list[dict[str, Any]], *, varied: list[str]) -> dict[str, Any]:
    """Return the runs as rows of the columns that vary and of results.

    Args:
      runs: rows of the results table.
      varied: the columns, besides results, that differ from run to run.
    Returns: `columns`, each with `name`, `label`, `kind` ("text" or "number") and `percent`; and `rows`. Metrics that
      are fractions stay fractions; the page displays them in percent.
    """
    has_collapsed = any(run.get(COLLAPSED) is True for run in runs)
    names = ["run", "status", *([COLLAPSED] if has_collapsed else []), *varied]
    for name in _SHOWN:
        if any(run.get(name) is not None for run in runs) and name not in names:
            names.append(name)
    if all(run.get("num_params") == run.get("num_nonzero_params") for run in runs):
        names = [name for name in names if name != "num_nonzero_params"]
    names = [name for name in names if name != "run" or any(run.get("run") is not None for run in runs)]
    metric_names = {run.get("metric_name") for run in runs} - {None}
    is_percent = bool(metric_names) and metric_names <= FRACTION_METRICS
    word = str(next(iter(metric_names))).replace("_", " ") if len(metric_names) == 1 else "metric"
    if len(metric_names) > 1:
        names.insert(names.index("status") + 1, "metric_name")
    columns = [_column(name, runs, word, is_percent) for name in names]
    rows = [
        [_compact(width_text(run.get(name)) if name in fields.SHAPES else run.get(name)) for name in names]
        for run in runs
    ]
    return {"columns": columns, "rows": rows}


def _column(name: str, runs: list[dict[str, Any]], word: str, is_percent: bool) -> dict[str, Any]:
    values = [run.get(name) for run in runs if run.get(name) is not None]
    is_number = bool(values) and all(isinstance(value, int | float) and not isinstance(value, bool) for value in values)
    is_metric = "metric" in name and name in RESULT_FIELDS
    label = name.removeprefix(f"{fields.ASIDE}.")
    label = label.replace("_", " ").replace("metric", word) if name in {*RESULT_FIELDS, COLLAPSED} else label
    percent = is_percent and is_metric
    return {
        "name": name.removeprefix(f"{fields.ASIDE}."),
        "label": f"{label} (%)" if percent else label,
        "kind": "number" if is_number else "text",
        "percent": percent,
    }


def _compact(value: Any) -> Any:
    """Round a number for display; with ten thousand runs, each digit adds to the size of the page."""
    if isinstance(value, bool) or value is None:
        return None if value is None else str(value).lower()
    if isinstance(value, float):
        return float(f"{value:.6g}") if math.isfinite(value) else None
    return value if isinstance(value, int) else str(value)
