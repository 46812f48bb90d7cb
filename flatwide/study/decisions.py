"""The file `decisions.csv` of a study that steers itself."""

import csv
import io
from collections.abc import Iterable, Sequence
from os import PathLike
from pathlib import Path

from flatwide import csv_cells
from flatwide.runs import disk
from flatwide.runs.directory import write_atomically

_COLUMNS = ("stage", "num_params", "seeds", "known", "chosen", "why")
VERDICT = "verdict"  # the stage of the last rows, whose `chosen` is a sentence


def write(workdir: str | PathLike, decisions: Iterable[Sequence], sentences: Iterable[str]) -> None:
    """Write what was known, what was chosen and why, and last the verdicts in sentences."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    rows = [*decisions, *((VERDICT, None, None, "", sentence, "") for sentence in sentences)]
    writer.writerows([_COLUMNS, *([csv_cells.encode(cell) for cell in row] for row in rows)])
    write_atomically(Path(workdir) / "decisions.csv", text.getvalue())


def sentence(workdir: str | PathLike) -> str:
    """Read the verdicts of a study that steers itself; empty for another study."""
    content = disk.read(Path(workdir) / "decisions.csv") or b""
    rows = csv.DictReader(io.StringIO(content.decode(errors="replace")))
    return " ".join(str(csv_cells.decode(row["chosen"])) for row in rows if row.get("stage") == VERDICT)
