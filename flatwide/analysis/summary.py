"""The summary table of a study, `summary.csv`."""

from collections.abc import Iterator, Mapping
from typing import Any

from flatwide.analysis import comparisons, fields, gain, interpolation, rho, table, tuned
from flatwide.analysis.estimates import Estimate


@table.for_table
def summary(split: table.Split) -> fields.Frame:
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
        longer = list(_equal_compute(domain))
        for part in domain.parts:
            groups = [row for width in part.widths for row in gain.by_rho(width, name)]
            rows += [_joined({"row": "seeds"} | part.values, row) for row in groups]
            gains = [by_width for values, by_width in longer if values.items() >= part.settings.items()]
            for joined in _widths(part):
                if at := [by_width[joined[name]] for by_width in gains if joined[name] in by_width][:1]:
                    ends = {"equal_compute_low": at[0].low, "equal_compute_high": at[0].high}
                    joined |= {"equal_compute_gain": at[0].value} | ends
                rows.append(joined)
    if split.question.tune:
        rows += [{"row": "tuned"} | row for row in tuned.tuned_gain.rows(split)]
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
    fits = interpolation.training_fit.rows(part)
    known = ({name: value for name, value in row.items() if value == value} for row in fits)
    tables = (gain.gain_by_width, rho.best_rho, gain.corrected_gain)
    for rows in zip(*(each.rows(part) for each in tables), known, strict=True):
        yield _joined({"row": "width"} | part.values, *rows)


def _equal_compute(domain: table.Domain) -> Iterator[tuple[dict[str, Any], dict[Any, Estimate]]]:
    """Yield the gains over base runs of equal compute: values of a part, with SAM's length, and width -> gain."""
    for part in domain.tuning(()).tuned if any(name in fields.LENGTHS for name in domain.axes) else ():
        for compared in part.comparisons:
            if compared.kind == comparisons.EQUAL_COMPUTE:
                values = {**part.settings, **dict.fromkeys(fields.LENGTHS, compared.length)}
                yield values, {comparison.width: comparison.gain for comparison in compared.widths}
