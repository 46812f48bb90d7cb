"""Several metrics of the same runs, whose intervals hold together."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from flatwide import registry
from flatwide.analysis import fields, table

if TYPE_CHECKING:
    import pandas as pd

_SAME = 1e-3  # of the spread of a metric; sums in 32 bits differ by less, and two questions by more


def splits(runs: "pd.DataFrame", metrics: Sequence[str], *, level: float = 0.95, **question: Any) -> list[table.Split]:
    """Split a table for each of several metrics, except for those that restate one before.

    Args:
      metrics: the first is that of the headline. level: at which the intervals of all of them hold jointly.
      question: other fields of `table.Question`.
    Equation: each metric has the level 1 - (1 - level) / m for m metrics (Bonferroni), whatever their dependence.
    Raises: ValueError if a column is missing, or a metric is given twice.
    """
    if twice := registry.repeated(metrics):
        raise ValueError(f"metric: {twice} is a duplicate; expected different ones.")
    every = [table.split(runs, metric=metric, level=level, **question) for metric in metrics]
    if len(metrics) == 1:
        return every
    repeated = restating(runs, metrics)
    distinct = [metric for metric in metrics if metric not in repeated]
    share = 1 - (1 - level) / len(distinct) if len(distinct) > 1 else level
    return [table.split(runs, metric=metric, level=share, **question) for metric in distinct]


def restating(runs: "pd.DataFrame", metrics: Sequence[str]) -> list[str]:
    """List the metrics that are a linear function of an earlier one over all runs, such as another unit of it."""
    rows = [row for row in fields.done(runs, metrics) if row["status"] == "finished"]
    values = [np.array([row[metric] for row in rows], dtype=float) for metric in metrics]
    return [
        metric
        for index, metric in enumerate(metrics)
        if any(_is_line(earlier, values[index]) for earlier in values[:index])
    ]


def _is_line(x: np.ndarray, y: np.ndarray) -> bool:
    """Whether y is a linear function of x, both known for the same runs."""
    known = np.isfinite(x)
    if len(x) < 3 or (known != np.isfinite(y)).any() or len(set(x[known])) < 3:
        return False
    x, y = (each[known] - each[known].mean() for each in (x, y))
    return bool(np.abs(y - x * (x @ y) / (x @ x)).max() <= _SAME * np.abs(y).max())
