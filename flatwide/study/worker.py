"""A worker process, which trains runs of its orders until none is left; the same for every executor.

    python -m flatwide.study.worker ORDERS NAME

A worker may consist of several processes, which train each run together (`flatwide.processes`): process 0 follows the
orders, and the others train the runs that it names.

It saves its run and ends when its orders are withdrawn, on SIGTERM, and when its standard input closes, which happens
when the study's command on the same machine is killed.
Exit codes: 0 no run is left, 1 failed, 74 no worker could continue, 130 ended at once, 143 stopped.
"""

import contextlib
import os
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path

from flatwide import machine, processes, runner
from flatwide.measurements.errors import MeasurementError, WaitingError
from flatwide.runs import disk, driver, jax_settings, signals
from flatwide.runs.directory import BusyError, RunDirectory
from flatwide.runs.logs import say
from flatwide.study import orders as study_orders
from flatwide.study.executors.crew import STOP_SECONDS, STOPPED, UNABLE
from flatwide.study.orders import Orders, Task

_BEAT_SECONDS = 1.0  # between signs of life


def follow(path: Path | str, worker: str, *, index: int, should_stop: Callable[[], bool]) -> None:
    """Train the runs of some orders that no other worker trains.

    Whole groups that no other worker has begun come first, since their runs share a compiled program; then come the
    remaining runs of all groups, each from its end.

    Args:
      path: the orders.
      worker: name of this worker.
      index: number of this worker; it decides with which group it begins.
    Raises: Stopped, once the run in training is saved; FileNotFoundError if this machine does not see the orders;
      LocksError if it does not see the locks of other machines; OSError if the disk is full.
    """
    orders = study_orders.read(path)
    orders.write_assigned(worker, [])
    last_beat = time.monotonic()

    def must_stop() -> bool:
        """Whether to save and end; called after every segment, so that it doubles as the sign of life."""
        nonlocal last_beat
        if time.monotonic() - last_beat > _BEAT_SECONDS:
            orders.beat(worker)
            last_beat = time.monotonic()
        return should_stop() or orders.are_withdrawn()

    orders.check_locks(must_stop)
    count = len(orders.groups)
    for number in ((index + offset) % count for offset in range(count)):
        with orders.claim(number) as is_claimed:
            if is_claimed:
                _train(orders, worker, _pieces(orders.groups[number]), must_stop)
    for group in orders.groups:
        _train(orders, worker, reversed(list(_pieces(group))), must_stop)


def _pieces(group: tuple[Task, ...]) -> Iterator[tuple[Task, ...]]:
    """Split a group into the runs that are trained together."""
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
        orders.write_assigned(worker, [task.name for task in left])
        began, compiled, is_trained = time.monotonic(), jax_settings.compile_seconds(), True
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
            is_trained = _train_one(orders, left[0], should_stop)
        seconds = time.monotonic() - began - (jax_settings.compile_seconds() - compiled)
        for task in left if is_trained else ():
            orders.write_seconds(task.name, max(0.0, seconds) / len(left))
        orders.write_assigned(worker, [])


def _train_one(orders: Orders, task: Task, should_stop: Callable[[], bool]) -> bool:
    """Train and measure one run; write its errors beside it, and do not let them end a worker of one process.

    A worker of several ends when a run fails, since the other processes may wait in a step for the one that failed.
    Returns: whether it was this worker that trained or measured the run, whatever came of it.
    Raises: Stopped; BusyError if another command's worker has begun the run after the others were to train it.
    """
    directory = RunDirectory(orders.workdir / "runs" / task.name)
    is_alone, earlier_error = processes.count() == 1, directory.read_error()
    if not is_alone and directory.holder() is not None:
        return False  # another command's worker trains it

    def fail(text: str) -> None:
        if directory.read_error() == earlier_error:  # it failed before it could write its error
            driver.keep_error(task.config, orders.workdir, text)
        orders.mark_failed(task)

    try:
        if task.trains:
            processes.agreed(lambda: task.config)  # for `assist`
            options = {"should_stop": should_stop, "tensorboard": orders.tensorboard}
            with processes.reacting_to_failures(fail):
                runner.run(task.config, orders.workdir, **options, quiet=True)
        else:
            runner.measure_run(directory, task.config, should_stop=should_stop, quiet=True)
    except driver.Stopped:
        raise
    except WaitingError as error:
        _wait(orders, task, error.waits_for, str(error))
    except MeasurementError:  # already written beside the run
        orders.mark_failed(task)
    except BusyError:
        if task.trains and not is_alone:
            raise  # the other processes wait in this run
        return False
    except Exception as error:
        if processes.is_lost(error) or disk.is_full(error) or not orders.path.exists():
            raise  # no fault of this run: other runs would fail too
        if isinstance(error, disk.RemovedError):
            orders.mark_failed(task)
        else:
            fail("".join(traceback.format_exception(error)))
        if not is_alone:
            raise
    return True


def assist(workdir: Path | str, *, should_stop: Callable[[], bool]) -> None:
    """Train the runs that process 0 of this worker names, together with it, until it names none.

    Args:
      should_stop: as for `work`; process 0 decides.
    """
    while (config := processes.agreed(lambda: None)) is not None:
        with contextlib.suppress(driver.Stopped):
            runner.run(config, workdir, should_stop=should_stop, quiet=True, tensorboard=False)


def _wait(orders: Orders, task: Task, waits_for: str, problem: str) -> None:
    """Postpone measuring a run until the run that it is compared with is trained; it fails if none will be."""
    others = [other for group in orders.groups for other in group if other.name == waits_for]
    if not others or orders.state(others[0]) == "failed":
        RunDirectory(orders.workdir / "runs" / task.name).write_error(problem)
        orders.mark_failed(task)


def work(path: Path | str, worker: str, *, should_stop: Callable[[], bool]) -> int:
    """Follow orders, with the index from the worker's name, `<index>-<attempt>`, and return the exit code."""
    if not processes.is_first():
        assist(Path(path).parents[2], should_stop=should_stop)
        return 0
    code = 0
    try:
        follow(path, worker, index=int(worker.partition("-")[0]), should_stop=should_stop)
    except driver.Stopped:
        code = STOPPED
    processes.agreed(lambda: None)  # no run is left for the other processes
    return code


def main(arguments: list[str]) -> int:
    """Follow the orders that the command line names; return the exit code."""
    machine.collect_garbage_rarely()
    path, worker = arguments
    received, is_alone = signals.heard(quiet=True), threading.Event()

    def listen() -> None:
        sys.stdin.read()
        is_alone.set()
        time.sleep(STOP_SECONDS)
        os._exit(STOPPED)  # it hangs, and the command that would end it is gone

    threading.Thread(target=listen, daemon=True).start()
    try:
        return work(path, worker, should_stop=lambda: bool(received) or is_alone.is_set())
    except Exception as error:
        if text := unrecoverable(error, path):
            say(text)
            return UNABLE
        if not os.path.exists(path):
            return STOPPED  # the work directory was removed, which the command reports
        raise


def unrecoverable(error: Exception, path: Path | str) -> str:
    """Return why every worker of these orders would fail as well; "" if another might succeed."""
    if isinstance(error, OSError) and disk.is_full(error):
        return disk.full_text(error, Path(path).parents[2])
    return str(error) if isinstance(error, study_orders.LocksError | jax_settings.UnknownHostError) else ""


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
