"""What a study asks of the place where its workers run."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple, Protocol

STOP_SECONDS = 120.0  # that a worker has to save; one that hangs is ended then
STOPPED = 143  # exit code of a worker that was asked to end and has saved


class Site(NamedTuple):
    """What workers need.

    orders: the file that they follow. threads: CPU threads of XLA in each. address: of a Ray cluster, or None for this
    machine. slurm: parameters of a Slurm job, as submitit names them.
    """

    orders: Path
    threads: int
    address: str | None = None
    slurm: Mapping[str, Any] = {}


class Ended(NamedTuple):
    """A worker that has ended: its name, and what went wrong, or "" if it found nothing more to do.

    was_stopped: somebody else than the study has ended it, for no fault of the run that it trained.
    """

    worker: str
    problem: str = ""
    was_stopped: bool = False


class Crew(Protocol):
    """Workers of one executor."""

    def start(self, worker: str) -> None:
        """Start a worker of this name, `<place>-<attempt>`."""

    def ended(self) -> list[Ended]:
        """Tell, without waiting, which workers have ended since the last call."""
        ...

    def stop(self) -> None:
        """Ask all workers to save, and wait until they have ended."""
