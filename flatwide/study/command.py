"""Plan, train and tabulate a study, or tell what it would do."""

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
from flatwide.runs import preview
from flatwide.runs.directory import RunDirectory, run_directories, sweep
from flatwide.runs.logs import StatusLine, duration_text
from flatwide.runs.table import write_results
from flatwide.study import describe, executors, inventory, orders, plan, silence, supervise
from flatwide.study.executors import Site
from flatwide.study.inventory import Inventory, Known
from flatwide.study.orders import Orders, Task
from flatwide.study.plan import Plan

_EVERY_SECONDS = 10.0  # between progress lines, while runs end
_QUIET_SECONDS = 60.0  # between them, while none ends
_LIVE_SECONDS = 1.0  # between them on a terminal
_WRITE_SECONDS = 5.0  # within which a worker writes how long a run took
_BAR = 20  # characters
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
    sweep(workdir)
    orders.sweep(workdir)
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
    except BaseException:
        with contextlib.suppress(OSError):  # what ended the study is what a user must know
            if run_directories(workdir):
                rebuild(is_over=True)
        raise
    if run_directories(workdir):
        rebuild(is_over=True)
    refused = [known for known in found.known if known.status in inventory.REFUSED]
    for known in refused:
        print(f"kept and not trained: {known.problem}", file=out)
    after = inventory.take(planned, workdir)
    num_done = after.count(*DONE)
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
    given = _give_orders(planned, tasks, workdir, estimate)
    site = Site(orders=given.path, threads=threads(planned), study=settings.study)
    shapes = {known.directory.name: known.run.shape for known in tasks}

    def patience(names: Iterable[str]) -> float:
        seen = (estimate.seconds(shapes[name]) for name in names)
        return max(silence.LEAST_SECONDS, silence.TIMES_MEDIAN * max((s for s in seen if s), default=0.0))

    watch = silence.Watch(given, patience=patience)
    progress = _Progress(found, tasks, estimate, orders=given, watch=watch, workers=workers, stream=stream)
    refreshed, took = time.monotonic(), 0.0
    try:
        crew = executors.find(settings.executor)(site)
        on_start()
        options: dict[str, Any] = {"should_stop": should_stop, "watch": watch, "tell": progress.message}
        for outcome in supervise.supervise(given, crew, workers=workers, **options):
            if outcome is not None:
                progress.ended(outcome)
                continue
            progress.tick()
            if (now := time.monotonic()) - refreshed > max(_REFRESH_SECONDS, _REFRESH_SHARE * took):
                rebuild()
                refreshed = time.monotonic()
                took = refreshed - now
    finally:
        progress.close()
        orders.remove(given)
    return progress.counts["failed"]


def _give_orders(planned: Plan, tasks: list[Known], workdir: str, estimate: "describe.Estimate") -> Orders:
    """Write down what is to do.

    Base runs (rho 0) come first: each gain is a difference to one, so that a study that is cut off has the base of all
    that it has trained. Then comes the group that takes longest, so that none is left alone at the end.
    """
    groups: dict[tuple, list[Known]] = {}
    for known in tasks:
        groups.setdefault(known.run.shape, []).append(known)

    def rank(group: list[Known]) -> tuple[bool, float]:
        return configs.effective_rho(group[0].run.config) != 0, -len(group) * estimate.cost(group[0])

    named = [
        [Task(known.directory.name, dict(known.run.config)) for known in group]
        for group in sorted(groups.values(), key=rank)
    ]
    settings = planned.settings
    # An executor of the user's own that does not say so is taken to outlive it: nothing of its workers is swept then.
    may_outlive = getattr(executors.find(settings.executor), "outlives_command", True)
    return orders.write(workdir, named, tensorboard=settings.tensorboard, may_outlive=may_outlive)


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
    """Tell now and then how many runs are done and how long the rest will take, also while none ends."""

    def __init__(
        self,
        found: Inventory,
        tasks: list[Known],
        estimate: "describe.Estimate",
        *,
        orders: Orders,
        watch: silence.Watch,
        workers: int,
        stream: TextIO,
    ):
        self.counts: Counter[str] = Counter()
        self._known = {known.directory.name: known for known in tasks}
        self._total, self._done = len(found.known), found.count(*DONE)
        self._left = describe.to_train(tasks)
        self._estimate, self._workers, self._status = estimate, workers, StatusLine(stream)
        self._orders, self._watch = orders, watch
        # Runs that have ended: until when their worker may write how long they took, and the time with compiling.
        self._unlearned: dict[str, tuple[float, float]] = {}
        self._num_left, self._told, self._has_news = len(tasks), time.monotonic(), False

    def ended(self, outcome: supervise.Outcome) -> None:
        """Count a run that ended."""
        known = self._known[outcome.task.name]
        self.counts[outcome.status] += 1
        self._num_left -= 1
        self._left[known.run.shape] -= known.status != inventory.UNMEASURED
        if outcome.status == "failed":
            directory = known.directory
            self.message(f"failed: {directory.name}: {outcome.problem}; see {directory.error_file}")
        else:
            self._done += 1
            if known.status != inventory.UNMEASURED and outcome.seconds is not None:
                with_compiling = outcome.seconds / known.run.config["group_size"]
                self._unlearned[outcome.task.name] = (time.monotonic() + _WRITE_SECONDS, with_compiling)
        self._has_news = True
        self.tick()

    def tick(self) -> None:
        """Tell how far the study is, if it is time."""
        every = _LIVE_SECONDS if self._status.is_live else _EVERY_SECONDS if self._has_news else _QUIET_SECONDS
        is_over = self._has_news and self._num_left == 0
        if time.monotonic() - self._told >= every or is_over:
            self._told, self._has_news = time.monotonic(), False
            self._status.show(self._text())

    def message(self, text: str) -> None:
        """Print a line that stays."""
        self._status.message(text)

    def close(self) -> None:
        """Leave the live line in sight."""
        self._status.close()

    def _text(self) -> str:
        self._learn()
        training = {name: age for name, age in self._watch.training().items() if name in self._known}
        parts = [f"runs {self._done}/{self._total}"]
        if self._status.is_live:
            full = _BAR * self._done // max(1, self._total)
            parts.insert(0, f"[{'#' * full}{'-' * (_BAR - full)}]")
        parts += [f"{count} {status}" for status in ("diverged", "failed") if (count := self.counts[status])]
        parts += [f"{len(training)} in training"] if training and self._num_left else []
        if any(self._left.values()) and self._estimate.has_seen:
            begun = [(self._known[name].run.shape, age) for name, age in training.items()]
            seconds = self._estimate.left(self._left, workers=self._workers, training=begun)
            parts.append(f"about {duration_text(seconds)} left")
        return "  ".join(parts)

    def _learn(self) -> None:
        """Take in how long runs took without compiling, which the first of a shape does for the others."""
        for name, (until, with_compiling) in list(self._unlearned.items()):
            seconds = self._orders.read_seconds(name)
            if seconds is None and time.monotonic() > until:  # another command has trained it
                seconds = with_compiling
            if seconds is not None:
                self._estimate.learn(self._known[name], seconds)
                del self._unlearned[name]


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
