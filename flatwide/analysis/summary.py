"""The summary table of a study, `summary.csv`."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from flatwide.analysis import (
    domains,
    estimates,
    fields,
    gain,
    interpolation,
    rho,
    table,
    tuned,
    widths,
)
from flatwide.analysis.estimates import Estimate

if TYPE_CHECKING:
    import pandas as pd


def summary(
    runs: "pd.DataFrame",
    *,
    width: str = "num_params",
    metric: str = "test_metric",
    choose_by: str | None = None,
    tune: Sequence[str] = (),
) -> "pd.DataFrame":
    """Summarize a whole results table: one row for each group of seeds, and one for each width.

    Args:
      tune: fields that are tuned separately for base and SAM, in additional rows, as for `tuned.tuned_gain`.
      runs, width, metric, choose_by: as for `gain.gain_by_width`, but the runs may differ in other columns: each value
        of these is a part.
    Returns: columns `row` ("seeds", "width" or "tuned"), those that distinguish domains where there are several, the
      axes besides width, rho and seed, the width, `num_params`; for a group of seeds `rho`, `mean`, `standard_error`,
      `low`, `high`, `num_seeds`; for a width the columns of `gain.gain_by_width`, `rho.best_rho`,
      `gain.corrected_gain`, `interpolation.training_fit` and `equal_compute_gain` with its interval; for a
      comparison of tuned arms those of `tuned.tuned_gain`. There are no rows without a pair of a base and a SAM run.
    """
    import pandas as pd

    rows: list[dict[str, Any]] = []
    for domain in domains.domains(fields.narrow(runs, width=width)):
        rows_of_domain = _domain(domain.runs, width=width, metric=metric, choose_by=choose_by)
        rows += [{"row": row["row"]} | domain.values | row for row in rows_of_domain]
    if tune:
        rows_of_domain = tuned.comparisons(runs, tune=tune, width=width, metric=metric, choose_by=choose_by)
        rows += [{"row": "tuned"} | row for comparison in rows_of_domain for row in tuned.rows(comparison, width=width)]
    return pd.DataFrame(rows, columns=None if rows else ["row", width])


def _domain(runs: "pd.DataFrame", *, width: str, metric: str, choose_by: str | None) -> list[dict[str, Any]]:
    """Summarize the runs of a domain."""
    options: dict[str, Any] = {"width": width, "metric": metric}
    rows: list[dict[str, Any]] = []
    axes = table.axes(runs, width=width)
    has_lengths = any(name in fields.LENGTHS for name in axes)
    longer = _equal_compute(runs, **options, choose_by=choose_by) if has_lengths else []
    for part in table.parts(runs, width=width):
        chosen_by = widths.choice_column(part.runs, metric=metric) if choose_by is None else choose_by
        cells = widths.by_width(part.runs, **options, choose_by=chosen_by)
        here = [gains for values, gains in longer if all(values.get(k) == v for k, v in part.values.items())]
        for kind, rows_of_kind in (
            ("seeds", [row for cell in cells for row in _groups(cell, width)]),
            ("width", _widths(cells, part.runs, width=width, chosen_by=chosen_by)),
        ):
            front = {"row": kind} | part.values
            rows += [front | {k: v for k, v in row.items() if k not in front} for row in rows_of_kind]
        for row in rows[len(rows) - len(cells) :]:
            gain_there = next((gains[row[width]] for gains in here if row[width] in gains), None)
            if gain_there is not None:
                ends = {"equal_compute_low": gain_there.low, "equal_compute_high": gain_there.high}
                row |= {"equal_compute_gain": gain_there.value} | ends
    return rows


def _widths(cells: list[widths.Width], runs: "pd.DataFrame", *, width: str, chosen_by: str) -> Iterator[dict[str, Any]]:
    """Join the rows of each analysis for each width."""
    fits = interpolation.of_widths(cells, runs, width=width)
    for rows in zip(
        gain.of_widths(cells, width=width),
        rho.of_widths(cells, width=width, chosen_by=chosen_by),
        gain.corrected_of_widths(cells, width=width),
        [{name: value for name, value in row.items() if value == value} for row in fits],  # a table may have no fit
        strict=True,
    ):
        joined: dict[str, Any] = {}
        for row in rows:
            joined |= {name: value for name, value in row.items() if name not in joined}
        yield joined


def _groups(cell: widths.Width, width: str) -> list[dict[str, Any]]:
    """Summarize each rho of a width."""
    rows = []
    for value, column in zip((0.0, *cell.rhos), cell.values.T, strict=True):
        values = column[np.isfinite(column)]
        mean = estimates.mean(values)
        row = {width: cell.value, "num_params": cell.num_params, "rho": value, "mean": mean.value}
        row |= {"standard_error": mean.error, "low": mean.low, "high": mean.high, "num_seeds": len(values)}
        rows.append(row)
    return rows


def _equal_compute(
    runs: "pd.DataFrame", *, width: str, metric: str, choose_by: str | None
) -> list[tuple[dict[str, Any], dict[Any, Estimate]]]:
    """List the gains over base runs of equal compute: the values of each part, with SAM's length, and width -> gain."""
    options: dict[str, Any] = {"width": width, "metric": metric, "choose_by": choose_by}
    gains = []
    for compared in tuned.comparisons(runs, tune=(), names=[tuned.EQUAL_COMPUTE], **options):
        by_width = {pair.width: gain for pair, gain in zip(compared.widths, compared.gains, strict=True)}
        gains.append((compared.values | dict.fromkeys(fields.LENGTHS, compared.length), by_width))
    return gains
