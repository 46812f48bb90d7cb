"""The command `report`, for a work directory or a table."""

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

from flatwide.config.parser import FlagParser
from flatwide.runs import storage

USAGE = """python main.py report W [--metric=COLUMN,COLUMN] [--choose_by=COLUMN] [--tune=FIELD,FIELD]
                        [--formats=svg,pdf,latex,json] [--output=FILE] [--card=FILE]
python main.py report table.csv [--width=COLUMN] [--rho=COLUMN] [--seed=COLUMN] [--metric=COLUMN] [--lower_is_better]
                                [--choose_by=COLUMN] [--tune=COLUMN,COLUMN] [--pick=last|best]
                                [--epoch=COLUMN] [--axes=COLUMN,COLUMN]
                                [--formats=svg,pdf,latex,json] [--output=FILE] [--card=FILE]"""

_TABLE_FLAGS = {"width": "the width", "rho": "rho", "seed": "the seed", "epoch": "the epoch"}


def report(arguments: list[str]) -> str:
    """Write a report; return the short answer and its path.

    Args:
      arguments: the command line after `report`.
    Raises: ValueError, FileNotFoundError.
    """
    from flatwide.report import card

    parser = _parser()
    flags = parser.parse_args(arguments)
    if not flags.source:
        parser.error("there is nothing to report on. Name a work directory or a CSV file")
    is_table = Path(flags.source).suffix.lower() in (".csv", ".tsv", ".txt") or Path(flags.source).is_file()
    foreign = () if is_table else ("width", "rho", "seed", "lower_is_better", "axes", "pick", "epoch")
    if foreign_flags := [f"--{name}" for name in foreign if getattr(flags, name) is not None]:
        parser.error(f"{foreign_flags[0]} applies to a table; {flags.source} is not one")
    if flags.card:
        card.check(flags.card)
    lines: list[str] = []
    with storage.local(flags.source) as source:
        if storage.is_remote(flags.source) and not flags.output:
            flags.output = f"{source.stem if is_table else source.name}.report.html"
        path = (_write_table if is_table else _write)(source, flags, lines.append)
    return "\n".join([*lines, f"report: {path}", *([f"card: {flags.card}"] if flags.card else [])])


def _parser() -> FlagParser:
    parser = FlagParser(
        USAGE,
        description="Write the answer, figures and tables of a work directory or of a table of runs as one HTML file.",
        example="python main.py report runs/demo --formats=svg,pdf",
    )
    parser.add_argument("source", nargs="?", metavar="W | table.csv", help="folder or CSV file of runs, or its address")
    text = "column to compare, of a work directory also several (default: that of the last report)"
    parser.add_argument("--metric", metavar="COLUMN", help=text)
    parser.add_argument("--choose_by", metavar="COLUMN", help="column that chooses rho (default: the metric)")
    parser.add_argument("--output", metavar="FILE", help="path of the page (default: report.html beside the runs)")
    text = "picture of the headline, for a README or a slide: card.svg or card.png (default: none)"
    parser.add_argument("--card", type=Path, metavar="FILE", help=text)
    texts: dict[str, Any] = {"type": lambda text: tuple(filter(None, map(str.strip, text.split(","))))}
    parser.add_argument(
        "--formats", **texts, metavar="svg,pdf,latex,json", help="files to write: figures, tables, the answer"
    )
    text = "fields in which base and SAM are tuned separately (default: those of the last report; none for a table)"
    parser.add_argument("--tune", **texts, metavar="FIELD,FIELD", help=text)
    table = parser.add_argument_group("of a table only")
    for name, text in _TABLE_FLAGS.items():
        table.add_argument(f"--{name}", metavar="COLUMN", help=f"column of {text} (default: found by its name)")
    table.add_argument("--lower_is_better", action="store_true", default=None, help="whether a lower metric is better")
    table.add_argument("--axes", **texts, metavar="COLUMN,COLUMN", help="further columns that runs differ in")
    table.add_argument("--pick", metavar="last|best", help="row of each run that counts (default: one row per run)")
    return parser


def _write(source: Path, flags: argparse.Namespace, tell: Callable[[str], None]) -> Path:
    from flatwide.report import workdir

    if not source.is_dir():
        raise FileNotFoundError(f"{flags.source}: expected a work directory with runs, or a CSV file.")
    options = {
        "metric": flags.metric and tuple(flags.metric.split(",")) if "," in (flags.metric or "") else flags.metric,
        "choose_by": flags.choose_by,
        "tune": flags.tune,
        "path": flags.output,
        "card_path": flags.card,
    }
    name = flags.source if storage.is_remote(flags.source) else None
    return workdir.write(source, **options, formats=flags.formats, name=name, tell=tell)


def _write_table(source: Path, flags: argparse.Namespace, tell: Callable[[str], None]) -> Path:
    from flatwide.report import csv_table

    return csv_table.write_table(
        source,
        width=flags.width,
        rho=flags.rho,
        seed=flags.seed,
        metric=flags.metric,
        lower_is_better=flags.lower_is_better,
        choose_by=flags.choose_by,
        pick=flags.pick,
        epoch=flags.epoch,
        axes=flags.axes or (),
        tune=flags.tune or (),
        formats=flags.formats or (),
        path=flags.output,
        card_path=flags.card,
        tell=tell,
    )
