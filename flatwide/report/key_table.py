"""A table of text cells for a page, and the formatting of its numbers."""

import math
import re
from typing import Any, NamedTuple

Row = dict[str, Any]
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


def is_missing(value: Any) -> bool:
    """Whether a cell is empty or NaN."""
    return value is None or (isinstance(value, float) and math.isnan(value))


def width_text(value: Any) -> Any:
    """Return a tuple of layer sizes of the results table as `300-100`; any other value unchanged."""
    return "-".join(re.findall(r"\d+", value)) if isinstance(value, str) and _SIZES.fullmatch(value) else value


def rho(value: Any) -> str:
    """Return a radius as text, or a dash if it is missing."""
    return "–" if is_missing(value) else f"{value:g}"
