"""The report of a work directory."""

import json
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from flatwide import registry
from flatwide.analysis.fields import ASIDE
from flatwide.report import facts, output
from flatwide.report.content import Source
from flatwide.report.exports import FORMATS, export
from flatwide.runs import commands, disk, records
from flatwide.runs.directory import RunDirectory, run_directories, sweep, write_json
from flatwide.runs.logs import say
from flatwide.runs.table import collect

_TOLD = "report.json"  # what the report was told and no run holds; written again without it, the page says the same


def write(
    workdir: Path | str,
    *,
    metric: str | None = None,
    choose_by: str | None = None,
    tune: Sequence[str] | None = None,
    num_planned: int | None = None,
    formats: Sequence[str] | None = None,
    path: Path | str | None = None,
    tell: Callable[[str], None] = lambda text: None,
) -> Path:
    """Write `report.html`, `summary.csv` and `figures/` of a work directory.

    Args:
      metric: the column that is compared; None is that of the last report, else `test_metric`.
      choose_by: the column that rho is chosen by; None is the validation metric where every run has one, else `metric`.
      tune: fields that base and SAM each choose for themselves; None is what the last report was told.
      num_planned: how many runs there will be; None is what the last report was told.
      formats: of the figures and tables beside the page: some of "svg", "pdf", "latex"; None is "svg", and none at all
        where there is a path. Without any there are no figures, which suits a study that refreshes its page while it
        runs.
      path: of the page; None is `report.html` in the work directory. With a path nothing is written into the work
        directory, and figures and summary go into a folder beside the page.
      tell: called with the headlines and their table, as text for a terminal.
    Returns: the path of the page.
    Raises: ValueError if there is no run, a column is missing, or another's file is in the way.
    """
    workdir = Path(workdir)
    if path is None:
        sweep(workdir)
    page_path = Path(path) if path else workdir / "report.html"
    formats = FORMATS[: 0 if path else 1] if formats is None else formats
    runs = collect(workdir)
    if not len(runs):
        raise ValueError(f"{workdir}: expected a work directory with a run in runs/; train one first.")
    for name, column in (("metric", metric), ("choose_by", choose_by)):
        if column is not None and column not in runs.columns:  # before it is kept for the next report
            raise ValueError(registry.unknown(name, column, filter(_is_metric, runs.columns)))
    told = _tell(workdir, is_kept=not path, metric=metric, choose_by=choose_by, tune=tune, num_planned=num_planned)
    beside = output.folder_beside(page_path)
    if path and formats:
        output.claim_folder(beside)
    source = Source(
        name=str(workdir),
        commands=tuple(commands.read(workdir)),
        earlier_command=str(told.get("command") or ""),
        num_planned=told["num_planned"],
        identities=facts.read_identities(workdir),
    )
    return export(
        runs,
        source,
        page_path=page_path,
        summary_path=(beside / "summary.csv" if formats else None) if path else workdir / "summary.csv",
        folder=beside if path else workdir / "figures",
        metric=told["metric"] or "test_metric",
        choose_by=told["choose_by"],
        tune=tuple(told["tune"] or ()),
        curves=Curves(workdir),
        series=Series(workdir),
        arrays=Arrays(workdir),
        formats=formats,
        tell=tell,
    )


def _is_metric(column: str) -> bool:
    """Whether a column is a score or a loss of a run, or was measured on its network."""
    first, dot, _ = column.partition(".")
    if dot:
        return first not in ("versions", ASIDE)
    return column.startswith(("test_", "train_", "validation_")) and ("metric" in column or "loss" in column)


class _OfRuns(Mapping[str, list[dict[str, Any]]]):
    """Rows of each run, read when they are asked for: few of ten thousand are drawn."""

    def __init__(self, workdir: Path | str):
        self._found = {run.name: run for run in run_directories(workdir)}

    def __iter__(self) -> Iterator[str]:
        """List the runs."""
        return iter(self._found)

    def __len__(self) -> int:
        """Count the runs."""
        return len(self._found)


class Curves(_OfRuns):
    """The evaluations of each run."""

    def __init__(self, workdir: Path | str):
        super().__init__(workdir)
        self._told: set[str] = set()

    def __getitem__(self, name: str) -> list[dict[str, Any]]:
        """Read the rows of `metrics.csv`; of a file that is damaged or cannot be read say so, and draw nothing."""
        try:
            return self._found[name].read_metrics()
        except ValueError as error:
            if name not in self._told:
                self._told.add(name)
                say(f"warning: no training curve of {name}: {error}")
            return []


class Series(_OfRuns):
    """What was measured on the networks of each run, at every epoch."""

    def __getitem__(self, name: str) -> list[dict[str, Any]]:
        """Read what would be its rows of `measurements.csv`."""
        return list(records.rows(name, records.read(self._found[name])[0]))


class Arrays(Mapping[tuple[str, str], dict[str, Any]]):
    """The arrays that were measured at the end of each run, by its name and that of the measurement."""

    def __init__(self, workdir: Path | str):
        self._found = {run.name: run for run in run_directories(workdir)}

    def __getitem__(self, key: tuple[str, str]) -> dict[str, Any]:
        """Read the arrays, as `records.shown` chooses among several files.

        Raises: KeyError if there are none, or they cannot be read.
        """
        import numpy as np

        run, measurement = key
        paths = [path for path in _array_files(self._found[run], measurement) if path.exists()]
        for path in paths[:1]:
            try:
                with disk.open_regular(path) as file, np.load(file, allow_pickle=False) as found:
                    return {name: found[name] for name in found.files}
            except (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
                raise KeyError(f"{path}: {error}") from error
        raise KeyError(key)

    def __iter__(self) -> Iterator[tuple[str, str]]:
        """List the runs and measurements that have arrays."""
        for name, run in self._found.items():
            for path in sorted((run.path / "measurements").glob("*.npz")):
                yield name, path.stem.partition("-")[0]

    def __len__(self) -> int:
        """Count them."""
        return sum(1 for _ in self)

    def __bool__(self) -> bool:
        """Tell whether there may be any, without counting."""
        return bool(self._found)


def _array_files(run: RunDirectory, measurement: str) -> list[Path]:
    """List the arrays of a measurement at the end of a run: those on the most examples first, of equals the newest."""
    known = []
    for path in (run.path / "measurements").glob(f"{measurement}*.json"):
        try:
            content = json.loads(disk.read(path) or b"")
            if content["name"] == measurement and content["is_final"]:
                known.append((content["num_examples"], content["measured"], path.with_suffix(".npz")))
        except (ValueError, KeyError, TypeError, RecursionError):
            continue  # the table of results says that it is damaged
    return [path for *_, path in sorted(known, reverse=True)]


def _tell(workdir: Path, *, is_kept: bool, **given: Any) -> dict[str, Any]:
    """Complete what the report is told by what it was told before, and where asked keep it for the next time."""
    path = workdir / _TOLD
    try:
        before = json.loads(disk.read(path) or b"{}")
    except (ValueError, RecursionError):
        before = {}
    before = before if isinstance(before, dict) else {}
    told = before | {name: before.get(name) if value is None else value for name, value in given.items()}
    if is_kept and told != before and any(value is not None for value in told.values()) and workdir.is_dir():
        write_json(path, told)
    return told
