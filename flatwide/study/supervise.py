"""See orders carried out: keep workers alive, and tell each run that has ended, until none is left."""

import time
from collections import Counter
from collections.abc import Callable, Iterator
from typing import NamedTuple

from flatwide.runs import driver
from flatwide.runs.directory import RunDirectory
from flatwide.study.executors import Crew
from flatwide.study.orders import Orders, Task

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


def supervise(orders: Orders, crew: Crew, *, workers: int, should_stop: Callable[[], bool]) -> Iterator[Outcome | None]:
    """Keep workers at work, and yield each run as it ends, or None where nothing has happened for a moment.

    Args:
      orders: what is to do. crew: where workers run. workers: how many at a time.
      should_stop: once it says yes, every worker saves and `Stopped` is raised.
    Raises: Stopped; WorkerError if workers die again and again before they train anything.
    """
    left = {task.name: task for group in orders.groups for task in group}
    attempts: Counter[str] = Counter()
    alive, num_started, num_idle_deaths = set(), 0, 0

    def start() -> None:
        nonlocal num_started
        name = f"{num_started % workers}-{num_started}"
        crew.start(name)
        alive.add(name)
        num_started += 1

    try:
        for _ in range(min(workers, len(left))):
            start()
        while left:
            if should_stop():
                raise Stopped("stopped; each run in training has saved. The same command goes on from there.")
            for ended in crew.ended():
                alive.discard(ended.worker)
                in_hand = orders.read_in_hand(ended.worker)
                if in_hand is None and not ended.problem and not ended.was_stopped:
                    raise WorkerError(
                        f"a worker has ended without a trace in {orders.path.parent}; does it see this folder?"
                    )
                if not ended.problem and not ended.was_stopped:
                    continue  # there was nothing left to take
                num_idle_deaths = 0 if in_hand else num_idle_deaths + 1
                if num_idle_deaths > _MOST_ATTEMPTS:
                    problem = ended.problem or "they are stopped from outside"
                    raise WorkerError(f"workers end before they train anything: {problem}")
                if not ended.was_stopped:
                    tasks = [left[name] for name in in_hand or () if name in left]
                    _count_death(orders, tasks, attempts, ended.problem)
                start()
            began = time.monotonic()
            newly_ended = _newly_ended(orders, left)
            pause = max(_LEAST_POLL_SECONDS, _POLL_SHARE * (time.monotonic() - began))
            for outcome in newly_ended:
                del left[outcome.task.name]
                yield outcome
            if left and not alive:  # the rest is in training by another command, which may die
                time.sleep(_BUSY_SECONDS)
                start()
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


def _newly_ended(orders: Orders, left: dict[str, Task]) -> list[Outcome]:
    found = []
    for task in left.values():
        state = orders.state(task)
        directory = RunDirectory(orders.workdir / "runs" / task.name)
        if state == "done":
            try:
                result = directory.read_result() or {}
                found.append(Outcome(task, result["status"], result.get("seconds")))
            except ValueError as error:
                found.append(Outcome(task, "failed", problem=str(error)))
        elif state == "failed":
            found.append(Outcome(task, "failed", problem=directory.read_error()))
    return found
