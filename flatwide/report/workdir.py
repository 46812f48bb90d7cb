"""Reports of work directories."""

import functools
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flatwide import catalogue, registry
from flatwide.analysis import fields, several
from flatwide.answers import joint
from flatwide.report import output
from flatwide.report.content import Source
from flatwide.report.exports import FORMATS, export
from flatwide.report.run_table import is_metric
from flatwide.runs import commands, disk, records
from flatwide.runs.averages import averaged
from flatwide.runs.directory import RunDirectory, run_directories, sweep
from flatwide.runs.logs import say
from flatwide.runs.table import Reading, read_runs, tabulate
from flatwide.study import decisions, question

if TYPE_CHECKING:
    import pandas as pd

_PAGE = "report.html"


def write(
    workdir: Path | str,
    *,
    metric: str | Sequence[str] | None = None,
    choose_by: str | None = None,
    tune: Sequence[str] | None = None,
    average_last: int | None = None,
    num_planned: int | None = None,
    formats: Sequence[str] | None = None,
    path: Path | str | None = None,
    name: str | None = None,
    card_path: Path | None = None,
    tell: Callable[[str], None] = lambda text: None,
) -> Path:
    """Write `report.html`, `summary.csv` and `figures/` of a work directory.

    Args:
      metric: the column to compare, or several of which the first is the headline's; None is that of the last report,
        else `test_metric`.
      choose_by: the column that rho is chosen by; None is the validation metric if every run has one, else `metric`.
      tune: fields that base and SAM are tuned in separately; None is those of the last report.
      average_last: evaluations of a run whose mean is its score; None is as in the last report, else 1.
      num_planned: the number of runs of the study; None is that of the last report.
      formats: of the figures and tables beside the page: some of "svg", "pdf", "latex", "json"; None is "svg", or
        no formats if there is a path. Without formats no figures are written, which suits a study that rewrites its
        page while it runs.
      path: of the page; None is `report.html` in the work directory. With a path, nothing is written into the work
        directory, and figures and summary go into a folder beside the page.
      name: of the work directory on the page; None is its path.
      card_path, tell: as for `exports.export`.
    Returns: the path of the page.
    Raises: ValueError if there is no run, a column is missing or no metric, or a file in the way is not flatwide's.
    """
    workdir = Path(workdir)
    if path is None:
        sweep(workdir)
    page_path = Path(path) if path else workdir / _PAGE
    output.check_page(page_path)
    formats = FORMATS[: 0 if path else 1] if formats is None else formats
    readings = read_runs(workdir)
    runs = tabulate(readings)
    if not len(runs):
        raise ValueError(f"{workdir}: expected a work directory with a run in runs/; train one first.")
    _check_columns(runs, metrics=question.metrics_of(metric), choose_by=choose_by, tune=tune or ())  # before storing
    _say_earlier(workdir, readings)
    given = {"metric": metric, "choose_by": choose_by, "tune": tune, "average_last": average_last}
    settings = question.settle(workdir, is_stored=not path, **given, num_planned=num_planned)
    metrics, last = question.metrics_of(settings["metric"]), settings.get("average_last", 1)
    beside = output.folder_beside(page_path)
    if path and formats:
        output.claim_folder(beside)
    asked = {name: settings[name] for name in ("choose_by", "tune") if settings[name]}
    split, *others = several.splits(averaged(workdir, runs, last), metrics, **asked)
    verdict = decisions.sentence(workdir)
    source = Source(
        name=name or str(workdir),
        commands=tuple(commands.read(workdir)),
        earlier_command=str(settings.get("command") or ""),
        num_planned=settings["num_planned"],
        verdict=verdict,
        identities={name: run.beside for name, run in readings.items()},
        notes=joint.notes(metrics, last, [split, *others], is_steered=bool(verdict)),
    )
    return export(
        split,
        source,
        others=others,
        page_path=page_path,
        summary_path=(beside / "summary.csv" if formats else None) if path else workdir / "summary.csv",
        folder=beside if path else workdir / "figures",
        curves=Curves(workdir),
        series=Series(workdir),
        arrays=Arrays(workdir),
        formats=formats,
        card_path=card_path,
        tell=tell,
    )


