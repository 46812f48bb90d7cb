"""Supervision of workers: replace those that die, and report each run as it ends, until none is left."""

import time
from collections import Counter
from collections.abc import Callable, Iterator
from typing import NamedTuple

from flatwide.runs import driver
from flatwide.runs.logs import duration_text, say
from flatwide.runs.recording import Stopped
from flatwide.study import stalls
from flatwide.study.executors import Crew, Ended
from flatwide.study.orders import Assigned, Orders, Task

_MOST_ATTEMPTS = 3  # of a run whose worker dies: the run may be the cause
_LEAST_POLL_SECONDS = 0.05
_MOST_POLL_SECONDS = 10.0  # a command that was stopped during a poll took as long as it was stopped
_POLL_SHARE = 20  # polling takes at most one part in this many of the time
_BUSY_SECONDS = 2.0  # between looks at runs that another command trains


class Outcome(NamedTuple):
    """The end of a run: its status, duration in seconds, and what went wrong."""

    task: Task
    status: str
    seconds: float | None = None
    problem: str = ""


class WorkerError(RuntimeError):
    """Workers die before they train anything."""


class _Workers:
    """The workers of some orders; those that die or hang are replaced.

    Raises: WorkerError if no worker could continue.
    """

    def __init__(self, orders: Orders, crew: Crew, *, most: int, watch: stalls.Watch, tell: Callable[[str], None]):
        self._orders, self._crew, self._most, self._watch, self._tell = orders, crew, most, watch, tell
        self.at_work: set[str] = set()
        self._lost: set[str] = set()  # stalled workers on other machines, which have been replaced
        self._killed: dict[str, str] = {}  # workers killed by this process -> why
        self._num_started = self._num_idle_deaths = 0
        self._attempts: Counter[str] = Counter()

    def start(self) -> None:
        """Start one more worker."""
        name = f"{self._num_started % self._most}-{self._num_started}"
        self._crew.start(name)
        self.at_work.add(name)
        self._num_started += 1

    def replace_dead(self, remaining: dict[str, Task]) -> None:
        """Start a worker for each that has died, and give up runs whose workers died too often."""
        for ended in self._crew.ended():
            was_lost = ended.worker in self._lost
            self.at_work.discard(ended.worker)
            self._lost.discard(ended.worker)
            hand = self._orders.read_assigned(ended.worker)
            self._check(ended, hand)
            if not ended.problem and not ended.was_stopped:
                continue  # there was nothing left to take
            if not ended.was_stopped:
                problem = self._killed.get(ended.worker, ended.problem)
                for task in (remaining[name] for name in (hand.names if hand else ()) if name in remaining):
                    self._count_death(task, problem)
            if not was_lost:
                self.start()

    def _count_death(self, task: Task, problem: str) -> None:
        """Count the death of the worker of a run; mark it as failed if its workers died too often."""
        self._attempts[task.name] += 1
        if self._attempts[task.name] >= _MOST_ATTEMPTS:
            text = f"its worker died {_MOST_ATTEMPTS} times while it trained this run; the last time: {problem}"
            driver.keep_error(task.config, self._orders.workdir, text)
            self._orders.mark_failed(task)

    def _check(self, ended: Ended, hand: Assigned | None) -> None:
        if ended.is_fatal:
            raise WorkerError(ended.problem)
        has_died = bool(ended.problem or ended.was_stopped)
        if hand is None and not has_died:
            raise WorkerError(
                f"a worker has ended without writing to {self._orders.path.parent}; can it see this folder?"
            )
        if has_died:
            self._num_idle_deaths = 0 if hand and hand.names else self._num_idle_deaths + 1
        if self._num_idle_deaths > _MOST_ATTEMPTS:
            problem = ended.problem or "something outside the study stops them"
            raise WorkerError(f"workers end before they train anything: {problem}")

    def replace_stalled(self) -> None:
        """Warn of workers without a sign of life; kill idle ones, and replace those on other machines."""
        for stalled in self._watch.check(self.at_work | self._lost):
            self._tell(stalled.text())
            if stalls.kill(stalled):  # the crew reports its end, and then it is replaced
                self._killed[stalled.worker] = (
                    f"it had hung for {duration_text(stalled.seconds)} without using the processor, and was killed"
                )
            elif not stalled.is_here and stalled.worker in self.at_work:
                self.at_work.discard(stalled.worker)
                self._lost.add(stalled.worker)
                self.start()


