"""Train runs in processes on this machine.

Which run is done is known by its directory alone, so nothing is lost with this process or any worker.
"""

import contextlib
import json
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from flatwide.study.inventory import DONE, Known

_MOST_ATTEMPTS = 3  # of a run whose worker is killed: it may be the run that kills it
_AHEAD = 2  # runs that a worker has in hand, so that it never waits for the next
_BUSY_SECONDS = 2.0
_POLL_SECONDS = 0.2


class Outcome(NamedTuple):
    """How a run ended: its status, the seconds it took, and what went wrong."""

    known: Known
    status: str
    seconds: float | None = None
    problem: str = ""


class WorkerError(RuntimeError):
    """Workers die before they train anything."""


class Stopped(Exception):
    """The study was asked to stop, and its workers have saved."""


@dataclass(eq=False)
class _Worker:
    process: subprocess.Popen
    group: tuple | None = None
    in_hand: deque[int] = field(default_factory=deque)  # numbers of runs, the one in training first
    is_training: bool = False

    def send(self, message: Mapping[str, Any]) -> None:
        """Hand over a message; one that a dead worker does not take comes back when its death is seen."""
        assert self.process.stdin is not None
        with contextlib.suppress(BrokenPipeError, ValueError):
            self.process.stdin.write(json.dumps(message) + "\n")
            self.process.stdin.flush()

    def close(self) -> int:
        """Wait until the process is gone, and give its exit code."""
        code = self.process.wait()
        assert self.process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.close()
        return code


class _Backlog:
    """Runs that wait, by group. A worker stays with its group, since it has compiled its program."""

    def __init__(self, tasks: list[Known], cost: Callable[[Known], float]):
        self._cost, self._groups = cost, {}
        for number, task in enumerate(tasks):
            self._groups.setdefault(task.run.shape, deque()).append(number)
        self._tasks = tasks

    def take(self, preferred: tuple | None, taken: set) -> int | None:
        """Take a run: of the preferred group, else the costliest group that nobody trains, else the costliest."""
        waiting = {shape: numbers for shape, numbers in self._groups.items() if numbers}
        if not waiting:
            return None
        if preferred in waiting:
            return waiting[preferred].popleft()

        def key(shape: tuple) -> tuple[bool, float]:
            numbers = waiting[shape]
            return shape not in taken, len(numbers) * self._cost(self._tasks[numbers[0]])

        return waiting[max(waiting, key=key)].popleft()

    def put_back(self, number: int) -> None:
        self._groups[self._tasks[number].run.shape].appendleft(number)


def train(
    tasks: list[Known],
    workdir: str | os.PathLike,
    *,
    workers: int,
    threads: int,
    tensorboard: bool,
    cost: Callable[[Known], float],
    should_stop: Callable[[], bool],
) -> Iterator[Outcome]:
    """Train runs, and yield each as it ends.

    Args:
      tasks: runs that are not done.
      workers: processes at a time; threads: CPU threads that XLA uses in each.
      cost: about how long a run takes, in any unit; the longest are begun first.
      should_stop: asked several times a second; once it says yes, every worker saves and `Stopped` is raised.
    Raises: Stopped; WorkerError if workers die again and again before they train anything.
    """
    pool = _Pool(tasks, os.fspath(workdir), threads=threads, tensorboard=tensorboard, cost=cost)
    try:
        pool.start(min(workers, len(tasks)))
        while pool.num_left:
            if should_stop():
                raise Stopped("stopped; each run in training has saved. The same command goes on from there.")
            yield from pool.step()
        pool.dismiss()
    finally:
        pool.end()


