"""The first columns of tables: the part of the runs, the width and the size."""

from collections.abc import Callable
from typing import Any, NamedTuple

from flatwide.analysis import fields
from flatwide.report.key_table import Row, is_missing, width_text


class Front(NamedTuple):
    """The first columns of a table: the part of the runs, the width and the size."""

    columns: list[str]
    cells: Callable[[Row], list[str]]


def front_of(rows: list[Row], runs: list[Row], parts: list[str]) -> Front:
    """Return the first columns of a table: those of the parts, and the sizes that distinguish its widths."""
    of_size: dict[str, dict[Any, set[Any]]] = {name: {} for name in fields.SHAPES if name not in parts}
    for run in runs:
        for name, seen in of_size.items():
            seen.setdefault(run.get("num_params"), set()).add(run.get(name))
    sizes = [
        name
        for name, seen in of_size.items()
        if all(len(seen.get(row["num_params"], ())) == 1 for row in rows)
        and len({value for row in rows for value in seen[row["num_params"]]}) > 1
    ]

    def cells(row: Row) -> list[str]:
        size = [str(width_text(next(iter(of_size[name][row["num_params"]])))) for name in sizes]
        part_cells = ["" if is_missing(row.get(name)) else str(row[name]) for name in parts]
        return [*part_cells, *size, f"{int(row['num_params']):,}"]

    return Front([*parts, *sizes, "parameters"], cells)
