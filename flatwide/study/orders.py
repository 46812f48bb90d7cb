"""Orders of a study for its workers: a file with the runs to train, and beside it the current runs of each worker.

Workers share only the work directory. The directory of each run shows whether it is done, failed or taken, so any
number of workers, on any machines that see the same files, may follow the same orders and may die at any time.
"""

import datetime
import fcntl
import json
import math
import os
import re
import socket
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

from flatwide import config as configs
from flatwide import machine
from flatwide.runs import records
from flatwide.runs.directory import RunDirectory, is_abandoned, write_atomically

_VALID = "valid"  # this file exists as long as workers are to follow the orders
_COMMAND = "command"  # the study's command locks this file and renews its time as long as it lives
_SHOW_SECONDS = 5.0  # between two renewals
_LOOK_SECONDS = 0.5
_OUTLIVED_SECONDS = 7 * 24 * 3600.0  # after so long without a sign of life, no job follows the orders of a dead command
_SESSION = re.compile(r"[0-9]{8}-[0-9]{6}[.-].+")  # a folder of orders: time, host, process (earlier: no host)
_DEAD_SECONDS = 90.0  # after so long without one, a command is dead; a network file system may delay one by a minute


class Task(NamedTuple):
    """One run to train and to measure: the name of its directory, and its resolved config.

    trains: False for a finished run, which is only measured: then only the config's measurement fields are read.
    """

    name: str
    config: dict[str, Any]
    trains: bool = True


class LocksError(RuntimeError):
    """File locks do not exclude the processes of other machines."""


class Assigned(NamedTuple):
    """A worker's report of its current work.

    names: the runs that it trains now. host, pid: its process. started: as in `machine.Process`, 0 if unknown.
    """

    names: tuple[str, ...] = ()
    host: str = ""
    pid: int = 0
    started: int = 0


class Orders(NamedTuple):
    """The runs that were left to do when a study's command began.

    path: the file that holds them. groups: runs of one compiled program, the costliest group first.
    tensorboard: whether runs write event files.
    """

    path: Path
    workdir: Path
    groups: tuple[tuple[Task, ...], ...]
    tensorboard: bool

    def directory(self, task: Task) -> RunDirectory:
        """Return the directory of a run."""
        return RunDirectory(self.workdir / "runs" / task.name)

    def state(self, task: Task) -> str:
        """Return "done", "failed" (since the orders were written) or "open"."""
        directory = self.directory(task)
        if (directory.path / "result.json").exists() and not _is_unmeasured(directory, task):
            return "done"
        return "failed" if (self.path.parent / f"failed-{task.name}").exists() else "open"

    def mark_failed(self, task: Task) -> None:
        """Record that a run has failed, so that no worker of these orders tries it again."""
        (self.path.parent / f"failed-{task.name}").touch()

    def are_withdrawn(self) -> bool:
        """Whether workers are to save and end.

        The absence of a file signals it: opening a file that existed asks the server of a network file system, whereas
        the client may cache for a minute that a file does not exist.
        """
        try:
            open(self.path.parent / _VALID).close()
        except FileNotFoundError:
            return True
        return False

    def withdraw(self) -> None:
        """Ask all workers, on all machines, to save and end."""
        (self.path.parent / _VALID).unlink(missing_ok=True)

    @contextmanager
    def held(self) -> Iterator[Callable[[], None]]:
        """Hold the lock of the command that supervises these orders; yield a function that shows it is alive."""
        with open(self.path.parent / _COMMAND, "a") as file:
            with suppress(BlockingIOError):
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shown = time.monotonic()

            def show() -> None:
                nonlocal shown
                if time.monotonic() - shown > _SHOW_SECONDS:
                    os.utime(file.fileno())
                    shown = time.monotonic()

            yield show

    def check_locks(self, should_stop: Callable[[], bool]) -> None:
        """Check that the command's lock excludes this worker, as the locks of runs must exclude other workers.

        If this worker can take the lock, either the command has died, which is no fault, or this machine does not see
        its locks; a live command renews the time of its file.

        Raises: LocksError in the latter case.
        """
        path = self.path.parent / _COMMAND
        try:
            with open(path, "r+") as file:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                first, began = path.stat().st_mtime_ns, time.monotonic()
                while time.monotonic() - began < _DEAD_SECONDS and not should_stop():
                    time.sleep(_LOOK_SECONDS)
                    if path.stat().st_mtime_ns != first:
                        raise LocksError(
                            f"{path.parents[2]}: {socket.gethostname()} does not see the lock that the study's command "
                            f"holds on {path}, so two machines could train one run at once. Mount this file system "
                            "with locks that other machines see (no `nolock`, `local_lock` or `localflock`), or choose "
                            "another --workdir."
                        )
        except (BlockingIOError, FileNotFoundError):  # it is locked as it should be, or there is no command
            return

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

    def write_assigned(self, worker: str, names: list[str]) -> None:
        """Write which runs a worker trains now; if it dies, they may be the cause."""
        self._worker_file(worker).write_text("\n".join([_where(os.getpid()), *names]))

    def read_assigned(self, worker: str) -> Assigned | None:
        """Read which runs a worker trains now, or return None if there has been no such worker."""
        try:
            where, *names = self._worker_file(worker).read_text().split("\n")
            host, pid, started = where.split(" ")
        except FileNotFoundError:
            return None
        except ValueError:  # it is being written
            return Assigned()
        return Assigned(names=tuple(names), host=host, pid=int(pid), started=int(started))

    def beat(self, worker: str) -> None:
        """Show that a worker is alive, by the time of its file."""
        with suppress(FileNotFoundError):  # the command has ended
            os.utime(self._worker_file(worker))

    def last_beat(self, worker: str) -> int:
        """Return when a worker was last known to be alive, in nanoseconds of the file system's clock; 0 if never."""
        try:
            return self._worker_file(worker).stat().st_mtime_ns
        except FileNotFoundError:
            return 0

    def write_seconds(self, name: str, seconds: float) -> None:
        """Write the duration of a run without compiling, from which those of others are estimated."""
        with suppress(FileNotFoundError):  # the command has ended
            (self.path.parent / f"seconds-{name}").write_text(repr(seconds))

    def read_seconds(self, name: str) -> float | None:
        """Read the duration of a run without compiling; None if it is unknown."""
        try:
            return float((self.path.parent / f"seconds-{name}").read_text())
        except (OSError, ValueError):
            return None

    def _worker_file(self, worker: str) -> Path:
        return self.path.parent / f"worker-{worker}"


