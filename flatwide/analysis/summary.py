"""One table that sums a study up, for `summary.csv`."""

from typing import TYPE_CHECKING, Any

import numpy as np

from flatwide.analysis import compute, fields, gain, interpolation, intervals, rho, selection, table, widths

if TYPE_CHECKING:
    import pandas as pd


def summary(
    runs: "pd.DataFrame", *, width: str = "num_params", metric: str = "test_metric", choose_by: str | None = None
) -> "pd.DataFrame":
    """Sum up a whole results table: one row a group of seeds, and one a width.

    Args: as for `gain.gain_by_width`, but the runs may differ in other columns: each of their values is a part.
    Returns: columns `row` ("seeds" or "width"), those of the axes besides width, rho and seed, the width, `num_params`;
      for a group of seeds `rho`, `mean`, `standard_error`, `low`, `high`, `num_seeds`, `num_diverged`; for a width the
      columns of `gain.gain_by_width`, `rho.best_rho`, `selection.corrected_gain`, `interpolation.training_fit` and
      `equal_compute_gain` with its interval. Without a single pair of a base and a SAM run it has no rows.
    """
    import pandas as pd

    options: dict[str, Any] = {"width": width, "metric": metric}
    runs = fields.narrow(runs, width=width)
    tables = []
    axes = table.axes(runs, width=width)
    has_lengths = any(name in fields.LENGTHS for name in axes)
    base_runs = _base_runs(runs, [name for name in axes if name not in fields.LENGTHS]) if has_lengths else {}
    for part in table.parts(runs, width=width):
        chosen_by = widths.choice_column(part.runs, metric=metric) if choose_by is None else choose_by
        cells = widths.by_width(part.runs, **options, choose_by=chosen_by)
        seeds = pd.DataFrame([row for cell in cells for row in _groups(cell, width)])
        each = gain.gain_by_width(part.runs, **options, choose_by=chosen_by)
        for found in (
            rho.best_rho(part.runs, **options, choose_by=chosen_by),
            selection.corrected_gain(part.runs, **options, choose_by=chosen_by),
            _fit(part.runs, width=width, metric=metric, choose_by=chosen_by),
            _equal_compute(part, runs, base_runs, width=width, metric=metric, choose_by=chosen_by),
        ):
            new = [name for name in found.columns if name not in each.columns]
            each = each.merge(found[[width, *new]], on=width, how="left") if width in found.columns else each
        for kind, found in (("seeds", seeds), ("width", each)):
            front = {"row": kind} | {name: value for name, value in part.values.items() if name not in found.columns}
            found = found.drop(columns=list(front), errors="ignore")
            tables.append(pd.DataFrame({name: [value] * len(found) for name, value in front.items()}).join(found))
    return pd.concat(tables, ignore_index=True) if tables else pd.DataFrame(columns=["row", width])


def _groups(cell: widths.Width, width: str) -> list[dict[str, Any]]:
    """Sum up each rho of a width."""
    rows = []
    for value, column in zip((0.0, *cell.rhos), cell.values.T, strict=True):
        values = column[np.isfinite(column)]
        found = intervals.mean(values)._asdict()
        row = {width: cell.value, "num_params": cell.num_params, "rho": value, **found, "num_seeds": len(values)}
        rows.append(row)
    return rows


def _fit(runs: "pd.DataFrame", *, width: str, metric: str, choose_by: str) -> "pd.DataFrame":
    return interpolation.training_fit(runs, width=width, metric=metric, choose_by=choose_by).dropna(axis=1, how="all")


def _base_runs(runs: "pd.DataFrame", names: list[str]) -> dict[tuple, list[int]]:
    """List the places of all base runs by their values of some fields."""
    found: dict[tuple, list[int]] = {}
    for row in fields.done(runs, names):
        if fields.effective_rho(row) == 0:
            found.setdefault(table.key_of(row, names), []).append(row["place"])
    return found


def _equal_compute(
    part: table.Part,
    runs: "pd.DataFrame",
    base_runs: dict[tuple, list[int]],
    *,
    width: str,
    metric: str,
    choose_by: str,
) -> "pd.DataFrame":
    """Compare the SAM runs of a part with base runs of twice the length, wherever those are in the whole table."""
    import pandas as pd

    others = tuple(value for name, value in part.values.items() if name not in fields.LENGTHS)
    places = [place for values, group in base_runs.items() if table.serves(values, others) for place in group]
    sam: Any = part.runs[[fields.effective_rho(row) > 0 for row in fields.done(part.runs)]]
    chosen = pd.concat([sam, runs.iloc[places]])
    found: Any = compute.equal_compute_gain(chosen, width=width, metric=metric, choose_by=choose_by)
    if not len(found):
        return pd.DataFrame()
    names = {"gain": "equal_compute_gain", "low": "equal_compute_low", "high": "equal_compute_high"}
    return found[[width, *names]].rename(columns=names)
