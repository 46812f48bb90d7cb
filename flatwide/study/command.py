"""Train and tabulate a study, or preview it."""

import contextlib
import os
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple, TextIO

from flatwide import config as configs
from flatwide.columns import DONE
from flatwide.runs.directory import RunDirectory, run_directories, sweep
from flatwide.runs.logs import StatusLine, duration_text
from flatwide.runs.parts import is_local
from flatwide.runs.table import write_results
from flatwide.study import describe, executors, inventory, orders, plan, sizing, stalls, supervise
from flatwide.study.executors import Site
from flatwide.study.inventory import Inventory, RunState
from flatwide.study.orders import Orders, Task
from flatwide.study.plan import Plan

_EVERY_SECONDS = 10.0  # between progress lines while runs end
_QUIET_SECONDS = 60.0  # between them while no run ends
_LIVE_SECONDS = 1.0  # between them on a terminal
_WRITE_SECONDS = 5.0  # within which a worker writes how long a run took
_BAR = 20  # characters
_REFRESH_SECONDS, _REFRESH_SHARE = 60.0, 20  # between refreshes, which take at most this part of the time


class Summary(NamedTuple):
    """Numbers of runs of a study: planned, done (including diverged), diverged, and failed or refused.

    num_unmeasured: runs that are trained but lack a measurement; they do not count as done.
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
      workdir: each run gets its own directory in `workdir/runs`.
      should_stop: called several times a second; once it returns True, runs in training are saved and `Stopped` is
        raised.
      on_start: called once the plan and the executor have been checked, before anything is trained.
      refresh: called after the table is rebuilt, with the number of planned runs and whether the command is about to
        end: from time to time, and at the end however the study ends.
      stream: receives progress messages; None for standard error.
    Raises: ConfigError, DataError, Stopped, WorkerError.
    """
    out, workdir = stream or sys.stderr, os.fspath(workdir)
    planned = sizing.with_groups(plan.expand(values), workdir)
    stored = inventory.take(planned, workdir)
    inventory.check(stored)
    sweep(workdir)
    orders.sweep(workdir)
    estimate = describe.Estimate(stored)
    for line in describe.heading(planned, stored, num_workers=num_workers(planned, stored), estimate=estimate):
        print(line, file=out, flush=True)

    def rebuild(*, is_over: bool = False) -> None:
        write_results(Path(workdir))
        refresh(len(planned.runs), is_over)

    try:
        failed = _train(
            planned,
            stored,
            workdir,
            should_stop=should_stop,
            on_start=on_start,
            rebuild=rebuild,
            stream=out,
            estimate=estimate,
        )
    except BaseException:
        with contextlib.suppress(OSError):  # the user must see the error that ended the study
            if run_directories(workdir):
                rebuild(is_over=True)
        raise
    if run_directories(workdir):
        rebuild(is_over=True)
    return _summary(planned, stored, workdir, num_failed=failed, stream=out)


def _summary(planned: Plan, stored: Inventory, workdir: str, *, num_failed: int, stream: TextIO) -> Summary:
    """Print which runs were refused, and count the runs of a study that has ended."""
    refused = [state for state in stored.states if state.status in inventory.REFUSED]
    for state in refused:
        print(f"kept and not trained: {state.problem}", file=stream)
    after = inventory.take(planned, workdir)
    return Summary(
        num_runs=len(planned.runs),
        num_done=after.count(*DONE),
        num_diverged=after.count("diverged"),
        num_failed=num_failed + len(refused),
        num_unmeasured=after.count(inventory.UNMEASURED),
    )