def poll_pause(seconds: float) -> float:
    """Return the seconds between polls, of which one took `seconds`."""
    return min(max(_LEAST_POLL_SECONDS, _POLL_SHARE * seconds), _MOST_POLL_SECONDS)


def supervise(
    orders: Orders,
    crew: Crew,
    *,
    workers: int,
    should_stop: Callable[[], bool],
    watch: stalls.Watch | None = None,
    tell: Callable[[str], None] = say,
) -> Iterator[Outcome | None]:
    """Keep workers running, and yield each run as it ends, or None at each poll, so that the caller can show progress.

    Args:
      orders: the runs to train. crew: starts workers. workers: maximum number at a time.
      should_stop: once it returns True, every worker saves and `Stopped` is raised.
      watch: records the workers' signs of life. tell: prints a warning.
    Raises: Stopped; WorkerError if workers die repeatedly before they train anything, if the disk is full, or if the
      work directory was removed.
    """
    remaining = {task.name: task for group in orders.groups for task in group}
    pool = _Workers(orders, crew, most=workers, watch=watch or stalls.Watch(orders), tell=tell)
    has_warned, orphans = False, stalls.Orphans()
    with orders.held() as show_command:
        try:
            for _ in range(min(workers, len(remaining))):
                pool.start()
            while remaining:
                if should_stop():
                    raise Stopped("stopped; each run in training has saved. Rerun the same command to resume.")
                if not orders.path.exists():  # nothing is to be recreated in a folder that was removed
                    raise WorkerError(
                        f"{orders.workdir}: the work directory, or its study/ folder, was removed while the study "
                        "trained. Nothing was recreated. Restore the folder to resume; without it, the same command "
                        "starts from the beginning."
                    )
                show_command()
                pool.replace_dead(remaining)
                pool.replace_stalled()
                began = time.monotonic()
                newly_ended = _newly_ended(orders, remaining)
                pause = poll_pause(time.monotonic() - began)
                for outcome in newly_ended:
                    del remaining[outcome.task.name]
                    yield outcome
                if remaining and not pool.at_work:  # another command trains the rest, and may die
                    time.sleep(_BUSY_SECONDS)
                    holders = [orders.directory(task).holder() for task in remaining.values()]
                    if None in holders:
                        pool.start()
                    elif not has_warned:
                        has_warned = True
                        first = next(iter(remaining))
                        tell(
                            f"waiting for {len(remaining)} runs that other commands train, such as {first} (process "
                            f"{holders[0]}); a worker of this machine whose command was killed is woken once it has "
                            f"used no processor time for {duration_text(stalls.LEAST_SECONDS)}"
                        )
                    for line in orphans.end(holders):
                        tell(line)
                yield None
                time.sleep(pause if remaining else 0)
        finally:
            orders.withdraw()
            crew.stop()


def _newly_ended(orders: Orders, remaining: dict[str, Task]) -> list[Outcome]:
    outcomes = []
    for task in remaining.values():
        state = orders.state(task)
        directory = orders.directory(task)
        if state == "done":
            try:
                result = directory.read_result() or {}
                outcomes.append(Outcome(task, result["status"], result.get("seconds")))
            except ValueError as error:
                outcomes.append(Outcome(task, "failed", problem=str(error)))
        elif state == "failed":
            problem = directory.read_error() if directory.path.exists() else "its folder was removed while it trained"
            outcomes.append(Outcome(task, "failed", problem=problem))
    return outcomes
