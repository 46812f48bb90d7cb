"""A table with a row for each evaluation of a run: which of its rows the run is scored at."""

import math
from collections.abc import Sequence
from typing import Any

from flatwide import registry

NAMES = ("epoch", "epochs", "step", "steps", "iteration", "iterations", "iter", "global_step")
LAST, BEST = "last", "best"
PICKS = (LAST, BEST)


def pick(
    found: Any,
    name: str,
    *,
    by: str,
    epoch: str,
    runs: Sequence[str],
    metric: str,
    score: str,
    higher_is_better: bool,
) -> Any:
    """Keep one row of each run.

    Args:
      found: the table. name: of its file, for messages.
      by: "last", or "best": the first of the rows with the best score.
      epoch: the column of numbers that orders the rows of a run.
      runs: the columns that tell runs apart.
      metric: the column of the metric; a run that has none in its last row has diverged, whatever it had before.
      score: the column that the best row is chosen by. higher_is_better: its direction.
    Returns: the rows kept, in the order of the table.
    Raises: ValueError for another way, an epoch that is no number, or a run with two rows of one epoch.
    """
    import pandas as pd

    if by not in PICKS:
        raise ValueError(registry.unknown("--pick", by, PICKS))
    epochs: Any = pd.to_numeric(found[epoch], errors="coerce")
    if epochs.isna().any():
        row = int(epochs.isna().to_numpy().argmax())
        held = found[epoch].iloc[row]
        raise ValueError(
            f"{name}, row {found.index[row] + 1} below the names: the column {epoch!r} holds {held!r}; "
            "expected a number. Correct the cell, or name another column with --epoch=."
        )
    kept = []
    for values, rows in found.groupby(list(runs), sort=False, dropna=False).indices.items():
        order = sorted(rows, key=lambda place: epochs.iloc[place])
        if len({epochs.iloc[place] for place in order}) < len(order):
            what = ", ".join(f"{column}={value}" for column, value in zip(runs, values, strict=True))
            raise ValueError(
                f"{name}: several rows have {what} and one {epoch}. If another column tells them apart, name it with "
                "--axes=."
            )
        last = order[-1]
        if by == LAST or math.isnan(found[metric].iloc[last]):
            kept.append(last)
            continue
        direction = 1 if higher_is_better else -1
        scores = [direction * found[score].iloc[place] for place in order]
        usable = [value if not math.isnan(value) else -math.inf for value in scores]
        kept.append(order[max(range(len(order)), key=usable.__getitem__)])
    return found.iloc[sorted(kept)]
