"""The command `measure`, which measures the saved networks of trained runs with several workers."""

import os
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TextIO

from flatwide import catalogue, machine, registry
from flatwide import config as configs
from flatwide.config.parser import FlagParser
from flatwide.runs import logs, records, snapshots
from flatwide.runs.directory import RunDirectory
from flatwide.runs.table import collect, write_results
from flatwide.study import expressions, measure_progress, orders, supervise
from flatwide.study.executors import Site
from flatwide.study.executors.local import LocalCrew
from flatwide.study.orders import Task

if TYPE_CHECKING:
    import pandas as pd

USAGE = """python main.py measure W --measurements=NAME[,NAME ...] [--where="num_neurons=='(300,100)' and rho>0"]
                         [--epochs=0,10 | --epochs=all] [--examples=1000] [--workers=N] [--trust] [--dry_run]"""


_MOST_DIGITS = 18  # of an integer of 64 bits


class Request(NamedTuple):
    """A request for measurements of trained runs.

    where: a condition on the columns of the results table, or "" for all runs. epochs: of snapshots, besides the end;
    None for all that are stored. workers: processes; None for as many as the cores allow. trusts: whether Python files
    named in the runs' configs may be executed.
    """

    workdir: Path
    names: tuple[str, ...]
    where: str = ""
    epochs: tuple[int, ...] | None = ()
    num_examples: int = configs.SCHEMA["measure_examples"].default
    workers: int | None = None
    is_dry: bool = False
    trusts: bool = False


def read(arguments: list[str]) -> Request:
    """Read the arguments after `measure` on the command line.

    Raises: ConfigError that lists every fault.
    """
    flags = _parser().parse_args(arguments)
    faults = []
    if not flags.workdir or not Path(flags.workdir).is_dir():
        given = f"measure {flags.workdir}" if flags.workdir else "measure"
        faults.append(f"{given}: expected a work directory with runs; usage:\n{USAGE}")
    names = tuple(dict.fromkeys(map(registry.absolute, _texts(flags.measurements or ""))))
    if not names:
        faults.append(f"--measurements is missing. Known: {', '.join(sorted(catalogue.MEASUREMENTS))}.")
    faults += catalogue.faults("--measurements", names)
    where = (flags.where or "").strip()
    if where:
        try:
            expressions.check(where)
        except ValueError as error:
            faults.append(f"--where={where!r}: {error}")
    epochs, counts = _integers("epochs", flags.epochs, 0, faults), {}
    for name in ("examples", "workers"):
        numbers = _integers(name, getattr(flags, name), 1, faults)
        if numbers is None or len(numbers) > 1:
            faults.append(f"--{name}={getattr(flags, name)}: expected one integer >= 1.")
        counts[name] = numbers[0] if numbers else None
    if faults:
        raise configs.ConfigError(faults)
    examples = counts["examples"] or Request._field_defaults["num_examples"]
    return Request(
        workdir=Path(flags.workdir),
        names=names,
        where=where,
        epochs=epochs,
        num_examples=examples,
        workers=counts["workers"],
        is_dry=flags.dry_run,
        trusts=flags.trust,
    )


def _parser() -> FlagParser:
    parser = FlagParser(
        USAGE,
        description="Take missing measurements of the networks of trained runs.",
        example='python main.py measure runs/demo --measurements=curvature,gradient --where="rho in [0, 0.1]"',
    )
    parser.add_argument("workdir", nargs="?", metavar="W", help="work directory with trained runs")
    names = ", ".join(sorted(catalogue.MEASUREMENTS))
    parser.add_argument("--measurements", metavar="NAME,NAME", help=f"what to measure (required): {names}")
    parser.add_argument("--where", metavar="CONDITION", help="on columns of the results table (default: all runs)")
    parser.add_argument("--epochs", help="epochs of snapshots to measure besides the end, or all (default: none)")
    examples = Request._field_defaults["num_examples"]
    parser.add_argument("--examples", metavar="N", help=f"number of training examples (default: {examples})")
    parser.add_argument("--workers", metavar="N", help="number of processes (default: as the cores allow)")
    parser.add_argument("--trust", action="store_true", help="execute Python files that the runs' configs name")
    parser.add_argument("--dry_run", action="store_true", help="count the measurements and their cost; take none")
    return parser


