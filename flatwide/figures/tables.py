"""Tables that figures take: a DataFrame, or a list of rows if pandas is not needed."""

import csv
import io
import math
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, TypeAlias

from flatwide import csv_cells

if TYPE_CHECKING:
    import pandas as pd

Table: TypeAlias = "pd.DataFrame | list[dict[str, Any]]"


def to_rows(table: "Table | None") -> list[dict[str, Any]]:
    """Convert a table to rows, each without its missing values; no table has none."""
    if table is None:
        return []
    rows = table if isinstance(table, list) else table.to_dict("records")
    return [{name: value for name, value in row.items() if not _is_missing(value)} for row in rows]


def by_part(rows: Iterable[Mapping[str, Any]], column: str = "part") -> dict[Any, list[dict[str, Any]]]:
    """Group rows by a column, the part of the table they belong to; without it they are one group."""
    groups: dict[Any, list[dict[str, Any]]] = {}
    for row in rows:
        groups.setdefault(row.get(column, ""), []).append(dict(row))
    return groups


def to_csv(table: Table) -> str:
    """Return a table as CSV; floats round-trip exactly."""
    columns = list(dict.fromkeys(name for row in table for name in row) if isinstance(table, list) else table.columns)
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(map(csv_cells.encode, columns))
    writer.writerows([csv_cells.encode(row.get(name, "")) for name in columns] for row in to_rows(table))
    return text.getvalue()


def _is_missing(value: Any) -> bool:
    return value is None or (isinstance(value, float) and math.isnan(value)) or str(value) == "<NA>"
