"""flatwide: how does sharpness-aware minimization depend on overparameterization?

    flatwide.run(config, workdir)         train one run, or resume it
    flatwide.run_study(config, workdir)   train all runs of a study that are not done yet
    flatwide.answer(workdir)              the answer in sentences
    flatwide.write_report(workdir)        the answer, the figures and the tables as one HTML file
    flatwide.advise_rho(workdir, **width) rho for an untrained width, from the runs of narrower networks
    flatwide.draw_figures(workdir)        every figure that its runs have data for, by name
    flatwide.load(workdir)                the table of all runs, a pandas DataFrame
    flatwide.load_measurements(workdir)   the measurements of its networks, one row per value
    flatwide.load_run(path)               the network of one run: params, stats, apply

`flatwide.sam` is for your own training loops, `flatwide.measure` for your own models; `flatwide.analysis`, `.figures`,
`.report` and `.study` are the parts of the functions above. `flatwide.experiment.build` returns the parts of a run. All
are imported on first use, so that the command can set the number of threads before JAX starts.
"""

import functools
import importlib
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas

    from flatwide import analysis, config, experiment, figures, measure, report, sam, study
    from flatwide.advise import advise_rho
    from flatwide.figures.pieces import Figure
    from flatwide.runner import run
    from flatwide.runs.load import load_run

_FUNCTIONS = {"advise_rho": "flatwide.advise", "run": "flatwide.runner", "load_run": "flatwide.runs.load"}
_MODULES = ("analysis", "config", "experiment", "figures", "measure", "report", "sam", "study")

__all__ = [
    "advise_rho",
    "analysis",
    "answer",
    "config",
    "draw_figures",
    "experiment",
    "figures",
    "load",
    "load_measurements",
    "load_run",
    "measure",
    "report",
    "run",
    "run_study",
    "sam",
    "study",
    "write_report",
]


def load(workdir: str | os.PathLike, *, varying: bool = False) -> "pandas.DataFrame":
    """Load the results table of a work directory: one row per run, with all config and result fields and measurements.

    Args:
      workdir: a path, or an address on object storage, such as `s3://bucket/study`.
      varying: keep only the columns in which runs differ; a run that does not read a field differs from none.
    Raises: FileNotFoundError if there is no such folder.
    """
    from flatwide.analysis import fields
    from flatwide.runs import storage
    from flatwide.runs.table import collect

    with storage.local(workdir) as folder:
        runs = collect(_existing(folder))
    if not varying:
        return runs

    def varies(name: str) -> bool:
        column: Any = runs[name]
        if name == "run" or column.nunique() != 1:
            return name == "run" or column.nunique() > 1
        empty: Any = runs[column.isna()]
        rows = fields.records(empty, ("rho", "optimizer", "sparsity", name))
        return not all(fields.ignores(row, name) for row in rows)

    return runs.loc[:, list(map(varies, runs.columns))]


def answer(workdir: str | os.PathLike, *, metric: str | Sequence[str] | None = None, tune: Sequence[str] = ()) -> str:
    """Return the answer of a work directory in sentences, with numbers and intervals.

    That of a study that steers itself (`config.study.decide`) is its verdict, whatever the metric.

    Args:
      metric: the column to compare, or several; None is those of `config.study.metrics`, else `test_metric`.
      tune: fields on which base and SAM are each tuned separately.
    Raises: FileNotFoundError if there is no such folder; ValueError if it has no run, or there is no such metric.
    """
    from flatwide.analysis import several
    from flatwide.answers import joint
    from flatwide.study import decisions, question

    if verdict := decisions.sentence(workdir):
        return verdict
    metrics = question.metrics_of(metric) if metric else question.metrics_of_study(Path(workdir))
    splits = several.splits(_comparable(workdir, *metrics), metrics, tune=tune)
    return joint.answer(splits, joint.notes(metrics, question.read(Path(workdir)).get("average_last", 1), splits))


def load_measurements(workdir: str | os.PathLike) -> "pandas.DataFrame":
    """Load the measurements of the networks of a work directory, at every epoch: one row per value.

    Raises: FileNotFoundError if there is no such folder.
    """
    from flatwide.runs.table import collect_measurements

    return collect_measurements(_existing(workdir))


def draw_figures(
    workdir: str | os.PathLike, *, metric: str = "test_metric", tune: Sequence[str] = (), interactive: bool = False
) -> "dict[str, Figure]":
    """Draw every figure that a work directory has data for.

    Args:
      metric: the column to compare.
      tune: fields on which base and SAM are each tuned separately, for the figures `tuned_gain`.
      interactive: add tooltips, and a legend whose entries hide their series, for use in a page.
    Returns: name -> figure, with `chart` (of Altair), `title`, `caption` and `data`. A notebook shows a figure as SVG.
    Raises: FileNotFoundError if there is no such folder; ValueError if it has no run, or a column is missing.
    Cost: some seconds for hundreds of runs. Training curves and arrays are read only for the runs that are drawn.
    """
    from flatwide.analysis import table
    from flatwide.figures.gallery import every_figure
    from flatwide.report.workdir import Arrays, Curves, Series

    folder, runs = _existing(workdir), _comparable(workdir, metric)
    sources: dict[str, Any] = {"curves": Curves(folder), "series": Series(folder), "arrays": Arrays(folder)}
    drawn = every_figure(table.split(runs, metric=metric, tune=tune), interactive=interactive, **sources)
    return {figure.name: figure for figure in drawn}


