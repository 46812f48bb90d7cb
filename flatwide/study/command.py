"""Plan, train and tabulate a study, or tell what it would do."""

import os
import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple, TextIO

from flatwide.runs import preview
from flatwide.runs.directory import RunDirectory, run_directories
from flatwide.runs.logs import duration_text
from flatwide.runs.table import write_results
from flatwide.study import describe, executors, inventory, orders, plan, supervise
from flatwide.study.executors import Site
from flatwide.study.inventory import Inventory, Known
from flatwide.study.orders import Orders, Task
from flatwide.study.plan import Plan

_EVERY_SECONDS = 10.0  # between progress lines
_REFRESH_SECONDS, _REFRESH_SHARE = 60.0, 20  # between refreshes, which take at most this part of the time


class Summary(NamedTuple):
    """How a study stands: planned runs, those done (diverged ones among them), diverged, and failed or refused ones.

    num_unmeasured: runs that are trained and lack a measurement; they are not done.
    """

    num_runs: int
    num_done: int
    num_diverged: int
    num_failed: int
    num_unmeasured: int


def run(
    values: Mapping[str, Any],
    workdir: str | os.PathLike,
    *,
    should_stop: Callable[[], bool] = lambda: False,
    on_start: Callable[[], None] = lambda: None,
    refresh: Callable[[int, bool], None] = lambda num_planned, is_over: None,
    stream: TextIO | None = None,
) -> Summary:
    """Train and measure every run of a study that is not done yet, and rebuild `results.csv`.

    Args:
      values: the fields of a config with a study.
      workdir: each run gets a directory of its own in `workdir/runs`.
      should_stop: asked several times a second; once it says yes, runs in training are saved and `Stopped` is raised.
      on_start: called once the plan and the executor are known to be good, before anything is trained.
      refresh: called with the number of planned runs and whether the command is about to end, after the table is
        rebuilt: now and then, and at the end however it comes.
      stream: where progress is told; None for standard error.
    Raises: ConfigError, DataError, Stopped, WorkerError.
    """
    out, workdir = stream or sys.stderr, os.fspath(workdir)
    planned = plan.expand(values)
    found = inventory.take(planned, workdir)
    inventory.check(found)
    estimate = describe.Estimate(found)
    for line in describe.heading(planned, found, num_workers=num_workers(planned, found), estimate=estimate):
        print(line, file=out, flush=True)

    def rebuild(*, is_over: bool = False) -> None:
        write_results(Path(workdir))
        refresh(len(planned.runs), is_over)

    try:
        failed = _train(
            planned,
            found,
            workdir,
            should_stop=should_stop,
            on_start=on_start,
            rebuild=rebuild,
            stream=out,
            estimate=estimate,
        )
    finally:
        if run_directories(workdir):
            rebuild(is_over=True)
    refused = [known for known in found.known if known.status in inventory.REFUSED]
    for known in refused:
        print(f"kept and not trained: {known.problem}", file=out)
    after = inventory.take(planned, workdir)
    num_done = after.count(*inventory.DONE)
    unmeasured = after.count(inventory.UNMEASURED)
    return Summary(
        num_runs=len(planned.runs),
        num_done=num_done,
        num_diverged=after.count("diverged"),
        num_failed=failed + len(refused),
        num_unmeasured=unmeasured,
    )


def _train(
    planned: Plan,
    found: Inventory,
    workdir: str,
    *,
    should_stop: Callable[[], bool],
    on_start: Callable[[], None],
    rebuild: Callable[[], None],
    stream: TextIO,
    estimate: "describe.Estimate",
) -> int:
    """Hand what is to do to the executor and tell how far it is; give the number of failed runs."""
    tasks = found.to_do()
    if not tasks:
        on_start()
        return 0
    settings, workers = planned.settings, num_workers(planned, found)
    given = _give_orders(tasks, workdir, estimate, tensorboard=settings.tensorboard)
    site = Site(orders=given.path, threads=threads(planned), study=settings.study)
    progress = _Progress(found, tasks, estimate, workers=workers, stream=stream)
    refreshed, took = time.monotonic(), 0.0
    try:
        crew = executors.find(settings.executor)(site)
        on_start()
        for outcome in supervise.supervise(given, crew, workers=workers, should_stop=should_stop):
            if outcome is not None:
                progress.ended(outcome)
            elif (now := time.monotonic()) - refreshed > max(_REFRESH_SECONDS, _REFRESH_SHARE * took):
                rebuild()
                refreshed = time.monotonic()
                took = refreshed - now
    finally:
        orders.remove(given)
    return progress.counts["failed"]


