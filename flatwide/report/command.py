"""The command `report`, for a work directory or a table."""

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

_OF_TABLES = ("width", "rho", "seed", "lower_is_better", "axes", "pick", "epoch")


def report(arguments: list[str]) -> str:
    """Write a report; return the short answer and its path.

    Args:
      arguments: the command line after `report`.
    Raises: ValueError, FileNotFoundError.
    """
    from flatwide.report import card, csv_table, workdir

    parser = _parser()
    flags = parser.parse_args(arguments)
    if not flags.source:
        parser.error("there is nothing to report on. Name a work directory or a CSV file")
    is_table = Path(flags.source).suffix.lower() in (".csv", ".tsv", ".txt") or Path(flags.source).is_file()
    given: dict[str, Any] = {name: value for name, value in vars(flags).items() if value is not None}
    given = {name: value for name, value in given.items() if name not in ("source", "help")}
    if not is_table and (foreign := [name for name in _OF_TABLES if name in given]):
        parser.error(f"--{foreign[0]} applies to a table; {flags.source} is not one")
    if not is_table and "," in given.get("metric", ""):
        given["metric"] = tuple(flags.metric.split(","))
    if flags.card_path:
        card.check(flags.card_path)
    lines: list[str] = []
    with storage.local(flags.source) as source:
        if storage.is_remote(flags.source):
            given = {"path": f"{source.stem if is_table else source.name}.report.html"} | given
            given |= {} if is_table else {"name": flags.source}
        if not is_table and not source.is_dir():
            raise FileNotFoundError(f"{flags.source}: expected a work directory with runs, or a CSV file.")
        path = (csv_table.write_table if is_table else workdir.write)(source, **given, tell=lines.append)
    return "\n".join([*lines, f"report: {path}", *([f"card: {flags.card_path}"] if flags.card_path else [])])


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
    text = "path of the page (default: report.html beside the runs)"
    parser.add_argument("--output", dest="path", metavar="FILE", help=text)
    text = "picture of the headline, for a README or a slide: card.svg or card.png (default: none)"
    parser.add_argument("--card", dest="card_path", type=Path, metavar="FILE", help=text)
    texts: dict[str, Any] = {"type": lambda text: tuple(filter(None, map(str.strip, text.split(","))))}
    parser.add_argument(
        "--formats", **texts, metavar="svg,pdf,latex,json", help="files to write: figures, tables, the answer"
    )
    text = "fields in which base and SAM are tuned separately (default: those of the last report; none for a table)"
    parser.add_argument("--tune", **texts, metavar="FIELD,FIELD", help=text)
    table = parser.add_argument_group("of a table only")
    for name in ("width", "rho", "seed", "epoch"):
        text = f"column of {'' if name == 'rho' else 'the '}{name} (default: found by its name)"
        table.add_argument(f"--{name}", metavar="COLUMN", help=text)
    table.add_argument("--lower_is_better", action="store_true", default=None, help="whether a lower metric is better")
    table.add_argument("--axes", **texts, metavar="COLUMN,COLUMN", help="further columns that runs differ in")
    table.add_argument("--pick", metavar="last|best", help="row of each run that counts (default: one row per run)")
    return parser