def write_started(path: Path, worker: str, pid: int) -> None:
    """Write the host and process of a new worker on its behalf, since it may hang before it can do so itself."""
    with suppress(FileExistsError, FileNotFoundError), open(path.parent / f"worker-{worker}", "x") as file:
        file.write(_where(pid))


def _where(pid: int) -> str:
    process = machine.process(pid)
    return f"{socket.gethostname()} {pid} {process.started if process else 0}"


def _is_unmeasured(directory: RunDirectory, task: Task) -> bool:
    try:
        return bool(records.missing(directory, task.config))
    except ValueError:
        return False  # its result is damaged; readers of the result report that


def write(
    workdir: Path | str,
    groups: list[list[Task]],
    *,
    session: str | None = None,
    tensorboard: bool,
    may_outlive: bool = False,
) -> Orders:
    """Write orders into the new folder `workdir/study/<session>`.

    Args:
      session: None for the time and this process.
      may_outlive: whether workers may follow the orders after their command was killed.
    Raises: ConfigError if files cannot be locked there.
    """
    workdir = Path(workdir).resolve()
    session = session or f"{datetime.datetime.now(datetime.UTC):%Y%m%d-%H%M%S}.{socket.gethostname()}.{os.getpid()}"
    path = workdir / "study" / session / "orders.json"
    content = {
        "groups": [[task._asdict() for task in group] for group in groups],
        "tensorboard": tensorboard,
        "may_outlive": may_outlive,
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    (path.parent / _VALID).touch()
    check_flock(path.parent / _VALID, workdir)
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


def have_command(path: Path) -> bool:
    """Whether the command that wrote some orders may still live."""
    try:
        with open(path.parent / _COMMAND, "r+") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return False
    except FileNotFoundError:
        return path.parent.exists()  # the command has not begun, or the orders of a killed one were swept
    except OSError:
        return True


def remove(orders: Orders) -> None:
    """Remove the folder of completed orders: the directories of the runs have everything that a user needs."""
    _remove(orders.path.parent)


def sweep(workdir: Path | str) -> None:
    """Remove the orders of killed commands, even partial ones, unless workers may still follow them."""
    for folder in (Path(workdir) / "study").glob("*/"):
        if _SESSION.fullmatch(folder.name) or (folder / "orders.json").exists() or (folder / _VALID).exists():
            with suppress(OSError):  # another process removes it, or it belongs to another user
                last = max((path.stat().st_mtime for path in folder.iterdir()), default=0.0)
                if time.time() - last > _seconds_kept(folder):
                    _remove(folder)


def _seconds_kept(folder: Path) -> float:
    """Return how many seconds orders are kept without any sign of life."""
    try:
        with open(folder / _COMMAND, "r+") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            written = json.loads((folder / "orders.json").read_text())
        return 0.0 if written.get("may_outlive") is False else _OUTLIVED_SECONDS
    except BlockingIOError:
        return math.inf  # the command lives
    except FileNotFoundError:  # its command is still writing or already removing it, or was killed while it did
        return 0.0 if is_abandoned(folder) else math.inf
    except (OSError, ValueError, AttributeError):
        return _OUTLIVED_SECONDS


def _remove(folder: Path) -> None:
    with suppress(OSError):  # the work directory was removed, or a worker that ends late has left a trace
        (folder / _VALID).unlink(missing_ok=True)  # first, so that no worker starts to follow
        for path in folder.iterdir():
            path.unlink(missing_ok=True)
        os.rmdir(folder)


def check_flock(path: Path, folder: Path) -> None:
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
        f"--workdir={folder}: {problem}, so workers could train one run twice. Choose a folder on a file "
        "system with flock: a local disk, NFS 4, or NFS 3 with its lock manager."
    )