def run_study(
    config: Mapping[str, Any] | str | os.PathLike, workdir: str | os.PathLike, *, quiet: bool = False
) -> "pandas.DataFrame":
    """Train and measure every run of a study that is not done yet; call it again to resume an interrupted study.

    It prints progress, in a notebook as a bar, and the answer to standard error, and writes `results.csv` but no
    report: see `write_report`.

    Args:
      config: fields of a config, as a dict or a ConfigDict, with `study`, such as
        `{"num_neurons": (32,), "study": {"axes": {"rho": (0.0, 0.1), "seed": (0, 1, 2)}}}`; or a config file, or the
        name of one that ships, such as `studies/digits_width`.
      workdir: each run gets its own directory in `workdir/runs`.
      quiet: print nothing.
    Returns: the table of the work directory, as `load` does; diverged runs are in it with that status.
    Raises: ConfigError, DataError; RuntimeError if runs failed or could not be measured: `load` has the others.
    """
    from flatwide import config as configs
    from flatwide import decide
    from flatwide.runs import logs
    from flatwide.study import command, question, settings

    values = configs.read(config)
    study = {name: field.default for name, field in configs.STUDY.items()} | dict(values.get("study", {}))
    os.makedirs(workdir, exist_ok=True)
    with open(os.devnull, "w") as nowhere:
        stream: Any = nowhere if quiet else _NotebookErrors() if _in_notebook() else None
        summary = (decide if study["decide"] else command).run(values, workdir, stream=stream)
    if summary.num_done < summary.num_runs:
        raise RuntimeError(
            f"{workdir}: {summary.num_done} of {summary.num_runs} runs are done, {summary.num_failed} failed and "
            f"{summary.num_unmeasured} lack a measurement; flatwide.load({os.fspath(workdir)!r}) has their status, "
            "and the error file of each run has the reason. Call run_study again to retry them."
        )
    metric, last = settings.compared(study), study["average_last"]
    if not isinstance(metric, str) or last > 1:
        question.settle(Path(workdir), is_stored=True, metric=metric, average_last=last)
    if not quiet:
        logs.say(answer(workdir, metric=metric, tune=study["tune"]))
    return load(workdir)


def write_report(
    workdir: str | os.PathLike,
    *,
    metric: str | Sequence[str] | None = None,
    tune: Sequence[str] | None = None,
    formats: Sequence[str] | None = None,
    quiet: bool = False,
) -> Path:
    """Write `report.html`, `summary.csv` and `figures/` of a work directory, and print the answer to standard error.

    Args:
      metric: the column to compare, or several; None is that of the last report, else `test_metric`.
      tune: fields on which base and SAM are each tuned separately; None is those of the last report.
      formats: of the files in `figures/`: some of "svg", "pdf", "latex", "json"; None is "svg".
      quiet: print nothing.
    Returns: the path of the page.
    Raises: FileNotFoundError if there is no such folder; ValueError if it has no run, or a column is missing.
    """
    from flatwide import report
    from flatwide.runs import logs

    tell = functools.partial(logs.say, quiet=quiet)
    return report.write(_existing(workdir), metric=metric, tune=tune, formats=formats, tell=tell)


class _NotebookErrors:
    """Standard error of a notebook: it redraws a line after a carriage return as a terminal does, but denies it."""

    def isatty(self) -> bool:
        return True

    def write(self, text: str) -> int:
        return sys.stderr.write(text)

    def flush(self) -> None:
        sys.stderr.flush()


def _in_notebook() -> bool:
    return type(sys.stderr).__module__.startswith("ipykernel")


def _existing(workdir: str | os.PathLike) -> Path:
    if not Path(workdir).is_dir():
        raise FileNotFoundError(f"{os.fspath(workdir)!r}: there is no such folder; expected a work directory.")
    return Path(workdir)


def _comparable(workdir: str | os.PathLike, *metrics: str) -> "pandas.DataFrame":
    """Load the runs of a work directory that must have some, with the scores and metrics that are compared."""
    from flatwide import registry
    from flatwide.study import question

    runs = load(workdir)
    if not len(runs):
        raise ValueError(f"{os.fspath(workdir)}: expected a work directory with a run in runs/; train one first.")
    for metric in metrics:
        if metric not in runs.columns:
            raise ValueError(registry.unknown("metric", metric, [name for name in runs.columns if "test_" in name]))
    return question.scored(Path(workdir), runs)


def __getattr__(name: str):
    """Import on first use."""
    if name in _MODULES:
        return importlib.import_module(f"flatwide.{name}")
    if name in _FUNCTIONS:
        return getattr(importlib.import_module(_FUNCTIONS[name]), name)
    if name == "__version__":
        return importlib.import_module("importlib.metadata").version("flatwide")
    raise AttributeError(f"module 'flatwide' has no attribute {name!r}; it has {', '.join(__all__)}")


def __dir__() -> list[str]:
    """List the public names, including those not imported yet, for completion."""
    return [*__all__, "__version__"]
