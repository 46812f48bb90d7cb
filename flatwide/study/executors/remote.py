"""Work in a process that a cluster has started: the same for each kind of cluster."""

import atexit
import os
import signal
import sys
import traceback
from collections.abc import Callable, Mapping
from typing import NamedTuple

from flatwide import machine, processes
from flatwide.study.executors import placement
from flatwide.study.executors.crew import STOPPED, Ended, Site

# Variables that affect numerics and devices; a node that starts processes with a fresh environment lacks them.
_PASSED_ON = ("JAX_", "XLA_", "TF_CUDNN_")


class Assignment(NamedTuple):
    """The input of a worker's process: the orders, its name, and the environment and folder of the command."""

    orders: str
    worker: str
    environment: Mapping[str, str]
    folder: str


def assign(site: Site, worker: str) -> Assignment:
    """Collect what a worker needs from the process of the study's command; the cluster sets which GPUs it sees."""
    threads = str(site.threads)
    environment = {name: value for name, value in os.environ.items() if name.startswith(_PASSED_ON)}
    environment |= placement.memory_environment(site.study)
    if site.study.get("devices_per_run") and machine.is_cpu_only():
        environment |= machine.with_cpu_devices(site.study["devices_per_run"])
    environment |= {"NPROC": threads, "OMP_NUM_THREADS": threads}
    return Assignment(str(site.orders), worker, environment, os.getcwd())


def work(assignment: Assignment, *signals: int, join: Callable[[], None] = lambda: None) -> Ended:
    """Follow orders until no run is left, and return how the worker ended.

    Args:
      signals: further signals, besides SIGTERM and SIGINT, on which the worker saves and ends.
      join: joins the other processes of this worker, if it has some.
    """
    os.environ.update(assignment.environment)
    if os.path.isdir(assignment.folder):  # configs may name files and data relative to it
        os.chdir(assignment.folder)
    # Imported after the environment is set, which JAX reads on import.
    from flatwide.runs.directory import BusyError
    from flatwide.study import worker

    try:
        received: list[int] = []  # a second one must not interrupt saving: clusters send several
        for number in (signal.SIGTERM, signal.SIGINT, *signals):
            signal.signal(number, lambda number, frame: received.append(number))

        def should_stop() -> bool:
            processes.share_signals(received)
            return bool(received)

        join()
        code = worker.obey(assignment.orders, assignment.worker, should_stop=should_stop)
        processes.leave(0)
    except Exception as error:
        traceback.print_exc(file=sys.stderr)  # into the log of the job
        _end_others(error)
        if isinstance(error, BusyError):  # another command's worker has begun the run in the meantime
            return Ended(assignment.worker, was_stopped=True)
        text = worker.hopeless(error, assignment.orders)
        return Ended(assignment.worker, text or f"{type(error).__name__}: {error}", is_fatal=bool(text))
    return Ended(assignment.worker, was_stopped=code == STOPPED)


def _end_others(error: Exception) -> None:
    """End the processes of this worker after an error in one of them: process 0 once its result is returned.

    If the error is that a process was lost, no result is returned, and the cluster knows what has ended that process.
    """
    text = "" if processes.is_lost(error) else traceback.format_exc()
    if processes.is_first() and text:
        atexit.register(processes.leave, 1, text)
    else:
        processes.leave(1, text)