def _check_columns(runs: "pd.DataFrame", *, metrics: Sequence[str], choose_by: str | None, tune: Sequence[str]) -> None:
    """Raise ValueError for a column that is missing or cannot have its role."""
    known_metrics, settings = list(filter(is_metric, runs.columns)), list(filter(fields.is_config, runs.columns))
    named = [*(("--metric", metric, known_metrics) for metric in metrics), ("--choose_by", choose_by, known_metrics)]
    for flag, column, known in (*named, *(("--tune", field, settings) for field in tune)):
        if column is not None and column not in known:
            raise ValueError(registry.unknown(flag, column, known))
    for column in tune:
        if len(set(runs[column].dropna())) < 2:
            raise ValueError(f"--tune={column}: every run has the same value of it; expected a field that varies.")


def _say_earlier(workdir: Path, runs: Mapping[str, Reading]) -> None:
    """Say of which runs a swapped file would not be noticed; those whose config is damaged are in the table."""
    earlier = [name for name, run in runs.items() if run.is_earlier]
    if earlier:
        names = ", ".join(earlier[:3]) + (", …" if len(earlier) > 3 else "")
        say(
            f"{workdir}: {len(earlier)} run{'s are' if len(earlier) > 1 else ' is'} of an earlier version of flatwide, "
            f"whose files do not say to which run they belong, so a swapped file would not be noticed: {names}"
        )


class _OfRuns(Mapping[str, list[dict[str, Any]]]):
    """Rows of each run by its name, read on access: of ten thousand runs only a few are drawn."""

    def __init__(self, workdir: Path | str):
        self._runs = {run.name: run for run in run_directories(workdir)}

    def __iter__(self) -> Iterator[str]:
        """Return an iterator over the names of the runs."""
        return iter(self._runs)

    def __len__(self) -> int:
        """Return the number of runs."""
        return len(self._runs)


class Curves(_OfRuns):
    """The evaluations of each run."""

    _warned: frozenset[str] = frozenset()

    def __getitem__(self, name: str) -> list[dict[str, Any]]:
        """Return the rows of `metrics.csv`; of an unreadable file none, with one warning."""
        try:
            return self._runs[name].read_metrics()
        except ValueError as error:
            if name not in self._warned:
                self._warned |= {name}
                say(f"warning: no training curve of {name}: {error}")
            return []


class Series(_OfRuns):
    """The measurements on the networks of each run, at every epoch."""

    def __getitem__(self, name: str) -> list[dict[str, Any]]:
        """Return the run's rows of `measurements.csv`."""
        return list(records.rows(name, records.read(self._runs[name])[0], self._usual_examples))

    @functools.cached_property
    def _usual_examples(self) -> dict[str, int]:
        """The number of examples of each measurement that most runs have; it takes the files of all runs."""
        return records.usual_examples(records.read(run)[0] for run in self._runs.values())


class Arrays(Mapping[tuple[str, str], dict[str, Any]]):
    """The arrays measured at the end of each run, by the names of the run and the measurement."""

    def __init__(self, workdir: Path | str):
        self._runs = {run.name: run for run in run_directories(workdir)}

    def __getitem__(self, key: tuple[str, str]) -> dict[str, Any]:
        """Return the arrays; of several files those on the most examples.

        Raises: KeyError if there are none, or the file cannot be read.
        """
        run, measurement = key
        for path in _files_with_arrays(self._runs[run], measurement)[:1]:
            try:
                return records.arrays_beside(self._runs[run], path) or {}
            except ValueError as error:
                raise KeyError(str(error)) from error
        raise KeyError(key)

    def __iter__(self) -> Iterator[tuple[str, str]]:
        """Yield the runs and measurements that have arrays."""
        for name, run in self._runs.items():
            for path in sorted((run.path / "measurements").glob("*.npz")):
                word, setting, *_ = f"{path.stem}-".split("-")
                yield name, catalogue.in_tables(word, setting[1:] if setting.startswith("v") else "")

    def __len__(self) -> int:
        """Return the number of files of arrays."""
        return sum(1 for _ in self)

    def __bool__(self) -> bool:
        """Whether there may be arrays, without counting them."""
        return bool(self._runs)


def _files_with_arrays(run: RunDirectory, measurement: str) -> list[Path]:
    """Return the JSON files of a measurement at the end of a run: the most examples first, then the newest."""
    candidates = []
    for path in (run.path / "measurements").glob(f"*{measurement.removeprefix('own_')}*.json"):
        try:
            content = json.loads(disk.read(path) or b"")
            title = catalogue.in_tables(content["name"], str(content.get("version", "")))
            if title == measurement and content["is_final"]:
                candidates.append((content["num_examples"], content["measured"], path))
        except (ValueError, KeyError, TypeError, RecursionError):
            continue  # the table of results lists it as damaged
    return [path for *_, path in sorted(candidates, reverse=True) if path.with_suffix(".npz").exists()]
