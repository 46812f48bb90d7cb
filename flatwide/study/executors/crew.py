"""The interface between a study and its executor."""

from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from flatwide.study.executors.placement import Share

STOP_SECONDS = 120.0  # that a worker has for saving, after which it is killed
IDLE_SECONDS = 15.0  # of this time, without using the processor, after which a worker of this machine must hang
STOPPED = 143  # exit code of a worker that was stopped and has saved
UNABLE = 74  # exit code where every other worker would fail too; `worker.hopeless` has the reason


class Site(NamedTuple):
    """The settings of all workers of a study.

    orders: the file that they follow. threads: CPU threads of XLA in each. study: the fields of `config.study`, some of
    which the executor reads. group_size: most runs that are trained in one program.
    """

    orders: Path
    threads: int
    study: Mapping[str, Any] = {}
    group_size: int = 1


class Ended(NamedTuple):
    """A worker that has ended: its name, and what went wrong, or "" if no run was left.

    was_stopped: something other than the study ended it, through no fault of the run that it trained.
    is_fatal: no worker could continue, for example because the disk is full.
    """

    worker: str
    problem: str = ""
    was_stopped: bool = False
    is_fatal: bool = False


class Crew(Protocol):
    """The workers of one executor.

    outlives_command: whether a worker may continue after the study's command is killed.
    """

    outlives_command: bool

    def __init__(self, site: Site):
        """Prepare to start workers.

        Raises: ConfigError if they cannot be started as the study asks.
        """

    @staticmethod
    def faults(study: Mapping[str, Any]) -> list[str]:
        """List what this executor cannot do of `config.study`, for example because a package is not installed.

        Called while a study is planned: nothing is started, and no cluster is contacted.
        """
        ...

    @staticmethod
    def capacity(study: Mapping[str, Any], threads: int) -> int:
        """Count the workers of `threads` CPU threads that can run at once, for a study that does not set `workers`.

        Raises: ConfigError if that depends on a cluster that does not answer.
        """
        ...

    @staticmethod
    def share(study: Mapping[str, Any]) -> Share:
        """Describe the devices of each worker; called while a study is planned, optional in an executor of yours."""
        ...

    def start(self, worker: str) -> None:
        """Start a worker of this name, `<index>-<attempt>`."""

    def ended(self) -> list[Ended]:
        """Return, without waiting, the workers that have ended since the last call."""
        ...

    def stop(self) -> None:
        """Make all workers save, and wait until they have ended."""


def not_installed(executor: str, package: str) -> list[str]:
    """List as a fault that an executor's package, which its extra installs, is missing."""
    if find_spec(package) is not None:
        return []
    return [f"config.study.executor={executor!r} needs {package}: pip install 'flatwide[{executor}]'"]
