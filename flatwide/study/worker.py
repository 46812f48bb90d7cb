"""Follow orders until no run is left that this worker could train; the same for every executor.

    python -m flatwide.study.worker ORDERS NAME

It saves what it trains and ends when its orders are withdrawn, on SIGTERM, and when its standard input ends, as it does
when the study's command on the same machine is killed.
Exit codes: 0 nothing is left to take, 1 failed, 143 stopped.
"""

import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path

from flatwide import runner
from flatwide.measurements.measuring import MeasurementError, WaitingError
from flatwide.runs import driver
from flatwide.runs.directory import BusyError, RunDirectory
from flatwide.study import orders as study_orders
from flatwide.study.executors.crew import STOP_SECONDS, STOPPED
from flatwide.study.orders import Orders, Task


def follow(path: Path | str, worker: str, *, place: int, should_stop: Callable[[], bool]) -> None:
    """Train the runs of some orders that nobody else trains.

    First whole groups that no other worker has begun, since their runs share a compiled program; then whatever is
    left of any group, from its end.

    Args:
      path: the orders.
      worker: name of this worker, told to those who look after it.
      place: number of this worker; it decides with which group it begins.
    Raises: Stopped, once the run in training is saved; FileNotFoundError if this machine does not see the orders.
    """
    orders = study_orders.read(path)
    orders.write_in_hand(worker, [])

    def must_stop() -> bool:
        return should_stop() or orders.are_withdrawn()

    count = len(orders.groups)
    for number in ((place + offset) % count for offset in range(count)):
        with orders.claim(number) as is_mine:
            if is_mine:
                _train(orders, worker, _pieces(orders.groups[number]), must_stop)
    for group in orders.groups:
        _train(orders, worker, reversed(list(_pieces(group))), must_stop)


def _pieces(group: tuple[Task, ...]) -> Iterator[tuple[Task, ...]]:
    """Cut a group into what is trained at a time."""
    size = _size(group[0])
    return (group[first : first + size] for first in range(0, len(group), size))


def _size(task: Task) -> int:
    return task.config["group_size"] if task.trains else 1


def _train(orders: Orders, worker: str, pieces, should_stop: Callable[[], bool]) -> None:
    for piece in pieces:
        left = [task for task in piece if orders.state(task) == "open"]
        if not left:
            continue
        if should_stop():
            raise driver.Stopped("stopped between runs.")
        orders.write_in_hand(worker, [task.name for task in left])
        if _size(piece[0]) > 1:
            group = [task.config for task in left]
            options = {"should_stop": should_stop, "tensorboard": orders.tensorboard}
            outcomes = runner.run_together(group, orders.workdir, **options)
            for task, outcome in zip(left, outcomes, strict=True):
                if outcome.waits_for:
                    _wait(orders, task, outcome.waits_for, outcome.problem)
                elif outcome.status == "failed":
                    orders.mark_failed(task)
        else:
            _train_one(orders, left[0], should_stop)
        orders.write_in_hand(worker, [])


def _train_one(orders: Orders, task: Task, should_stop: Callable[[], bool]) -> None:
    """Train and measure one run; whatever goes wrong with it is its own business and written beside it."""
    directory = RunDirectory(orders.workdir / "runs" / task.name)
    told = directory.read_error()
    try:
        if task.trains:
            options = {"should_stop": should_stop, "tensorboard": orders.tensorboard}
            runner.run(task.config, orders.workdir, **options, quiet=True)
        else:
            runner.measure_run(directory, task.config, should_stop=should_stop, quiet=True)
    except driver.Stopped:
        raise
    except WaitingError as error:
        _wait(orders, task, error.waits_for, str(error))
    except MeasurementError:  # each is written beside the run already
        orders.mark_failed(task)
    except BusyError:
        return
    except Exception as error:
        if directory.read_error() == told:  # it failed before it could write so itself
            driver.keep_error(task.config, orders.workdir, "".join(traceback.format_exception(error)))
        orders.mark_failed(task)


def _wait(orders: Orders, task: Task, waits_for: str, problem: str) -> None:
    """Leave a run to be measured once the one that it is compared with is trained, if these orders have it."""
    others = [other for group in orders.groups for other in group if other.name == waits_for]
    if not others or orders.state(others[0]) == "failed":
        RunDirectory(orders.workdir / "runs" / task.name).write_error(problem)
        orders.mark_failed(task)


def stopping_on(*signals: int) -> threading.Event:
    """Give an event that SIGTERM, SIGINT and some other signals set from now on."""
    stopping = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT, *signals):
        signal.signal(number, lambda number, frame: stopping.set())
    return stopping


def obey(path: Path | str, worker: str, *, should_stop: Callable[[], bool]) -> int:
    """Follow orders, with the place in the worker's name, `<place>-<attempt>`, and give the exit code."""
    try:
        follow(path, worker, place=int(worker.partition("-")[0]), should_stop=should_stop)
    except driver.Stopped:
        return STOPPED
    return 0


def main(arguments: list[str]) -> int:
    """Follow the orders that the command line names; give the exit code."""
    path, worker = arguments
    stopping = stopping_on()

    def listen() -> None:
        sys.stdin.read()
        stopping.set()
        time.sleep(STOP_SECONDS)
        os._exit(STOPPED)  # it hangs, and nobody is left to end it

    threading.Thread(target=listen, daemon=True).start()
    return obey(path, worker, should_stop=stopping.is_set)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
