"""See orders carried out: keep workers alive, and tell each run that has ended, until none is left."""

import time
from collections import Counter
from collections.abc import Callable, Iterator
from typing import NamedTuple

from flatwide.runs import driver
from flatwide.runs.logs import duration_text, say
from flatwide.study import silence
from flatwide.study.executors import Crew, Ended
from flatwide.study.orders import InHand, Orders, Task

_MOST_ATTEMPTS = 3  # of a run whose worker dies: it may be the run that kills it
_LEAST_POLL_SECONDS = 0.05
_POLL_SHARE = 20  # looking takes at most this part of the time
_BUSY_SECONDS = 2.0  # until the next look at runs that another command trains


class Outcome(NamedTuple):
    """How a run ended: its status, the seconds it took, and what went wrong."""

    task: Task
    status: str
    seconds: float | None = None
    problem: str = ""


class WorkerError(RuntimeError):
    """Workers die before they train anything."""


class Stopped(Exception):
    """The study was asked to stop, and its workers have saved."""


class _Workers:
    """The workers of some orders: start them, replace those that die, and end or replace those that hang.

    Raises: WorkerError where no worker could go on.
    """

    def __init__(self, orders: Orders, crew: Crew, *, most: int, watch: silence.Watch, tell: Callable[[str], None]):
        self._orders, self._crew, self._most, self._watch, self._tell = orders, crew, most, watch, tell
        self.at_work: set[str] = set()
        self._lost: set[str] = set()  # silent, on other machines; others have taken their place
        self._killed: dict[str, str] = {}  # by us, and why
        self._num_started = self._num_idle_deaths = 0
        self._attempts: Counter[str] = Counter()

    def start(self) -> None:
        """Start one more."""
        name = f"{self._num_started % self._most}-{self._num_started}"
        self._crew.start(name)
        self.at_work.add(name)
        self._num_started += 1

    def replace_dead(self, left: dict[str, Task]) -> None:
        """Start a worker for each that has died, and give up runs that it died of too often."""
        for ended in self._crew.ended():
            was_lost = ended.worker in self._lost
            self.at_work.discard(ended.worker)
            self._lost.discard(ended.worker)
            hand = self._orders.read_in_hand(ended.worker)
            self._check(ended, hand)
            if not ended.problem and not ended.was_stopped:
                continue  # there was nothing left to take
            if not ended.was_stopped:
                tasks = [left[name] for name in (hand.names if hand else ()) if name in left]
                problem = self._killed.get(ended.worker, ended.problem)
                _count_death(self._orders, tasks, self._attempts, problem)
            if not was_lost:
                self.start()

    def _check(self, ended: Ended, hand: InHand | None) -> None:
        if ended.is_fatal:
            raise WorkerError(ended.problem)
        has_died = bool(ended.problem or ended.was_stopped)
        if hand is None and not has_died:
            raise WorkerError(
                f"a worker has ended without a trace in {self._orders.path.parent}; does it see this folder?"
            )
        if has_died:
            self._num_idle_deaths = 0 if hand and hand.names else self._num_idle_deaths + 1
        if self._num_idle_deaths > _MOST_ATTEMPTS:
            problem = ended.problem or "they are stopped from outside"
            raise WorkerError(f"workers end before they train anything: {problem}")

    def replace_silent(self) -> None:
        """Tell of workers without a sign of life; kill those that do nothing, and replace those that are elsewhere."""
        for silent in self._watch.look(self.at_work | self._lost):
            self._tell(silent.text())
            if silence.kill(silent):  # the crew tells that it has ended, and it is replaced then
                self._killed[silent.worker] = (
                    f"it had hung for {duration_text(silent.seconds)} without using the processor, and was killed"
                )
            elif not silent.is_here and silent.worker in self.at_work:
                self.at_work.discard(silent.worker)
                self._lost.add(silent.worker)
                self.start()


def supervise(
    orders: Orders,
    crew: Crew,
    *,
    workers: int,
    should_stop: Callable[[], bool],
    watch: silence.Watch | None = None,
    tell: Callable[[str], None] = say,
) -> Iterator[Outcome | None]:
    """Keep workers at work, and yield each run as it ends, or None where nothing has happened for a moment.

    Args:
      orders: what is to do. crew: where workers run. workers: how many at a time.
      should_stop: once it says yes, every worker saves and `Stopped` is raised.
      watch: which knows the workers' signs of life. tell: prints a warning.
    Raises: Stopped; WorkerError if workers die again and again before they train anything, if the disk is full, or if
      the work directory was removed.
    """
    left = {task.name: task for group in orders.groups for task in group}
    crowd = _Workers(orders, crew, most=workers, watch=watch or silence.Watch(orders), tell=tell)
    has_told = False
    with orders.held() as show_command:
        try:
            for _ in range(min(workers, len(left))):
                crowd.start()
            while left:
                if should_stop():
                    raise Stopped("stopped; each run in training has saved. The same command goes on from there.")
                _check_is_there(orders)
                show_command()
                crowd.replace_dead(left)
                crowd.replace_silent()
                began = time.monotonic()
                newly_ended = _newly_ended(orders, left)
                pause = max(_LEAST_POLL_SECONDS, _POLL_SHARE * (time.monotonic() - began))
                for outcome in newly_ended:
                    del left[outcome.task.name]
                    yield outcome
                if left and not crowd.at_work:  # the rest is in training by another command, which may die
                    time.sleep(_BUSY_SECONDS)
                    holders = [orders.directory(task).holder() for task in left.values()]
                    if None in holders:
                        crowd.start()
                    elif not has_told:
                        has_told = True
                        first = next(iter(left))
                        tell(f"waiting for {len(left)} runs that others train, such as {first} (process {holders[0]})")
                yield None
                time.sleep(pause if left else 0)
        finally:
            orders.withdraw()
            crew.stop()


def _count_death(orders: Orders, tasks: list[Task], attempts: Counter[str], problem: str) -> None:
    """Give a run up that was in hand of a worker that died too often."""
    for task in tasks:
        attempts[task.name] += 1
        if attempts[task.name] >= _MOST_ATTEMPTS:
            text = f"its worker died {_MOST_ATTEMPTS} times while it trained this run, at last: {problem}"
            driver.keep_error(task.config, orders.workdir, text)
            orders.mark_failed(task)


def _check_is_there(orders: Orders) -> None:
    """Raise WorkerError where the orders are gone, before anything is made again in a folder that was removed."""
    if not orders.path.exists():
        raise WorkerError(
            f"{orders.workdir}: the work directory, or its study/ folder, was removed while the study trained. Nothing "
            "was made again. Restore the folder to go on; the same command starts anew where it is not there."
        )


def _newly_ended(orders: Orders, left: dict[str, Task]) -> list[Outcome]:
    found = []
    for task in left.values():
        state = orders.state(task)
        directory = orders.directory(task)
        if state == "done":
            try:
                result = directory.read_result() or {}
                found.append(Outcome(task, result["status"], result.get("seconds")))
            except ValueError as error:
                found.append(Outcome(task, "failed", problem=str(error)))
        elif state == "failed":
            problem = directory.read_error() if directory.path.exists() else "its folder was removed while it trained"
            found.append(Outcome(task, "failed", problem=problem))
    return found
