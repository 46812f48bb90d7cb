"""The text of metrics.csv: its rows of numbers, those up to a checkpoint, and their digest."""

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

Row = dict[str, float | None]

_SPLITS = ("train", "validation", "test")
AVERAGED = tuple(f"{split}_{kind}_average" for split in _SPLITS[1:] for kind in ("loss", "metric"))
COLUMNS = (
    "step",
    "epoch",
    "learning_rate",
    "running_train_loss",
    *(f"{split}_{kind}" for split in _SPLITS for kind in ("loss", "metric")),
    *AVERAGED,  # of runs that average their weights only
)


class Digest:
    """The number of rows that a run has written, and the SHA-256 of its header and rows.

    It is updated as rows are appended, so a checkpoint after 20,000 rows costs no more than one after ten.
    """

    def __init__(self, content: bytes = b""):
        self._hash, self._num_lines = hashlib.sha256(), 0
        self.update(content)

    def update(self, content: bytes) -> None:
        """Add whole lines; the first is the header."""
        self._hash.update(content)
        self._num_lines += content.count(b"\n")

    @property
    def num_rows(self) -> int:
        """Count the rows, without the header."""
        return max(0, self._num_lines - 1)

    def hexdigest(self) -> str:
        """Return the SHA-256 in hexadecimal."""
        return self._hash.hexdigest()


def encode(columns: Sequence[str], rows: Sequence[Mapping[str, float | None]]) -> bytes:
    """Write rows with every bit of each number; None and missing values are empty."""
    lines = [",".join(_number_text(row.get(name)) for name in columns) for row in rows]
    return "".join(f"{line}\n" for line in lines).encode()


def decode(path: Path, content: bytes) -> list[Row]:
    """Read the rows of `metrics.csv`; a last line that a kill cut short is left out.

    Args:
      path: of the file, for errors.
    Raises: ValueError, naming the line, if another one is damaged.
    """
    lines = content.split(b"\n")[:-1]  # the text after the last line end is empty or incomplete
    columns = _columns(path, lines[0]) if lines else []
    return [_row(path, number, columns, line) for number, line in enumerate(lines[1:], start=2)]


def first(content: bytes, num_rows: int) -> bytes | None:
    """Return the header and the first `num_rows` rows; None if there are fewer."""
    if num_rows == 0:
        return b""
    lines = content.split(b"\n", num_rows + 1)
    return b"".join(line + b"\n" for line in lines[:-1]) if len(lines) == num_rows + 2 else None


def until(path: Path, content: bytes, step: int) -> bytes:
    """Return the header and the rows up to a step, for a checkpoint that does not record their number.

    Steps ascend, so nothing after the row of that step, or the first row of a later step, needs to be readable.

    Raises: ValueError, naming the line, if one before that is damaged.
    """
    lines = content.split(b"\n")[:-1] if step > 0 else []
    columns = _columns(path, lines[0]) if lines else []
    num_rows = 0
    for number, line in enumerate(lines[1:], start=2):
        at = _row(path, number, columns, line)["step"] or 0
        num_rows += at <= step
        if at >= step:
            break
    return b"".join(line + b"\n" for line in lines[: num_rows + 1]) if num_rows else b""


def _columns(path: Path, line: bytes) -> list[str]:
    columns = _text(line).split(",")
    if len(set(columns)) < len(columns) or not {"step", "epoch"} <= set(columns) <= set(COLUMNS):
        raise ValueError(
            f"{path}: line 1 is {_text(line)[:200]!r}; expected column names: step and epoch and some of "
            f"{', '.join(COLUMNS[2:])}. Restore the file from a copy."
        )
    return columns


def _row(path: Path, number: int, columns: list[str], line: bytes) -> Row:
    try:
        cells = line.decode().rstrip("\r").split(",")
        return {name: _number(cell) for name, cell in zip(columns, cells, strict=True)}
    except ValueError:  # a UnicodeDecodeError is one
        raise ValueError(
            f"{path}: line {number} is {_text(line)[:80]!r}; expected {len(columns)} numbers, as its first line says. "
            "Restore the file from a copy."
        ) from None


def _text(line: bytes) -> str:
    return line.decode(errors="backslashreplace").rstrip("\r")


def _number_text(value: Any) -> str:
    """Write a number so that it is read back unchanged."""
    value = value.item() if hasattr(value, "item") else value
    if value is None:
        return ""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(f"metrics.csv: {value!r} is not a number; a row can contain only numbers.")
    return repr(value)


def _number(text: str) -> float | None:
    if not text:
        return None
    try:
        return int(text)
    except ValueError:
        return float(text)
