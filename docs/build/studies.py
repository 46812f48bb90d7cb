"""The descriptions of the studies, `docs/studies/NAME/study.toml`, from which `pages.py` writes the pages.

    place = 120                        # order in the tables
    question = "label noise"           # with `runs` and `data`, the row of the table of studies that ship
    runs = 315
    data = "MNIST"

    [grid]                             # part of the paper's grid; fields replace those of data that few machines have
    dataset = "made_sentiment"

    [results.half_wrong]               # a row of the table of results: the fields of `Result`
    data = "MNIST, 15,000 images, half of the labels wrong"
    model = "LeNet-300-100"
    claims = ["C1", "C2"]

    [[costs]]                          # a row of the table of costs
    runs = 72
    budget = 20                        # minutes; if it was written down before
    minutes = 17

Not a program.
"""

import functools
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from flatwide.analysis.estimates import Estimate

FOLDER = Path(__file__).parents[1] / "studies"


class Result(NamedTuple):
    """What was trained, and where its numbers are.

    study: the name. data, model: what was trained. anchor: of its section on the study's page.
    folder: of its tables, in that of the study. summary, gains: tables of one row a width, and of one a width and seed;
    the latter may be missing. where, gains_where: column -> value of the rows to read in each.
    tune: the field in which each arm is tuned, in a folder with `tuned_gain.csv` and `runs.csv`. higher_is_better: in
    those runs.
    panel: the title in the figure; empty leaves it out. table: of the page: "real", "synthetic" or "none".
    paper: workload and setting of the paper's values, as for `paper.paper_values`.
    claims: those it is judged by. without_noise: for C7, the same without label noise, `study.result`. without: for C9,
    what it lacks. curvature: for C10, the table of runs with measurements, and the rows to read.
    """

    study: str
    data: str
    model: str
    anchor: str = ""
    folder: str = ""
    summary: str = "summary.csv"
    gains: str = "gain_by_width.csv"
    where: Mapping[str, Any] = {}
    gains_where: Mapping[str, Any] = {}
    tune: str = ""
    higher_is_better: bool = True
    unit: str = "points"
    panel: str = ""
    table: str = "real"
    paper: Mapping[str, str] = {}
    claims: Sequence[str] = ()
    without_noise: str = ""
    without: str = ""
    curvature: Mapping[str, Any] = {}

    @property
    def name(self) -> str:
        """What was trained on what."""
        return f"{self.data}, {self.model}"

    @property
    def link(self) -> str:
        """The path of the page from docs/."""
        return f"studies/{self.study}.md{f'#{self.anchor}' if self.anchor else ''}"

    @property
    def is_percent(self) -> bool:
        """Whether the metric is a fraction, and a gain is in points."""
        return self.unit == "points"

    @property
    def factor(self) -> int:
        """The factor from the metric in the tables to the unit."""
        return 100 if self.is_percent else 1

    def in_unit(self, estimate: Estimate) -> Estimate:
        """Convert a gain from the metric in the tables to the unit."""
        return estimate.scaled(self.factor)

    def path(self, table: str) -> Path:
        """Return the path of one of its tables."""
        return FOLDER / self.study / self.folder / table


class Study(NamedTuple):
    """The description of a study; without a question it is no row of the table of studies.

    grid: None if it is not in the paper's grid.
    """

    name: str
    place: int
    question: str = ""
    runs: int = 0
    data: str = ""
    grid: Mapping[str, Any] | None = None
    results: Mapping[str, Result] = {}
    costs: Sequence[Mapping[str, Any]] = ()


@functools.cache
def studies() -> tuple[Study, ...]:
    """Read all descriptions, by place.

    Raises: TypeError for an unknown field; ValueError if two studies have one place.
    """
    read = [_read(path) for path in FOLDER.glob("*/study.toml")]
    if len({study.place for study in read}) < len(read):
        raise ValueError("two studies have the same place")
    return tuple(sorted(read, key=lambda study: study.place))


def _read(path: Path) -> Study:
    fields, name = tomllib.loads(path.read_text()), path.parent.name
    results = {key: Result(name, **result) for key, result in fields.pop("results", {}).items()}
    return Study(name, results=results, **fields)


def results() -> list[Result]:
    """List the results of all studies, in the order of the pages."""
    return [result for study in studies() for result in study.results.values()]


def judged(claim: str) -> list[Result]:
    """List the results that a claim is judged by."""
    return [result for result in results() if claim in result.claims]


def find(name: str) -> Result:
    """Return the result `study.result`."""
    study, _, key = name.partition(".")
    return next(item for item in studies() if item.name == study).results[key]
