"""Selection of the row at which a run is scored, in tables with one row per evaluation."""

import math
from collections.abc import Sequence
from typing import Any

from flatwide import registry

NAMES = ("epoch", "epochs", "step", "steps", "iteration", "iterations", "iter", "global_step")
LAST, BEST = "last", "best"
PICKS = (LAST, BEST)


def pick(
    table: Any,
    name: str,
    *,
    by: str,
    epoch: str,
    runs: Sequence[str],
    metric: str,
    score: str,
    higher_is_better: bool,
) -> Any:
    """Select one row of each run.

    Args:
      table: the evaluations. name: of its file, for messages.
      by: "last", or "best": the first of the rows with the best score.
      epoch: the numeric column that orders the rows of a run.
      runs: the columns that identify a run.
      metric: the column of the metric; a run without a metric in its last row has diverged, whatever came before.
      score: the column that selects the best row. higher_is_better: its direction.
    Returns: the selected rows, in the order of the table.
    Raises: ValueError for another `by`, an epoch that is not a number, or two rows of a run with the same epoch.
    """
    import pandas as pd

    if by not in PICKS:
        raise ValueError(registry.unknown("--pick", by, PICKS))
    epochs: Any = pd.to_numeric(table[epoch], errors="coerce")
    if epochs.isna().any():
        row = int(epochs.isna().to_numpy().argmax())
        held = table[epoch].iloc[row]
        raise ValueError(
            f"{name}, row {table.index[row] + 1} below the header: the column {epoch!r} holds {held!r}; "
            "expected a number. Correct the cell, or name another column with --epoch=."
        )
    picked = []
    for values, rows in table.groupby(list(runs), sort=False, dropna=False).indices.items():
        order = sorted(rows, key=lambda index: epochs.iloc[index])
        if len({epochs.iloc[index] for index in order}) < len(order):
            run_name = ", ".join(f"{column}={value}" for column, value in zip(runs, values, strict=True))
            raise ValueError(
                f"{name}: several rows have {run_name} and the same {epoch}. If another column distinguishes them, "
                "name it with --axes=."
            )
        last = order[-1]
        if by == LAST or math.isnan(table[metric].iloc[last]):
            picked.append(last)
            continue
        direction = 1 if higher_is_better else -1
        scores = [direction * table[score].iloc[index] for index in order]
        usable = [value if not math.isnan(value) else -math.inf for value in scores]
        picked.append(order[max(range(len(order)), key=usable.__getitem__)])
    return table.iloc[sorted(picked)]
