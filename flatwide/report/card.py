"""The verdict card: headline, small figure and origin of a study in one picture, for a README or a slide."""

import struct
import textwrap
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from flatwide.analysis import fields, table
from flatwide.answers import headline
from flatwide.figures import rendering
from flatwide.figures.gallery import Figure
from flatwide.report import charts, facts
from flatwide.report.content import Source
from flatwide.runs.directory import write_atomically

FORMATS = ("svg", "png")
_MARK = b"Software\0flatwide"  # a text chunk of PNG
_COMMENT = b"<!-- Software: flatwide -->\n"
_LINE = 68  # characters that fit above the figure
_MOST_NAMED = 3


def check(path: Path) -> None:
    """Raise ValueError if the path has another suffix, or is of a file that flatwide did not write."""
    if path.suffix.lower().lstrip(".") not in FORMATS:
        raise ValueError(f"--card={path}: expected a name that ends in .svg or .png, such as card.svg.")
    if path.exists() and not (path.is_file() and any(mark in path.read_bytes() for mark in (_MARK, _COMMENT))):
        raise ValueError(f"--card={path}: flatwide did not write this and will not replace it; choose another name.")
    if not path.parent.is_dir():
        raise ValueError(f"--card={path}: there is no folder {path.parent}; make it first.")


def write(
    path: Path,
    split: table.Split,
    lines: Sequence[headline.Headline],
    source: Source,
    figures: Sequence[tuple[Figure, dict[str, Any]]],
) -> None:
    """Write the card of a table, with its first figure.

    Args:
      lines: its headlines. figures: with their specs.
    Raises: ValueError if there is no figure; RenderingError.
    """
    if not figures or not lines:
        raise ValueError(f"--card={path}: there is no width with base and SAM runs, so no headline.")
    named = [f"{line.part}: {line.text}" if line.part else line.text for line in lines[:_MOST_NAMED]]
    spec = charts.still(figures[0][1])
    notes = spec["title"].get("subtitle", [])[:1]  # what dots and bars are
    title = {
        "text": [part for line in named for part in textwrap.wrap(line.replace(" %", "\u00a0%"), _LINE)],
        "subtitle": [part for line in [*origin(split, source), *notes] for part in textwrap.wrap(line, _LINE + 14)],
        "anchor": "start",
        "offset": 12,
    }
    kind = path.suffix.lower().lstrip(".")
    spec |= {"title": title, "padding": 20}
    (drawn,) = rendering.render([rendering.Job(kind, spec)])
    write_atomically(path, drawn + _COMMENT if kind == "svg" else _marked(drawn))


def origin(split: table.Split, source: Source) -> list[str]:
    """List data, models, seeds, runs and the command of a table."""
    runs = [run for run in fields.records(split.runs) if run["status"] in facts.DONE]
    columns = ("dataset", "model", "seed")
    data, models, seeds = (sorted({str(run[name]) for run in runs if run.get(name) is not None}) for name in columns)
    num_seeds = f"{len(seeds)} seed{'s' * (len(seeds) != 1)}"
    texts = [", ".join(data), ", ".join(models), num_seeds, f"runs: {facts.counts(runs)}"]
    recorded = facts.recorded(source.commands)
    command = recorded[-1].commands.splitlines()[-1] if recorded else source.earlier_command
    return [" · ".join(filter(None, texts)), command or f"python main.py report {source.name}"]


def _marked(png: bytes) -> bytes:
    """Add a text chunk before the last chunk of a PNG, which has 12 bytes."""
    chunk = b"tEXt" + _MARK
    return png[:-12] + struct.pack(">I", len(_MARK)) + chunk + struct.pack(">I", zlib.crc32(chunk)) + png[-12:]
