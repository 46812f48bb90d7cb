"""The command `report`, for a work directory or a table."""

import argparse
from collections.abc import Callable
from pathlib import Path

from flatwide.config.parser import FlagParser

USAGE = """python main.py report W [--metric=test_metric] [--choose_by=COLUMN] [--tune=FIELD,FIELD]
                        [--formats=svg,pdf,latex] [--output=FILE]
python main.py report table.csv [--width=COLUMN] [--rho=COLUMN] [--seed=COLUMN] [--metric=COLUMN] [--lower_is_better]
                                [--choose_by=COLUMN] [--pick=last|best] [--epoch=COLUMN] [--axes=COLUMN,COLUMN]
                                [--formats=svg,pdf,latex] [--output=FILE]"""


def report(arguments: list[str]) -> str:
    """Write a report; return its headlines and its path.

    Args:
      arguments: the command line after `report`.
    Raises: ValueError, FileNotFoundError.
    """
    parser = FlagParser(USAGE)
    parser.add_argument("source", nargs="?")
    for name in ("metric", "output", "choose_by", "width", "rho", "seed", "pick", "epoch"):
        parser.add_argument(f"--{name}")
    parser.add_argument("--lower_is_better", action="store_true", default=None)
    for name in ("axes", "formats", "tune"):
        parser.add_argument(f"--{name}", type=lambda text: tuple(filter(None, text.split(","))))
    flags = parser.parse_args(arguments)
    if flags.help:
        return USAGE
    if not flags.source:
        parser.error("there is nothing to report on. Name a work directory or a CSV file")
    is_table = Path(flags.source).suffix.lower() in (".csv", ".tsv", ".txt") or Path(flags.source).is_file()
    foreign = ("tune",) if is_table else ("width", "rho", "seed", "lower_is_better", "axes", "pick", "epoch")
    if foreign_flags := [f"--{name}" for name in foreign if getattr(flags, name) is not None]:
        parser.error(
            f"{foreign_flags[0]} applies to a {'work directory' if is_table else 'table'}; {flags.source} is not one"
        )
    lines: list[str] = []
    path = _write_table(flags, lines.append) if is_table else _write(flags, lines.append)
    return "\n\n".join([*lines, f"report: {path}"])


def _write(flags: argparse.Namespace, tell: Callable[[str], None]) -> Path:
    from flatwide.report import workdir

    if not Path(flags.source).is_dir():
        raise FileNotFoundError(f"{flags.source}: expected a work directory with runs, or a CSV file.")
    options = {"metric": flags.metric, "choose_by": flags.choose_by, "tune": flags.tune, "path": flags.output}
    return workdir.write(flags.source, **options, formats=flags.formats, tell=tell)


def _write_table(flags: argparse.Namespace, tell: Callable[[str], None]) -> Path:
    from flatwide.report import csv_table

    return csv_table.write_table(
        flags.source,
        width=flags.width,
        rho=flags.rho,
        seed=flags.seed,
        metric=flags.metric,
        lower_is_better=flags.lower_is_better,
        choose_by=flags.choose_by,
        pick=flags.pick,
        epoch=flags.epoch,
        axes=flags.axes or (),
        formats=flags.formats or (),
        path=flags.output,
        tell=tell,
    )
