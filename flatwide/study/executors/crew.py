"""What a study asks of the place where its workers run."""

from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple, Protocol

STOP_SECONDS = 120.0  # that a worker has to save; one that hangs is ended then
IDLE_SECONDS = 15.0  # of these, without using the processor, after which a worker of this machine hangs for certain
STOPPED = 143  # exit code of a worker that was asked to end and has saved
UNABLE = 74  # that of a worker in whose place no other could go on; `worker.hopeless` has said why


class Site(NamedTuple):
    """What workers need.

    orders: the file that they follow. threads: CPU threads of XLA in each. study: the fields of `config.study`, of
    which an executor reads its own.
    """

    orders: Path
    threads: int
    study: Mapping[str, Any] = {}


class Ended(NamedTuple):
    """A worker that has ended: its name, and what went wrong, or "" if it found nothing more to do.

    was_stopped: somebody else than the study has ended it, for no fault of the run that it trained.
    is_fatal: no worker could go on, as where the disk is full.
    """

    worker: str
    problem: str = ""
    was_stopped: bool = False
    is_fatal: bool = False


class Crew(Protocol):
    """Workers of one executor: all that differs from one to another.

    outlives_command: whether a worker may go on where the study's command is killed.
    """

    outlives_command: bool

    def __init__(self, site: Site):
        """Make ready to start workers.

        Raises: ConfigError if they cannot be started as the study asks.
        """

    @staticmethod
    def faults(study: Mapping[str, Any]) -> list[str]:
        """List what of `config.study` this executor cannot do, such as for a package that is not installed.

        Asked while a study is planned: nothing is started, and no cluster is asked.
        """
        ...

    @staticmethod
    def capacity(study: Mapping[str, Any], threads: int) -> int:
        """Count the workers of so many CPU threads that can run at once, for a study that does not set `workers`.

        Raises: ConfigError if that depends on a cluster that does not answer.
        """
        ...

    def start(self, worker: str) -> None:
        """Start a worker of this name, `<place>-<attempt>`."""

    def ended(self) -> list[Ended]:
        """Tell, without waiting, which workers have ended since the last call."""
        ...

    def stop(self) -> None:
        """Ask all workers to save, and wait until they have ended."""


def not_installed(executor: str, package: str) -> list[str]:
    """List as a fault that the package of an executor, in the extra of the executor's name, is not installed."""
    if find_spec(package) is not None:
        return []
    return [f"config.study.executor={executor!r} needs {package}: pip install 'flatwide[{executor}]'"]
