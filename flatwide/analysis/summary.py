"""The summary table of a study, `summary.csv`."""

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from flatwide.analysis import comparisons, estimates, fields, gain, interpolation, rho, table, tuned
from flatwide.analysis.estimates import Estimate
from flatwide.analysis.widths import Width

if TYPE_CHECKING:
    import pandas as pd


@table.for_table
def summary(split: table.Split) -> "pd.DataFrame":
    """Summarize a whole results table: one row for each group of seeds, and one for each width.

    Returns: columns `row` ("seeds", "width" or "tuned"), those that distinguish domains where there are several, the
      axes besides width, rho and seed, the width, `num_params`; for a group of seeds `rho`, `mean`, `standard_error`,
      `low`, `high`, `num_seeds`; for a width the columns of `gain.gain_by_width`, `rho.best_rho`,
      `gain.corrected_gain`, `interpolation.training_fit` and `equal_compute_gain` with its interval; for a
      comparison of tuned arms, where the question has tuned fields, those of `tuned.tuned_gain`. There are no rows
      without a pair of a base and a SAM run.
    """
    import pandas as pd

    name, rows = split.question.width, []
    for domain in split.domains:
        longer = _equal_compute(domain)
        for part in domain.parts:
            rows += [
                _joined({"row": "seeds"} | part.values, row) for width in part.widths for row in _groups(width, name)
            ]
            gains = [by_width for values, by_width in longer if values.items() >= part.settings.items()]
            for joined in _widths(part):
                at = next((by_width[joined[name]] for by_width in gains if joined[name] in by_width), None)
                if at is not None:
                    joined |= {
                        "equal_compute_gain": at.value,
                        "equal_compute_low": at.low,
                        "equal_compute_high": at.high,
                    }
                rows.append(joined)
    if split.question.tune:
        compared = [(part, each) for part in split.tuned for each in part.comparisons]
        rows += [{"row": "tuned"} | row for part, each in compared for row in tuned.rows(part, each)]
    return pd.DataFrame(rows, columns=None if rows else ["row", name])


def _joined(*rows: Mapping[str, Any]) -> dict[str, Any]:
    """Join rows; of a column that several have, the first counts."""
    joined: dict[str, Any] = {}
    for row in rows:
        joined |= {name: value for name, value in row.items() if name not in joined}
    return joined


def _widths(part: table.Part) -> Iterator[dict[str, Any]]:
    """Join the rows of each analysis for each width."""
    # A table may lack the fit of the training labels.
    fits = [{name: value for name, value in row.items() if value == value} for row in interpolation.rows(part)]
    for rows in zip(gain.rows(part), rho.rows(part), gain.corrected_rows(part), fits, strict=True):
        yield _joined({"row": "width"} | part.values, *rows)


def _groups(width: Width, name: str) -> Iterator[dict[str, Any]]:
    """Summarize each rho of a width."""
    for value, column in zip((0.0, *width.rhos), width.values.T, strict=True):
        values = column[np.isfinite(column)]
        mean = estimates.mean(values)
        row = {name: width.value, "num_params": width.num_params, "rho": value, "mean": mean.value}
        yield row | {"standard_error": mean.error, "low": mean.low, "high": mean.high, "num_seeds": len(values)}


def _equal_compute(domain: table.Domain) -> list[tuple[dict[str, Any], dict[Any, Estimate]]]:
    """List the gains over base runs of equal compute: the values of each part, with SAM's length, and width -> gain."""
    if not any(name in fields.LENGTHS for name in domain.axes):
        return []
    return [
        (
            {**part.settings, **dict.fromkeys(fields.LENGTHS, compared.length)},
            {comparison.width: comparison.gain for comparison in compared.widths},
        )
        for part in domain.tuning(()).tuned
        for compared in part.comparisons
        if compared.kind == comparisons.EQUAL_COMPUTE
    ]
