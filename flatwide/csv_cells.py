"""Cells of CSV files, escaped so that a spreadsheet does not execute text as a formula."""

import re
from typing import Any

_FORMULA = re.compile(r"'*[=+\-@\t\r]")


def encode(value: Any) -> Any:
    """Escape a cell: put an apostrophe before text that begins like a formula.

    Text that begins with apostrophes followed by the start of a formula gets one more, so that `decode` is exact.
    Numbers, including negative ones, are unchanged.
    """
    return f"'{value}" if isinstance(value, str) and _FORMULA.match(value) else value


def decode(value: Any) -> Any:
    """Return the cell that `encode` escaped."""
    return value[1:] if isinstance(value, str) and value.startswith("'") and _FORMULA.match(value) else value
