"""A table of text cells for a page, each with its heading, and the formatting of its numbers."""

import math
import re
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple, TypeAlias

from flatwide.analysis import fields
from flatwide.analysis.metrics import Units

Row = dict[str, Any]
Cells: TypeAlias = list[tuple[str, str]]  # of one row: heading of the column, text
Front: TypeAlias = Callable[[Row], Cells]
_SIZES = re.compile(r"\((\d+,)*\d+,?\)")  # `(300,100)` or `(30,)`, as the results table has them


class KeyTable(NamedTuple):
    """A table of text cells; the first cell of a row is its header.

    caption: a short one for papers, where the title is a question; empty is the title.
    """

    name: str
    title: str
    note: str
    columns: list[str]
    rows: list[list[str]]
    caption: str = ""


def key_table(name: str, rows: Iterable[Cells], *, title: str, note: str, caption: str = "") -> KeyTable:
    """Return the table of some rows, which have the same headings."""
    filled = list(rows)
    return KeyTable(
        name=name,
        title=title,
        note=note,
        columns=[heading for heading, _ in filled[0]] if filled else [],
        rows=[[text for _, text in row] for row in filled],
        caption=caption,
    )


def front_of(rows: list[Row], runs: list[Row], parts: list[str]) -> Front:
    """Return the function of a row that gives its first cells: the part of the runs, the sizes that distinguish the
    widths of the table, and the number of parameters.
    """
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

    def front(row: Row) -> Cells:
        cells = [(name, "" if is_missing(row.get(name)) else str(row[name])) for name in parts]
        cells += [(name, str(width_text(next(iter(of_size[name][row["num_params"]]))))) for name in sizes]
        return [*cells, ("parameters", f"{int(row['num_params']):,}")]

    return front


def is_missing(value: Any) -> bool:
    """Whether a cell is empty or NaN."""
    return value is None or (isinstance(value, float) and math.isnan(value))


def width_text(value: Any) -> Any:
    """Return a tuple of layer sizes of the results table as `300-100`; any other value unchanged."""
    return "-".join(re.findall(r"\d+", value)) if isinstance(value, str) and _SIZES.fullmatch(value) else value


def number(value: Any, form: str = "g") -> str:
    """Return a number, such as a radius, as text, or a dash if it is missing."""
    return "–" if is_missing(value) else format(value, form)


def bracketed(write: Units, value: float, low: float, high: float) -> str:
    """Return a gain with its interval in brackets."""
    return f"{write.gain(value)} ({write.interval(low, high)})"