def _train(
    planned: Plan,
    stored: Inventory,
    workdir: str,
    *,
    should_stop: Callable[[], bool],
    on_start: Callable[[], None],
    rebuild: Callable[[], None],
    stream: TextIO,
    estimate: "describe.Estimate",
) -> int:
    """Let the executor train the remaining runs and show progress; return the number of failed runs."""
    tasks = stored.to_do()
    if not tasks:
        on_start()
        return 0
    settings, workers = planned.settings, num_workers(planned, stored)
    written = _write_orders(planned, tasks, workdir, estimate)
    group_size = max(run.config["group_size"] for run in planned.runs)
    site = Site(orders=written.path, threads=planned.threads, study=settings.study, group_size=group_size)
    shapes = {state.directory.name: state.run.shape for state in tasks}

    def patience(names: Iterable[str]) -> float:
        durations = (estimate.seconds(shapes[name]) for name in names)
        return max(stalls.LEAST_SECONDS, stalls.TIMES_MEDIAN * max((s for s in durations if s), default=0.0))

    watch = stalls.Watch(written, patience=patience)
    refresher = _Refresher(rebuild)
    progress = _Progress(stored, tasks, estimate, orders=written, watch=watch, workers=workers, stream=stream)
    try:
        crew = executors.find(settings.executor)(site)
        on_start()
        options: dict[str, Any] = {"should_stop": should_stop, "watch": watch, "tell": progress.message}
        for outcome in supervise.supervise(written, crew, workers=workers, **options):
            if outcome is not None:
                progress.ended(outcome)
                continue
            progress.tick()
            refresher.tick()
    finally:
        progress.close()
        orders.remove(written)
    return progress.counts["failed"]


def _write_orders(planned: Plan, tasks: list[RunState], workdir: str, estimate: "describe.Estimate") -> Orders:
    """Write the orders for the workers.

    Base runs (rho 0) come first: each gain is a difference from one of them, so an interrupted study has the base of
    every run that it has trained. Then come the longest groups, so that no long one is left alone at the end.
    """
    groups: dict[tuple, list[RunState]] = {}
    for state in tasks:
        groups.setdefault(state.run.shape, []).append(state)

    def rank(group: list[RunState]) -> tuple[bool, float]:
        return configs.effective_rho(group[0].run.config) != 0, -len(group) * estimate.cost(group[0])

    named = [
        [Task(state.directory.name, dict(state.run.config)) for state in group]
        for group in sorted(groups.values(), key=rank)
    ]
    settings = planned.settings
    # A user's executor that does not define this may outlive the command: its workers' files are not swept then.
    may_outlive = getattr(executors.find(settings.executor), "outlives_command", True)
    return orders.write(workdir, named, tensorboard=settings.tensorboard, may_outlive=may_outlive)


def num_workers(planned: Plan, stored: Inventory) -> int:
    """Return the number of workers: that of the study, else as many as its executor can run at once.

    Raises: ConfigError if it depends on a cluster that does not answer.
    """
    settings = planned.settings
    workers = settings.workers or executors.find(settings.executor).capacity(settings.study, planned.threads)
    return max(1, min(workers, len(stored.to_do())))


class _Refresher:
    """Rebuilds the tables and the report of a study: at most once a minute, and in at most 5 % of the time."""

    def __init__(self, rebuild: Callable[[], None], *, clock: Callable[[], float] = time.monotonic):
        self._rebuild, self._clock = rebuild, clock
        self._due = clock() + _REFRESH_SECONDS

    def tick(self) -> None:
        """Rebuild, if it is time."""
        began = self._clock()
        if began >= self._due:
            self._rebuild()
            ended = self._clock()
            self._due = ended + max(_REFRESH_SECONDS, _REFRESH_SHARE * (ended - began))


