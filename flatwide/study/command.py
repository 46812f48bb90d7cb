"""Plan, train and tabulate a study, or tell what it would do."""

import os
import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple, TextIO

from flatwide import driver, preview, results
from flatwide.logs import duration_text
from flatwide.study import describe, inventory, local, plan
from flatwide.study.inventory import Inventory, Known
from flatwide.study.plan import Plan

_EVERY_SECONDS = 10.0  # between progress lines


class Summary(NamedTuple):
    """How a study stands: planned runs, those done (diverged ones among them), diverged, and failed or refused ones."""

    num_runs: int
    num_done: int
    num_diverged: int
    num_failed: int


def run(
    values: Mapping[str, Any],
    workdir: str | os.PathLike,
    *,
    should_stop: Callable[[], bool] = lambda: False,
    stream: TextIO | None = None,
) -> Summary:
    """Train every run of a study that is not done yet, and rebuild `results.csv`.

    Args:
      values: the fields of a config with a study.
      workdir: each run gets a directory of its own in `workdir/runs`.
      should_stop: asked several times a second; once it says yes, runs in training are saved and `Stopped` is raised.
      stream: where progress is told; None for standard error.
    Raises: ConfigError, DataError, Stopped.
    """
    out, workdir = stream or sys.stderr, os.fspath(workdir)
    planned = plan.expand(values)
    found = inventory.take(planned, workdir)
    estimate = describe.Estimate(found)
    for line in describe.heading(planned, found, num_workers=num_workers(planned, found), estimate=estimate):
        print(line, file=out, flush=True)
    try:
        failed = _train(planned, found, workdir, should_stop=should_stop, stream=out, estimate=estimate)
    finally:
        results.write_results(Path(workdir))
    refused = [known for known in found.known if known.status in inventory.REFUSED]
    for known in refused:
        print(f"kept and not trained: {known.problem}", file=out)
    after = inventory.take(planned, workdir)
    num_done = after.count(*inventory.DONE)
    return Summary(len(planned.runs), num_done, after.count("diverged"), failed + len(refused))


def _train(
    planned: Plan,
    found: Inventory,
    workdir: str | os.PathLike,
    *,
    should_stop: Callable[[], bool],
    stream: TextIO,
    estimate: "describe.Estimate",
) -> int:
    """Hand what is to do to the executor and tell how far it is; give the number of failed runs."""
    tasks = found.to_do()
    if not tasks:
        return 0
    workers = num_workers(planned, found)
    progress = _Progress(found, tasks, estimate, workers=workers, stream=stream)
    outcomes = local.train(
        tasks,
        workdir,
        workers=workers,
        threads=threads(planned),
        tensorboard=planned.settings.tensorboard,
        cost=estimate.cost,
        should_stop=should_stop,
    )
    for outcome in outcomes:
        progress.ended(outcome)
    return progress.counts["failed"]


def threads(planned: Plan) -> int:
    """Give the CPU threads of each worker: those of the config, else one, which wastes none on waiting."""
    return planned.runs[0].config["threads"] or 1


def num_workers(planned: Plan, found: Inventory) -> int:
    """Give the number of worker processes: as many as the cores allow, and one where runs share a GPU."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    on_gpu = Path("/dev/nvidia0").exists() and os.environ.get("JAX_PLATFORMS", "") != "cpu"
    most = planned.settings.workers or (1 if on_gpu else max(1, cores // threads(planned)))
    return max(1, min(most, len(found.to_do())))


class _Progress:
    """Tell now and then how many runs are done and how long the rest will take."""

    def __init__(
        self, found: Inventory, tasks: list[Known], estimate: "describe.Estimate", *, workers: int, stream: TextIO
    ):
        self.counts: Counter[str] = Counter()
        self._total, self._done = len(found.known), found.count(*inventory.DONE)
        self._left = Counter(known.run.shape for known in tasks)
        self._estimate, self._workers, self._stream = estimate, workers, stream
        self._num_left, self._told = len(tasks), time.monotonic()

    def ended(self, outcome: local.Outcome) -> None:
        """Count a run that ended."""
        self.counts[outcome.status] += 1
        self._num_left -= 1
        self._left[outcome.known.run.shape] -= 1
        if outcome.status == "failed":
            path = outcome.known.directory.path
            print(f"failed: {path.name}: {outcome.problem}; see {path / 'error.txt'}", file=self._stream, flush=True)
        else:
            self._done += 1
            self._estimate.learn(outcome.known, outcome.seconds)
        now = time.monotonic()
        if now - self._told >= _EVERY_SECONDS or self._num_left == 0:
            self._told = now
            print(self._text(), file=self._stream, flush=True)

    def _text(self) -> str:
        parts = [f"runs {self._done}/{self._total}"]
        parts += [f"{count} {status}" for status in ("diverged", "failed") if (count := self.counts[status])]
        if self._num_left:
            seconds = self._estimate.total(self._left) / self._workers
            parts.append(f"about {duration_text(seconds)} left")
        return "  ".join(parts)


def dry_run(values: Mapping[str, Any], workdir: str | os.PathLike) -> str:
    """Tell what a study would do, without training.

    Raises: ConfigError; DataError if the data set was given a folder and is not there.
    """
    planned = plan.expand(values)
    config = planned.runs[0].config
    if preview.is_local(config):
        found = inventory.take(planned, workdir)
    else:  # the names of runs depend on data that are not on this machine
        unknown = (Known(run, driver.runs.RunDirectory(Path(workdir)), "unknown") for run in planned.runs)
        found = Inventory(tuple(unknown), ())
    estimate = describe.Estimate(found)
    lines = describe.heading(planned, found, num_workers=num_workers(planned, found), estimate=estimate)
    return "\n".join([*lines, *describe.groups(found, estimate), *describe.disk(found)])
