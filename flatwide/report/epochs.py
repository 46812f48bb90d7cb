"""Selection of the row at which a run is scored, in tables with one row per evaluation."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from flatwide import registry
from flatwide.report import cells

NAMES = ("epoch", "epochs", "step", "steps", "iteration", "iterations", "iter", "global_step")
LAST, BEST = "last", "best"
PICKS = (LAST, BEST)


def pick(
    table: Any,
    name: str,
    columns: Mapping[str, str],
    *,
    by: str | None,
    epoch: str | None,
    also: Sequence[str],
    score: str,
    higher_is_better: bool,
) -> tuple[Any, str]:
    """Select one row of each run.

    Args:
      table: the evaluations. name: of its file, for messages. columns: its column names by role.
      by: "last", or "best": the first of the rows with the best score. A run without a metric in its last row has
        diverged, whatever came before.
      epoch: the numeric column that orders the rows of a run; None guesses.
      also: columns besides size, rho and seed that identify a run.
      score: the column that selects the best row. higher_is_better: its direction.
    Returns: the selected rows, in the order of the table, and a note on which they are.
    Raises: ValueError for another `by`, an epoch that is not a number, or two rows of a run with the same epoch.
    """
    import pandas as pd

    epoch = _column(table, name, epoch)
    if by not in PICKS:
        raise ValueError(registry.unknown("--pick", by or "", PICKS))
    epochs: Any = pd.to_numeric(table[epoch], errors="coerce")
    if epochs.isna().any():
        row = int(epochs.isna().to_numpy().argmax())
        raise ValueError(
            f"{cells.where(table[epoch], row, name)} holds {table[epoch].iloc[row]!r}; expected a number. Correct the "
            "cell, or name another column with --epoch=."
        )
    runs = list(dict.fromkeys([columns["width"], columns["rho"], columns["seed"], *also]))
    direction = 1 if higher_is_better else -1
    picked = []
    for values, rows in table.groupby(runs, sort=False, dropna=False).indices.items():
        order = sorted(rows, key=lambda index: epochs.iloc[index])
        if len({epochs.iloc[index] for index in order}) < len(order):
            run_name = ", ".join(f"{column}={value}" for column, value in zip(runs, values, strict=True))
            raise ValueError(
                f"{name}: several rows have {run_name} and the same {epoch}. If another column distinguishes them, "
                "name it with --axes=."
            )
        chosen = order[-1]
        if by == BEST and not math.isnan(table[columns["metric"]].iloc[chosen]):
            scores = {index: direction * table[score].iloc[index] for index in order}
            chosen = max(order, key=lambda index: -math.inf if math.isnan(scores[index]) else scores[index])
        picked.append(chosen)
    where = "its last row" if by == LAST else f"the row where its {score!r} is best"
    order = f"With the rows of each run in the order of {epoch!r}"
    note = f"{order}, a run is scored at {where}; a run without a metric in its last row has diverged."
    return table.iloc[sorted(picked)], note


def _column(table: Any, name: str, epoch: str | None) -> str:
    """Return the column that orders the rows of a run."""
    plain = {str(column).lower(): str(column) for column in table.columns}
    found = next((plain[guess] for guess in NAMES if guess in plain), None) if epoch is None else epoch
    if found is None:
        raise ValueError(f"{name}: which column numbers the evaluations? Name it with --epoch=; {cells.listed(table)}.")
    if found not in table.columns:
        raise ValueError(f"--epoch={epoch}: {name} has no such column; {cells.listed(table)}.")
    return found