class _Progress(StatusLine):
    """Progress lines: how many runs are done and how long the rest will take."""

    def __init__(
        self,
        stored: Inventory,
        tasks: list[RunState],
        estimate: "describe.Estimate",
        *,
        orders: Orders,
        watch: stalls.Watch,
        workers: int,
        stream: TextIO,
    ):
        super().__init__(stream)
        self.counts: Counter[str] = Counter()
        self._states = {state.directory.name: state for state in tasks}
        self._total, self._done = len(stored.states), stored.count(*DONE)
        self._left = describe.to_train(tasks)
        self._estimate, self._workers = estimate, workers
        self._orders, self._watch = orders, watch
        # Runs that have ended: the deadline for their worker to write their duration, and the duration with compiling.
        self._unlearned: dict[str, tuple[float, float]] = {}
        self._num_left, self._shown_at, self._has_news = len(tasks), time.monotonic(), False

    def ended(self, outcome: supervise.Outcome) -> None:
        """Count a run that ended."""
        state = self._states[outcome.task.name]
        self.counts[outcome.status] += 1
        self._num_left -= 1
        self._left[state.run.shape] -= state.status != inventory.UNMEASURED
        if outcome.status == "failed":
            directory = state.directory
            self.message(f"failed: {directory.name}: {outcome.problem}; see {directory.error_file}")
        else:
            self._done += 1
            if state.status != inventory.UNMEASURED and outcome.seconds is not None:
                with_compiling = outcome.seconds / state.run.config["group_size"]
                self._unlearned[outcome.task.name] = (time.monotonic() + _WRITE_SECONDS, with_compiling)
        self._has_news = True
        self.tick()

    def tick(self) -> None:
        """Show progress, if it is time."""
        every = _LIVE_SECONDS if self.is_live else _EVERY_SECONDS if self._has_news else _QUIET_SECONDS
        is_over = self._has_news and self._num_left == 0
        if time.monotonic() - self._shown_at >= every or is_over:
            self._shown_at, self._has_news = time.monotonic(), False
            self.show(self._text())

    def _text(self) -> str:
        self._learn()
        training = {name: age for name, age in self._watch.training().items() if name in self._states}
        parts = [f"runs {self._done}/{self._total}"]
        if self.is_live:
            full = _BAR * self._done // max(1, self._total)
            parts.insert(0, f"[{'#' * full}{'-' * (_BAR - full)}]")
        parts += [f"{count} {status}" for status in ("diverged", "failed") if (count := self.counts[status])]
        parts += [f"{len(training)} in training"] if training and self._num_left else []
        if any(self._left.values()) and self._estimate.has_seen:
            begun = [(self._states[name].run.shape, age) for name, age in training.items()]
            seconds = self._estimate.left(self._left, workers=self._workers, training=begun)
            parts.append(f"about {duration_text(seconds)} left")
        return "  ".join(parts)

    def _learn(self) -> None:
        """Update the estimate with durations without compilation, which the first run of a shape does for all."""
        for name, (until, with_compiling) in list(self._unlearned.items()):
            seconds = self._orders.read_seconds(name)
            if seconds is None and time.monotonic() > until:  # another command has trained it
                seconds = with_compiling
            if seconds is not None:
                state = self._states[name]
                of_group = (with_compiling - seconds) * state.run.config["group_size"]
                self._estimate.learn(state, seconds, compiling=of_group)
                del self._unlearned[name]


def dry_run(values: Mapping[str, Any], workdir: str | os.PathLike) -> str:
    """Describe what a study would do, without training.

    Raises: ConfigError; DataError if the data set is not in the given folder; ValueError if a network does not fit its
      data or its loss.
    """
    planned = sizing.with_groups(plan.expand(values), workdir)
    if all(is_local(run.config) for run in planned.runs):
        stored = inventory.take(planned, workdir)
        inventory.check(stored)
    else:  # the names of runs depend on data that is not on this machine
        unknown = (RunState(run, RunDirectory(Path(workdir)), "unknown") for run in planned.runs)
        stored = Inventory(tuple(unknown), ())
    estimate = describe.Estimate(stored)
    lines = describe.heading(planned, stored, num_workers=num_workers(planned, stored), estimate=estimate)
    settings = planned.settings
    share = getattr(executors.find(settings.executor), "share", lambda study: executors.Share())(settings.study)
    memory = describe.memory(stored, share, settings.study)
    return "\n".join([*lines, *describe.groups(stored, estimate), *memory, *describe.disk(stored)])
