"""Cells of CSV files: text that a spreadsheet would take for a formula is written so that it is shown as text."""

import re
from typing import Any

_FORMULA = re.compile(r"'*[=+\-@\t\r]")


def encode(value: Any) -> Any:
    """Return what stands in the file for a cell: an apostrophe before text that begins like a formula.

    Text that begins with apostrophes and then like a formula gets one more, so that `decode` gives back every text.
    Numbers, negative ones too, are left as they are.
    """
    return f"'{value}" if isinstance(value, str) and _FORMULA.match(value) else value


def decode(value: Any) -> Any:
    """Return the cell that `encode` has written."""
    return value[1:] if isinstance(value, str) and value.startswith("'") and _FORMULA.match(value) else value