def select(table: "pd.DataFrame", where: str) -> list[str]:
    """Return the names of the finished runs of a results table that satisfy a condition.

    Args:
      where: as `expressions.evaluate` takes it, or "" for all; a tuple is text, as in the table.
    Raises: ValueError if it cannot be evaluated, or no finished run satisfies it.
    """
    chosen: Any = table["status"] == "finished"
    if where:
        try:
            chosen &= expressions.evaluate(where, table)
        except ValueError as error:
            raise ValueError(f"--where={where!r}: {error}") from None
    if not chosen.any():
        finished = table["status"].tolist().count("finished")
        where = f"--where={where!r}" if where else "measure"
        problems = table["problem"].dropna().tolist() if "problem" in table.columns else []
        faults = f" {len(problems)} have a fault, such as {problems[0]}" if problems else ""
        raise ValueError(
            f"{where}: expected finished runs; none of {len(table)} runs ({finished} finished) match.{faults}"
        )
    return table["run"][chosen].tolist()


def run(
    request: Request, *, should_stop: Callable[[], bool] = lambda: False, stream: TextIO | None = None
) -> dict[str, int]:
    """Measure what is missing, and rebuild the tables.

    Args:
      should_stop: called several times a second; once it returns True, workers end after their current measurement.
      stream: receives progress messages; None for standard error.
    Returns: the numbers of selected runs that are `done` and `failed`.
    Raises: ValueError with every fault; Stopped, WorkerError.
    """
    out, workdir = stream or sys.stderr, os.fspath(request.workdir)
    tasks = _tasks(request)
    if not request.trusts:
        _check_files(request, tasks)
    missing = {task.name: records.missing(_directory(request, task), task.config) for task in tasks}
    left = [task for task in tasks if missing[task.name]]
    num_missing = sum(map(len, missing.values()))
    print(f"{logs.runs_text(len(tasks))}: {len(tasks) - len(left)} measured, {len(left)} to measure", file=out)
    print(f"measurements to take: {num_missing} ({', '.join(map(catalogue.title, request.names))})", file=out)
    for epoch, count in sorted(_without_snapshot(request, left).items()):
        print(f"warning: {count} of these runs stored no snapshot of epoch {epoch}: nothing to measure there", file=out)
    if left:
        directories = {task.name: _directory(request, task) for task in tasks}
        to_take = {directories[task.name]: missing[task.name] for task in left}
        cost = measure_progress.expected(to_take, runs=directories.values())
        print(measure_progress.text(cost, workers=_num_workers(request, left)), file=out, flush=True)
    if request.is_dry:
        return {"done": len(tasks) - len(left), "failed": 0}
    counts: Counter[str] = Counter(done=len(tasks) - len(left))
    try:
        if left:
            _measure_all(request, left, counts, should_stop=should_stop, stream=out)
    finally:
        write_results(workdir)
    return {"done": counts["done"], "failed": counts["failed"]}