def _give_orders(tasks: list[Known], workdir: str, estimate: "describe.Estimate", *, tensorboard: bool) -> Orders:
    """Write down what is to do, the group that takes longest first, so that none is left alone at the end."""
    groups: dict[tuple, list[Known]] = {}
    for known in tasks:
        groups.setdefault(known.run.shape, []).append(known)
    longest = sorted(groups.values(), key=lambda group: -len(group) * estimate.cost(group[0]))
    named = [[Task(known.directory.name, dict(known.run.config)) for known in group] for group in longest]
    return orders.write(workdir, named, tensorboard=tensorboard)


def threads(planned: Plan) -> int:
    """Give the CPU threads of each worker: those of the config, else one, which wastes none on waiting."""
    return planned.runs[0].config["threads"] or 1


def num_workers(planned: Plan, found: Inventory) -> int:
    """Give the number of workers: that of the study, else as many as its executor can run at once.

    Raises: ConfigError if it depends on a cluster that does not answer.
    """
    settings = planned.settings
    workers = settings.workers or executors.find(settings.executor).capacity(settings.study, threads(planned))
    return max(1, min(workers, len(found.to_do())))


class _Progress:
    """Tell now and then how many runs are done and how long the rest will take."""

    def __init__(
        self, found: Inventory, tasks: list[Known], estimate: "describe.Estimate", *, workers: int, stream: TextIO
    ):
        self.counts: Counter[str] = Counter()
        self._known = {known.directory.name: known for known in tasks}
        self._total, self._done = len(found.known), found.count(*inventory.DONE)
        self._left = describe.to_train(tasks)
        self._estimate, self._workers, self._stream = estimate, workers, stream
        self._num_left, self._told = len(tasks), time.monotonic()

    def ended(self, outcome: supervise.Outcome) -> None:
        """Count a run that ended."""
        known = self._known[outcome.task.name]
        self.counts[outcome.status] += 1
        self._num_left -= 1
        self._left[known.run.shape] -= known.status != inventory.UNMEASURED
        if outcome.status == "failed":
            directory = known.directory
            line = f"failed: {directory.name}: {outcome.problem}; see {directory.error_file}"
            print(line, file=self._stream, flush=True)
        else:
            self._done += 1
            self._estimate.learn(known, outcome.seconds)
        now = time.monotonic()
        if now - self._told >= _EVERY_SECONDS or self._num_left == 0:
            self._told = now
            print(self._text(), file=self._stream, flush=True)

    def _text(self) -> str:
        parts = [f"runs {self._done}/{self._total}"]
        parts += [f"{count} {status}" for status in ("diverged", "failed") if (count := self.counts[status])]
        if any(self._left.values()) and self._estimate.has_seen:
            seconds = self._estimate.total(self._left) / self._workers
            parts.append(f"about {duration_text(seconds)} left")
        return "  ".join(parts)


def dry_run(values: Mapping[str, Any], workdir: str | os.PathLike) -> str:
    """Tell what a study would do, without training.

    Raises: ConfigError; DataError if the data set was given a folder and is not there; ValueError where a network does
      not fit its data or its loss.
    """
    planned = plan.expand(values)
    if all(preview.is_local(run.config) for run in planned.runs):
        found = inventory.take(planned, workdir)
        inventory.check(found)
    else:  # the names of runs depend on data that are not on this machine
        unknown = (Known(run, RunDirectory(Path(workdir)), "unknown") for run in planned.runs)
        found = Inventory(tuple(unknown), ())
    estimate = describe.Estimate(found)
    lines = describe.heading(planned, found, num_workers=num_workers(planned, found), estimate=estimate)
    return "\n".join([*lines, *describe.groups(found, estimate), *describe.disk(found)])
