"""The cells of somebody's table: whether each can be read as what its column is for."""

import math
import re
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    import pandas as pd

_MOST = 2**53  # beyond it a float is no exact whole number
_MULTIPLES = {"k": 10**3, "m": 10**6, "b": 10**9}


class _Kind(NamedTuple):
    """What the cells of a column must be, and what to do where one is not."""

    expected: str
    is_right: Callable[[float], bool]
    mend: str


_KINDS = {
    "width": _Kind(
        "a whole number of at least 1",
        lambda value: 1 <= value <= _MOST and value == round(value),
        "Correct the cell; sizes in thousands or millions must be multiplied out, so that 0.5 million is 500000.",
    ),
    "rho": _Kind(
        "a number >= 0 (0 is the base)", lambda value: value >= 0, "Correct the cell; a base run, without SAM, has 0."
    ),
    "seed": _Kind(
        "a whole number", lambda value: abs(value) <= _MOST and value == round(value), "Number the seeds 0, 1, 2, …"
    ),
    "metric": _Kind("a number", lambda value: True, "Correct the cell, or empty it if the run has no result."),
    "choose_by": _Kind("a number", lambda value: True, "Correct the cell, or empty it if the run has no result."),
}


def numbers(found: Any, name: str, columns: Mapping[str, str]) -> "pd.DataFrame":
    """Read the four columns as numbers.

    Args:
      found: the table; its index counts the rows from 0.
      name: of the file, for messages.
      columns: "width", "rho", "seed", "metric" and perhaps "choose_by" -> the column that is it. The last two may
        have empty cells.
    Raises: ValueError for the first cell that is something else, with its row and what would mend it.
    """
    read: dict[str, Any] = {column: _column(found[column], what, name) for what, column in columns.items()}
    return found.assign(**read)


def fractions(column: "pd.Series", name: str) -> tuple["pd.Series", bool]:
    """Read accuracies as fractions, and tell whether they were percent.

    Raises: ValueError if there is none that all of them can be.
    """
    values: list[float] = column.tolist()
    beyond = [place for place, value in enumerate(values) if not math.isnan(value) and not 0 <= value <= 100]
    if beyond:
        raise ValueError(
            f"{_where(column, beyond[0], name)} holds {values[beyond[0]]:g}; expected an accuracy: fractions from 0 to "
            "1, or percent to 100. Correct the cell, or name another column with --metric=."
        )
    percent = [place for place, value in enumerate(values) if value > 1]
    small = [place for place, value in enumerate(values) if 0 < value <= 1]
    if percent and small:
        raise ValueError(
            f"{_where(column, small[0], name)} holds {values[small[0]]:g}, and row {column.index[percent[0]] + 1} "
            f"{values[percent[0]]:g}; expected all fractions or all percent. Write every accuracy as a fraction "
            "from 0 to 1."
        )
    return (column / 100, True) if percent else (column, False)


def _column(column: "pd.Series", what: str, name: str) -> Any:
    import pandas as pd

    kind = _KINDS[what]
    read: Any = pd.to_numeric(column, errors="coerce")
    for place, (cell, value, missing) in enumerate(
        zip(column.tolist(), read.tolist(), column.isna().tolist(), strict=True)
    ):
        where = _where(column, place, name)
        if missing and what not in ("metric", "choose_by"):
            raise ValueError(f"{where} is empty; expected {kind.expected}. {_filled(kind, what)}")
        if not missing and not (math.isfinite(value) and kind.is_right(value)):
            shown = repr(cell) if isinstance(cell, str) else f"{cell:g}"
            raise ValueError(f"{where} holds {shown}; expected {kind.expected}. {_hint(cell) or kind.mend}")
    return read.astype("int64" if what in ("width", "seed") else "float64")


def _where(column: "pd.Series", place: int, name: str) -> str:
    return f"{name}, row {column.index[place] + 1} below the names: the column {column.name!r}"


def _filled(kind: _Kind, what: str) -> str:
    return kind.mend.replace("Correct the cell", "Fill it in, or leave the row out") if what != "seed" else kind.mend


def _hint(cell: Any) -> str:
    """Say what is wrong with a text that a person would read as a number."""
    text = str(cell).strip()
    if re.fullmatch(r"[-+]?[\d.]+\s*%", text):
        return f"Write {text.rstrip('% ')}, and so in the whole column: percent need no sign."
    if re.fullmatch(r"[-+]?\d+(,\d+)+", text):
        return "Write decimals with a point, such as 71.18, and thousands without a mark, such as 1000."
    if found := re.fullmatch(r"(\d+\.?\d*)\s*([kmb])", text, re.IGNORECASE):
        return f"Write it in full: {float(found[1]) * _MULTIPLES[found[2].lower()]:.0f}."
    return ""
