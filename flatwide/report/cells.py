"""Validation of the cells of a table of runs that were trained elsewhere."""

import math
import re
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from flatwide import registry
from flatwide.columns import RESULT_FIELDS
from flatwide.config import SCHEMA
from flatwide.report.run_table import is_metric

if TYPE_CHECKING:
    import pandas as pd

_SCALARS = ("int", "float")  # kinds of config fields

_MOST = 2**53  # beyond it a float is no exact whole number
_MULTIPLES = {"k": 10**3, "m": 10**6, "b": 10**9}


class _Kind(NamedTuple):
    """The values that a column accepts, and how to fix any other."""

    expected: str
    is_right: Callable[[float], bool]
    fix: str


_KINDS = {
    "width": _Kind(
        "a whole number of at least 1",
        lambda value: 1 <= value <= _MOST and value == round(value),
        "Correct the cell; write sizes in full, such as 500000 for 0.5 million.",
    ),
    "rho": _Kind(
        "a number >= 0 (0 is the base)", lambda value: value >= 0, "Correct the cell; a base run, without SAM, has 0."
    ),
    "seed": _Kind(
        "a whole number", lambda value: abs(value) <= _MOST and value == round(value), "Number the seeds 0, 1, 2, …"
    ),
}
_RESULT = _Kind("a number", lambda value: True, "Correct the cell, or empty it if the run has no result.")


def numbers(runs: Any, name: str, columns: Mapping[str, str]) -> "pd.DataFrame":
    """Return the table with its four columns as numbers.

    Args:
      runs: the table; its index counts the rows from 0.
      name: of the file, for messages.
      columns: the column names by role: "width", "rho", "seed", "metric" and optionally "choose_by". The last two may
        have empty cells.
    Raises: ValueError for the first cell with another value, with its row and how to fix it.
    """
    read: dict[str, Any] = {column: _column(runs[column], role, name) for role, column in columns.items()}
    return runs.assign(**read)


def check_own(column: Any, name: str, *, is_fraction: Any) -> None:
    """Raise ValueError for text in a column of numbers, or a score that is not the fraction that its metric is.

    Args:
      is_fraction: for each row, whether its metric is one in [0, 1].
    """
    import pandas as pd

    field, setting = RESULT_FIELDS.get(column.name), SCHEMA.get(column.name)
    is_measured = "." in column.name and is_metric(column.name)
    if not (is_measured or (field and field.kind in (int, (int, float))) or (setting and setting.kind in _SCALARS)):
        return
    read: Any = pd.to_numeric(column, errors="coerce")
    is_score = column.name.startswith(("test_", "train_", "validation_")) and "metric" in column.name
    for is_wrong, expected in (
        (read.isna() & column.notna(), "a number"),
        (is_fraction & ~read.between(0, 1) & read.notna() & is_score, "a fraction in [0, 1]"),
    ):
        if is_wrong.any():
            row = is_wrong.tolist().index(True)
            raise ValueError(
                f"{where(column, row, name)} holds {registry.shown(column.tolist()[row])}; expected {expected}. "
                "Restore the cell, or report on W itself."
            )


def fractions(column: "pd.Series", name: str) -> tuple["pd.Series", bool]:
    """Return accuracies as fractions, and whether they were in percent.

    Raises: ValueError for a value outside 0 to 100, or a mix of fractions and percentages.
    """
    values: list[float] = column.tolist()
    beyond = [index for index, value in enumerate(values) if not math.isnan(value) and not 0 <= value <= 100]
    if beyond:
        raise ValueError(
            f"{where(column, beyond[0], name)} holds {values[beyond[0]]:g}; expected an accuracy: fractions from 0 to "
            "1, or percent to 100. Correct the cell, or name another column with --metric=."
        )
    percent = [index for index, value in enumerate(values) if value > 1]
    small = [index for index, value in enumerate(values) if 0 < value <= 1]
    if percent and small:
        raise ValueError(
            f"{where(column, small[0], name)} holds {values[small[0]]:g}, and row {column.index[percent[0]] + 1} "
            f"{values[percent[0]]:g}; expected all fractions or all percent. Write every accuracy as a fraction "
            "from 0 to 1."
        )
    return (column / 100, True) if percent else (column, False)


def _column(column: "pd.Series", role: str, name: str) -> Any:
    import pandas as pd

    kind = _KINDS.get(role, _RESULT)
    read: Any = pd.to_numeric(column, errors="coerce")
    cells = zip(column.tolist(), read.tolist(), column.isna().tolist(), strict=True)
    for index, (cell, value, missing) in enumerate(cells):
        if missing and role in _KINDS:
            fix = kind.fix.replace("Correct the cell", "Fill it in, or remove the row")
            raise ValueError(f"{where(column, index, name)} is empty; expected {kind.expected}. {fix}")
        if not missing and not (math.isfinite(value) and kind.is_right(value)):
            shown = registry.shown(cell) if isinstance(cell, str) else f"{cell:g}"
            fix = _hint(cell) or kind.fix
            raise ValueError(f"{where(column, index, name)} holds {shown}; expected {kind.expected}. {fix}")
    return read.astype("int64" if role in ("width", "seed") else "float64")


def where(column: "pd.Series", index: int, name: str) -> str:
    """Return the place of a cell, as messages begin."""
    return f"{name}, row {column.index[index] + 1} below the header: the column {column.name!r}"


def listed(table: "pd.DataFrame") -> str:
    """Return the columns of a table, as messages end."""
    return f"its columns are {', '.join(map(str, table.columns))}"


def _hint(cell: Any) -> str:
    """Return how to rewrite a text that a person would read as a number; empty for other texts."""
    text = str(cell).strip()
    if re.fullmatch(r"[-+]?[\d.]+\s*%", text):
        return f"Write {text.rstrip('% ')}, and remove the percent sign from the whole column."
    if re.fullmatch(r"[-+]?\d+(,\d+)+", text):
        return "Write decimals with a point, such as 71.18, and thousands without a separator, such as 1000."
    if match := re.fullmatch(r"(\d+\.?\d*)\s*([kmb])", text, re.IGNORECASE):
        return f"Write it in full: {float(match[1]) * _MULTIPLES[match[2].lower()]:.0f}."
    return ""
