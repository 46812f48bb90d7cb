"""Work in a process that a cluster has started: the same for each kind of cluster."""

import os
import signal
import sys
import traceback
from collections.abc import Mapping
from typing import NamedTuple

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
    """Collect what a worker needs from the process of the study's command."""
    threads = str(site.threads)
    environment = {name: value for name, value in os.environ.items() if name.startswith(_PASSED_ON)}
    environment |= {"NPROC": threads, "OMP_NUM_THREADS": threads}
    return Assignment(str(site.orders), worker, environment, os.getcwd())


def work(assignment: Assignment, *signals: int) -> Ended:
    """Follow orders until no run is left, and return how the worker ended.

    Args:
      signals: further signals, besides SIGTERM and SIGINT, on which the worker saves and ends.
    """
    os.environ.update(assignment.environment)
    if os.path.isdir(assignment.folder):  # configs may name files and data relative to it
        os.chdir(assignment.folder)
    try:
        # Imported after the environment is set, which JAX reads on import.
        from flatwide.study import worker

        received: list[int] = []  # a second one must not interrupt saving: clusters send several
        for number in (signal.SIGTERM, signal.SIGINT, *signals):
            signal.signal(number, lambda number, frame: received.append(number))
        code = worker.obey(assignment.orders, assignment.worker, should_stop=lambda: bool(received))
    except Exception as error:
        traceback.print_exc(file=sys.stderr)  # into the log of the job
        text = worker.hopeless(error, assignment.orders)
        return Ended(assignment.worker, text or f"{type(error).__name__}: {error}", is_fatal=bool(text))
    return Ended(assignment.worker, was_stopped=code == STOPPED)