class _Pool:
    def __init__(self, tasks: list[Known], workdir: str, *, threads: int, tensorboard: bool, cost: Callable):
        self.num_left = len(tasks)
        self._tasks, self._workdir, self._threads, self._tensorboard = tasks, workdir, threads, tensorboard
        self._backlog = _Backlog(tasks, cost)
        self._workers: list[_Worker] = []
        self._events: queue.SimpleQueue[tuple[_Worker, dict[str, Any] | None]] = queue.SimpleQueue()
        self._attempts, self._busy = [0] * len(tasks), deque()
        self._early_deaths = 0

    def start(self, count: int) -> None:
        for _ in range(count):
            environment = os.environ | {"NPROC": str(self._threads), "OMP_NUM_THREADS": str(self._threads)}
            process = subprocess.Popen(
                [sys.executable, "-m", "flatwide.study.worker"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                env=environment,
            )
            worker = _Worker(process)
            self._workers.append(worker)
            threading.Thread(target=self._listen, args=(worker,), daemon=True).start()
            worker.send({"workdir": self._workdir, "tensorboard": self._tensorboard})
            self._feed(worker)

    def step(self) -> Iterator[Outcome]:
        """Wait a moment for an event, and yield the run that it ends, if it does."""
        yield from self._look_at_busy()
        try:
            worker, event = self._events.get(timeout=_POLL_SECONDS)
        except queue.Empty:
            return
        if event is None:
            yield from self._bury(worker)
        elif event["event"] == "start":
            worker.is_training, self._early_deaths = True, 0
        elif event["event"] == "end":
            worker.is_training = False
            number = worker.in_hand.popleft()
            yield from self._ended(number, event)
            self._feed(worker)

    def dismiss(self) -> None:
        """Let the workers end by themselves."""
        for worker in self._workers:
            worker.send({"last": True})

    def end(self) -> None:
        """Ask the workers that still train to save, and wait until all are gone."""
        if self.num_left:
            for worker in self._workers:
                worker.process.send_signal(signal.SIGTERM)
        for worker in self._workers:
            worker.close()

    def _listen(self, worker: _Worker) -> None:
        assert worker.process.stdout is not None
        with worker.process.stdout as lines:
            for line in lines:
                if line.endswith("\n"):  # a killed worker may leave half a line
                    self._events.put((worker, json.loads(line)))
        self._events.put((worker, None))

    def _feed(self, worker: _Worker) -> None:
        while len(worker.in_hand) < _AHEAD:
            taken = {other.group for other in self._workers if other is not worker}
            number = self._backlog.take(worker.group, taken)
            if number is None:
                return
            worker.group = self._tasks[number].run.shape
            worker.in_hand.append(number)
            worker.send({"number": number, "config": dict(self._tasks[number].run.config)})

    def _ended(self, number: int, event: Mapping[str, Any]) -> Iterator[Outcome]:
        if event["status"] == "busy":
            self._busy.append((time.monotonic() + _BUSY_SECONDS, number))
            return
        self.num_left -= 1
        yield Outcome(self._tasks[number], event["status"], event.get("seconds"), event.get("problem", ""))

    def _look_at_busy(self) -> Iterator[Outcome]:
        """Look again at runs that another command trains: done by now, or to be taken over."""
        while self._busy and self._busy[0][0] <= time.monotonic():
            _, number = self._busy.popleft()
            task = self._tasks[number]
            if task.directory.status() in DONE:
                self.num_left -= 1
                seconds = (task.directory.read_result() or {}).get("seconds")
                yield Outcome(task, task.directory.status(), seconds)
            else:
                self._backlog.put_back(number)
                for worker in self._workers:
                    self._feed(worker)

    def _bury(self, worker: _Worker) -> Iterator[Outcome]:
        """Take back what a dead worker had in hand, and start another one."""
        code = worker.close()
        self._workers.remove(worker)
        if worker.is_training:
            number = worker.in_hand.popleft()
            self._attempts[number] += 1
            if self._attempts[number] < _MOST_ATTEMPTS:
                self._backlog.put_back(number)
            else:
                self.num_left -= 1
                problem = f"its worker process ended {_MOST_ATTEMPTS} times, at last with {_code_text(code)}"
                self._tasks[number].directory.write_error(problem)
                yield Outcome(self._tasks[number], "failed", problem=problem)
        else:
            self._early_deaths += 1
        for number in reversed(worker.in_hand):
            self._backlog.put_back(number)
        if self._early_deaths > _MOST_ATTEMPTS:
            raise WorkerError(f"worker processes end before they train anything, with {_code_text(code)}.")
        if self.num_left:
            self.start(1)


def _code_text(code: int) -> str:
    return f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
