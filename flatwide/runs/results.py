"""The content of a result: the best evaluations of a run, and a check of results without a checksum."""

import json
import math
from collections.abc import Mapping
from typing import Any

from flatwide.columns import DONE, FRACTION_METRICS, RESULT_FIELDS

_METRICS = [name for name in RESULT_FIELDS if name.startswith(("train_metric", "test_metric", "validation_metric"))]


def best_evaluations(rows: list[dict[str, Any]], *, higher_is_better: bool) -> dict[str, Any]:
    """Find the best evaluations of a run; the first of equal ones.

    Args:
      rows: the rows of `metrics.csv`.
    Returns: `test_metric_best` and `best_epoch` (the paper's protocol), `test_metric_at_best_validation`; None if no
      row has the values.
    """
    best = _best(rows, "test_metric", higher_is_better)
    chosen = _best(rows, "validation_metric", higher_is_better)
    return {
        "test_metric_best": best.get("test_metric"),
        "best_epoch": best.get("epoch"),
        "test_metric_at_best_validation": chosen.get("test_metric"),
    }


def _best(rows: list[dict[str, Any]], name: str, higher_is_better: bool) -> dict[str, Any]:
    finite = [row for row in rows if row.get(name) is not None and math.isfinite(row[name])]
    sign = 1 if higher_is_better else -1
    return max(finite, key=lambda row: sign * row[name], default={})


def fault(result: Mapping[str, Any]) -> str:
    """Return the first invalid value of a result without a checksum; "" if there is none."""
    status = result.get("status")
    if status not in DONE:
        return f"status is {status!r}; expected 'finished' or 'diverged'"
    for name, field in RESULT_FIELDS.items():
        value = result.get(name)
        if value is None and not (field.is_required and status == "finished"):
            continue
        is_of_kind = isinstance(value, field.kind) and (field.kind is bool or not isinstance(value, bool))
        if not is_of_kind or (isinstance(value, float) and not math.isfinite(value)):
            kinds = {str: "text", int: "an integer", bool: "true or false", dict: "an object"}
            return f"{name} is {_short(value)}; expected {kinds.get(field.kind, 'a number')}"  # type: ignore[arg-type]
    for name in _METRICS if result.get("metric_name") in FRACTION_METRICS else ():
        if (value := result.get(name)) is not None and not 0 <= value <= 1:
            return f"{name} is {_short(value)}; expected a fraction in [0, 1]"
    return ""


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 80 else f"{text[:80]}…"