def _measure_all(
    request: Request, left: list[Task], counts: Counter[str], *, should_stop: Callable[[], bool], stream: TextIO
) -> None:
    """Let workers measure, and show progress."""
    workers = _num_workers(request, left)

    def remaining(task: Task) -> int:
        return len(records.missing(_directory(request, task), task.config))

    groups: dict[Any, list[Task]] = {}
    for task in left:  # runs of one network share compiled programs
        groups.setdefault(task.config["network"], []).append(task)
    orders.sweep(request.workdir)
    written = orders.write(request.workdir, list(groups.values()), tensorboard=False)
    progress = measure_progress.Progress(
        left,
        num_missing=sum(map(remaining, left)),
        remaining=remaining,
        stream=stream,
    )
    try:
        shared = {"workers_per_gpu": -(-workers // max(1, len(machine.gpus())))}
        crew = LocalCrew(Site(orders=written.path, threads=max(1, machine.available() // workers), study=shared))
        options: dict[str, Any] = {"should_stop": should_stop, "tell": progress.message}
        for outcome in supervise.supervise(written, crew, workers=workers, **options):
            if outcome is None:
                progress.tick()
                continue
            counts["failed" if outcome.status == "failed" else "done"] += 1
            if outcome.status == "failed":
                log = _directory(request, outcome.task).error_file
                progress.message(f"failed: {outcome.task.name}: {outcome.problem}; see {log}")
            progress.ended(outcome.task.name)
    finally:
        progress.close()
        orders.remove(written)


def _num_workers(request: Request, left: list[Task]) -> int:
    return min(request.workers or LocalCrew.capacity({}, threads=1), len(left))


def _tasks(request: Request) -> list[Task]:
    """Select the runs, the largest networks first."""
    table = collect(request.workdir)
    chosen, faults = [], []
    for name in select(table, request.where):
        directory = RunDirectory(request.workdir / "runs" / name)
        config, result = directory.read_config(), directory.read_result() or {}
        epochs, every = sorted(request.epochs or ()), None
        if request.epochs is None:
            each = records.steps_per_epoch(result)
            epochs = [step // each for step in snapshots.kept(directory, each) if step % each == 0]
            every = config.get("measure_every_steps")
        faults += [f"--epochs={n}: {name} has {result['epochs']:g} epochs." for n in epochs if n > result["epochs"]]
        requested = {"measurements": request.names, "measure_epochs": epochs, "measure_examples": request.num_examples}
        requested |= {"measure_every_steps": every}
        network = f"{config['model']} {result['num_params']}"
        chosen.append((result["num_params"], Task(name, requested | {"network": network}, trains=False)))
    if faults:
        raise configs.ConfigError(faults[:5])
    return [task for _, task in sorted(chosen, key=lambda pair: (-pair[0], pair[1].name))]


def _check_files(request: Request, tasks: list[Task]) -> None:
    """Refuse runs whose configs name Python files: measuring executes these, and someone else may have written them.

    Raises: ConfigError that names the files.
    """
    named: dict[str, str] = {}
    for task in tasks:
        config = _directory(request, task).read_config()
        files = (config.get(field) for field in configs.MAY_BE_OWN)
        named |= {file: task.name for file in files if isinstance(file, str) and registry.is_own_file(file)}
    if named:
        files = ", ".join(sorted(named))
        raise configs.ConfigError(
            f"measure {request.workdir}: the config of {next(iter(named.values()))} names a Python file, which "
            f"measuring would execute: {files}. Read it, and add --trust if you trust it; or exclude these runs "
            "with --where."
        )


def _without_snapshot(request: Request, tasks: list[Task]) -> Counter[int]:
    """Count the runs that lack a snapshot of a requested epoch before their end."""
    counts: Counter[int] = Counter()
    for task in tasks:
        directory = _directory(request, task)
        end = (directory.read_result() or {})["epochs"]
        counts.update(n for n in task.config["measure_epochs"] if n < end and not directory.snapshot(n).exists())
    return counts


def _directory(request: Request, task: Task) -> RunDirectory:
    return RunDirectory(request.workdir / "runs" / task.name)


def _texts(text: str) -> list[str]:
    """Read `a,b` or `('a','b')`."""
    try:
        parts = configs.literal(text)
    except ValueError:
        parts = text.split(",")
    parts = parts if isinstance(parts, list | tuple) else (parts,)
    return [str(part).strip() for part in parts if str(part).strip()]


def _integers(name: str, text: str | None, least: int, faults: list[str]) -> tuple[int, ...] | None:
    """Read `1,2`; None for "all"."""
    if name == "epochs" and text == "all":
        return None
    parts = _texts(text or "")
    if bad := [part for part in parts if not part.isdecimal() or len(part) > _MOST_DIGITS or int(part) < least]:
        faults.append(f"--{name}: {registry.shown(bad[0])} is no integer in [{least}, 10^{_MOST_DIGITS}).")
        return ()
    return tuple(sorted({int(part) for part in parts}))
