"""The text of metrics.csv: rows of numbers, which of them lead to a checkpoint, and the digest that proves them."""

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

Row = dict[str, float | None]

_SPLITS = ("train", "validation", "test")
AVERAGED = tuple(f"{split}_{what}_average" for split in _SPLITS[1:] for what in ("loss", "metric"))
COLUMNS = (
    "step",
    "epoch",
    "learning_rate",
    "running_train_loss",
    *(f"{split}_{what}" for split in _SPLITS for what in ("loss", "metric")),
    *AVERAGED,  # of runs that average their weights only
)


class Digest:
    """The number of rows that a run has written, and the SHA-256 of its header and rows.

    It is kept up as rows are appended, so that a checkpoint after 20,000 rows costs no more than one after ten.
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
    """Write rows so that every number is read back to the last bit; None, and what a row lacks, is empty."""
    lines = [",".join(_number_text(row.get(name)) for name in columns) for row in rows]
    return "".join(f"{line}\n" for line in lines).encode()


def decode(path: Path, content: bytes) -> list[Row]:
    """Read the rows of `metrics.csv`; a last line that a kill cut short is left out.

    Args:
      path: of the file, for errors.
    Raises: ValueError, naming the line, if another one is damaged.
    """
    lines = content.split(b"\n")[:-1]  # what follows the last line end is empty or torn
    columns = _columns(path, lines[0]) if lines else []
    return [_row(path, number, columns, line) for number, line in enumerate(lines[1:], start=2)]


def first(content: bytes, num_rows: int) -> bytes | None:
    """Return the header and the first rows, whatever comes after them; None where there are fewer."""
    if num_rows == 0:
        return b""
    lines = content.split(b"\n", num_rows + 1)
    return b"".join(line + b"\n" for line in lines[:-1]) if len(lines) == num_rows + 2 else None


def until(path: Path, content: bytes, step: int) -> bytes:
    """Return the header and the rows until a step, for a checkpoint that does not say how many lead to it.

    Steps ascend, so that nothing after the row of that step, or the first of a later one, needs to be readable.

    Raises: ValueError, naming the line, if one before that is damaged.
    """
    lines = content.split(b"\n")[:-1] if step > 0 else []
    columns = _columns(path, lines[0]) if lines else []
    kept = 0
    for number, line in enumerate(lines[1:], start=2):
        at = _row(path, number, columns, line)["step"] or 0
        kept += at <= step
        if at >= step:
            break
    return b"".join(line + b"\n" for line in lines[: kept + 1]) if kept else b""


def _columns(path: Path, line: bytes) -> list[str]:
    columns = _text(line).split(",")
    if len(set(columns)) < len(columns) or not {"step", "epoch"} <= set(columns) <= set(COLUMNS):
        raise ValueError(
            f"{path}: line 1 is {_text(line)[:200]!r}; expected names of columns, step and epoch and some of "
            f"{', '.join(COLUMNS[2:])}. Restore the file from a copy."
        )
    return columns


def _row(path: Path, number: int, columns: list[str], line: bytes) -> Row:
    try:
        entries = line.decode().rstrip("\r").split(",")
        return {name: _number(entry) for name, entry in zip(columns, entries, strict=True)}
    except ValueError:  # a UnicodeDecodeError is one
        raise ValueError(
            f"{path}: line {number} is {_text(line)[:80]!r}; expected {len(columns)} numbers, as its first line says. "
            "Restore the file from a copy."
        ) from None


def _text(line: bytes) -> str:
    return line.decode(errors="backslashreplace").rstrip("\r")


def _number_text(value: Any) -> str:
    """Write a number so that reading it gives the same number."""
    value = value.item() if hasattr(value, "item") else value
    if value is None:
        return ""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(f"metrics.csv: {value!r} is not a number; a row holds numbers only.")
    return repr(value)


def _number(text: str) -> float | None:
    if not text:
        return None
    try:
        return int(text)
    except ValueError:
        return float(text)
