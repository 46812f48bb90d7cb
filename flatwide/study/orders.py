"""What a study hands to its workers: a file of the runs that are to be trained, and beside it what each has in hand.

Workers share nothing but the work directory. Which run is done, failed or taken is known by its own directory, so any
number of workers, on any machines that see the same files, may follow the same orders and may die at any time.
"""

import datetime
import fcntl
import json
import os
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

from flatwide import config as configs
from flatwide.runs import records
from flatwide.runs.directory import RunDirectory, write_atomically

_VALID = "valid"  # the file that is there as long as workers are to follow the orders


class Task(NamedTuple):
    """One run to train and to measure: the name of its directory, and its resolved config.

    trains: False for a run that is done, which is only measured: the config's three fields of measurements are read.
    """

    name: str
    config: dict[str, Any]
    trains: bool = True


class Orders(NamedTuple):
    """The runs that were to do when a study's command began.

    path: the file that holds them. groups: runs of one compiled program, the costliest group first.
    tensorboard: whether runs write event files.
    """

    path: Path
    workdir: Path
    groups: tuple[tuple[Task, ...], ...]
    tensorboard: bool

    def state(self, task: Task) -> str:
        """Tell "done", "failed" (since the orders were given) or "open"."""
        directory = RunDirectory(self.workdir / "runs" / task.name)
        if (directory.path / "result.json").exists() and not _is_unmeasured(directory, task):
            return "done"
        return "failed" if (self.path.parent / f"failed-{task.name}").exists() else "open"

    def mark_failed(self, task: Task) -> None:
        """Say that a run has failed, so that no worker of these orders tries it again."""
        (self.path.parent / f"failed-{task.name}").touch()

    def are_withdrawn(self) -> bool:
        """Tell whether workers are to save and end.

        A file that is gone says so: opening one that was there asks the server of a network's file system, while one
        that was not there may be believed to be absent for a minute.
        """
        try:
            open(self.path.parent / _VALID).close()
        except FileNotFoundError:
            return True
        return False

    def withdraw(self) -> None:
        """Ask all workers, wherever they are, to save and end."""
        (self.path.parent / _VALID).unlink(missing_ok=True)

    @contextmanager
    def claim(self, number: int) -> Iterator[bool]:
        """Try to be the worker that begins a group, so that no two compile its program at once."""
        with open(self.path.parent / f"group-{number}", "a") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                yield False
                return
            yield True

    def write_in_hand(self, worker: str, names: list[str]) -> None:
        """Say which runs a worker trains now; if it dies, they are what it died of."""
        (self.path.parent / f"worker-{worker}").write_text("\n".join([socket.gethostname(), *names]))

    def read_in_hand(self, worker: str) -> list[str] | None:
        """Read which runs a worker had in hand, or None if no such worker has ever shown itself here."""
        try:
            return (self.path.parent / f"worker-{worker}").read_text().split("\n")[1:]
        except FileNotFoundError:
            return None


def _is_unmeasured(directory: RunDirectory, task: Task) -> bool:
    try:
        return bool(records.missing(directory, task.config))
    except ValueError:
        return False  # its result is damaged, which whoever reads that says


def write(workdir: Path | str, groups: list[list[Task]], *, session: str | None = None, tensorboard: bool) -> Orders:
    """Write orders into a folder of their own, `workdir/study/<session>`.

    Args:
      session: None for the time and this process.
    Raises: ConfigError if files cannot be locked there.
    """
    workdir = Path(workdir).resolve()
    session = session or f"{datetime.datetime.now(datetime.UTC):%Y%m%d-%H%M%S}-{os.getpid()}"
    path = workdir / "study" / session / "orders.json"
    content = {"groups": [[task._asdict() for task in group] for group in groups], "tensorboard": tensorboard}
    path.parent.mkdir(parents=True, exist_ok=True)
    (path.parent / _VALID).touch()
    _check_locks(path.parent / _VALID)
    write_atomically(path, json.dumps(content))
    return Orders(path, workdir, tuple(map(tuple, groups)), tensorboard)


def read(path: Path | str) -> Orders:
    """Read orders.

    Raises: FileNotFoundError if this machine does not see them.
    """
    path = Path(path)
    try:
        content: Mapping[str, Any] = json.loads(path.read_text())
    except FileNotFoundError:
        raise FileNotFoundError(
            f"{path}: {socket.gethostname()} does not see this file. Every worker of a study must see the work "
            "directory under the same path: choose a --workdir on a file system that all of them share."
        ) from None
    groups = tuple(tuple(Task(**task) for task in group) for group in content["groups"])
    return Orders(path, path.parents[2], groups, content["tensorboard"])


def remove(orders: Orders) -> None:
    """Remove the folder of orders that are carried out: everything that a user wants is in the runs."""
    for path in orders.path.parent.iterdir():
        path.unlink(missing_ok=True)
    with suppress(OSError):  # a worker that ends late has left a trace
        os.rmdir(orders.path.parent)


def _check_locks(path: Path) -> None:
    """Check that a file can be locked, and that a lock keeps others out: only so two workers never train one run."""
    with open(path, "a") as first, open(path, "a") as second:
        try:
            fcntl.flock(first, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            problem = f"files cannot be locked there ({error})"
        else:
            try:
                fcntl.flock(second, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                return
            problem = "a lock on a file does not keep others from locking it"
    raise configs.ConfigError(
        [
            f"--workdir={path.parents[2]}: {problem}, so workers could train one run twice. Choose a folder on a file "
            "system with flock: a local disk, NFS 4, or NFS 3 with its lock manager."
        ]
    )
