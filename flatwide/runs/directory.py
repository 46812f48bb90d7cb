"""The directory of one run: its lock, config, metrics and result.

A run is known by the files in its directory, so that any process may look at it at any time, and a killed one leaves it
readable. Nothing here deletes or overwrites what a finished run has written.
"""

import contextlib
import fcntl
import hashlib
import json
import math
import os
import socket
import time
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from flatwide import processes
from flatwide.columns import DONE, FRACTION_METRICS, RESULT_FIELDS
from flatwide.runs import disk, rows

_METRICS = [name for name in RESULT_FIELDS if name.startswith(("train_metric", "test_metric", "validation_metric"))]

CHECKSUM = "checksum"  # in config.json and result.json, of their other entries, so that an edited one is noticed
# Entries of config.json beside the config fields: what makes the run this run, the fields that it did not read, and
# what it started on.
IDENTITY = "identity"
UNREAD = "unread"
STARTED_ON = ("num_devices", "matmul_precision")

TEMPORARY = ".tmp"  # the end of the name of a file that is being written
_DAY_SECONDS = 24 * 3600.0


class BusyError(ValueError):
    """Another process trains the run."""


@dataclass(frozen=True)
class RunDirectory:
    """The files of one run; `path` need not exist yet."""

    path: Path

    @property
    def is_written(self) -> bool:
        """Whether this process writes the files: the first of those that train the run together, or the only one."""
        return processes.is_first()

    @property
    def name(self) -> str:
        """The name of the directory, `<slug>-<hash8>`."""
        return self.path.name

    @property
    def checkpoints(self) -> Path:
        """The directory of its checkpoints."""
        return self.path / "checkpoints"

    def snapshot(self, epoch: int) -> Path:
        """Give the file of the network at the end of an epoch; that of epoch 0 is the initial one."""
        return self.path / "snapshots" / f"epoch-{epoch}.npz"

    def status(self) -> str:
        """Tell "new", "unfinished", "failed", "finished" or "diverged" from the files.

        Raises: ValueError if `result.json` is damaged; UnreadableError if it cannot be read.
        """
        result = self.read_result()
        if result is not None:
            return result["status"]
        if (self.path / "error.txt").exists():
            return "failed"
        return "unfinished" if (self.path / "config.json").exists() else "new"

    @contextlib.contextmanager
    def lock(self) -> Iterator[None]:
        """Keep other processes from training or measuring this run; the system unlocks it however this process ends.

        Raises: BusyError if another process trains or measures it; ValueError if the lock is a link to another file.
        """
        if not self.is_written:
            yield
            return
        self.path.mkdir(parents=True, exist_ok=True)
        with self._open_lock() as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                file.seek(0)
                holder = file.read(200).strip() or "just started"
                raise BusyError(
                    f"{self.path}: another process ({holder}) trains this run; wait until it ends, or end it first."
                ) from None
            with disk.named(file.name):
                file.truncate(0)
                file.write(f"{os.getpid()} on {socket.gethostname()}")
                file.flush()
            self._sweep()
            yield

    def _sweep(self) -> None:
        """Remove what killed processes left half written; whoever holds the lock of a run writes all of its files."""
        for folder in (self.path, self.checkpoints, self.path / "snapshots", self.path / "measurements"):
            for path in folder.glob(f"*{TEMPORARY}"):
                if is_litter(path):
                    path.unlink(missing_ok=True)

    def holder(self) -> str | None:
        """Return who trains or measures this run, as its lock says, or None where the lock can be had."""
        try:
            with disk.open_regular(self.path / "lock", "r", follow=False) as file:
                try:
                    fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
                except BlockingIOError:
                    return file.read(200).strip() or "just started"
        except OSError:
            pass
        return None

    def _open_lock(self) -> IO[str]:
        path = self.path / "lock"
        try:
            return disk.open_regular(path, "a+", follow=False)  # what a link leads to would be overwritten
        except OSError as error:
            if not path.is_symlink() and error.errno is not None:
                raise  # the disk is full, or the folder is another user's
            reason = "it is a symbolic link" if path.is_symlink() else error.strerror
            raise ValueError(f"{path}: the run cannot be locked ({reason}); remove this file.") from error

    def write_config(
        self,
        config: Mapping[str, Any],
        *,
        identity: Mapping[str, Any],
        unread: Collection[str] = (),
        started_on: Mapping[str, Any] | None = None,
    ) -> None:
        """Write `config.json`, or check that the one that is there describes this very run.

        Args:
          config: every field of the resolved config.
          identity: what makes this run this run: the fields that its directory name hashes.
          unread: fields that the run does not read; their values are recorded all the same.
          started_on: a value for each of STARTED_ON, which are recorded and not compared.
        Raises: ValueError with the fields that differ, if the directory holds another run.
        """
        if not self.is_written:
            return
        if taken := sorted({IDENTITY, CHECKSUM, UNREAD, *STARTED_ON} & config.keys()):
            raise ValueError(f"config.{taken[0]}: this name is taken by config.json; choose another one.")
        if not (self.path / "config.json").exists():
            self.path.mkdir(parents=True, exist_ok=True)
            content = finite({**config, **(started_on or {}), UNREAD: sorted(unread), IDENTITY: dict(identity)})
            write_json(self.path / "config.json", content | {CHECKSUM: checksum(content)})
            return
        found = self.read_config()[IDENTITY]
        wanted = json.loads(json.dumps(dict(identity)))
        nothing = object()
        faults = [
            f"{name} is {_shown(found, name)} there and {_shown(wanted, name)} here"
            for name in sorted(found.keys() | wanted.keys())
            if found.get(name, nothing) != wanted.get(name, nothing)
        ]
        if faults:
            raise ValueError(
                f"{self.path}: the directory holds another run: {'; '.join(faults)}. "
                "Restore its config.json if it was edited, or choose another --workdir."
            )

    def read_config(self) -> dict[str, Any]:
        """Read `config.json`: every config field, and `identity`.

        Raises: ValueError if it is missing or damaged.
        """
        config = _read_json(self.path / "config.json")
        if config is None or not isinstance(config.get(IDENTITY), dict):
            raise ValueError(f"{self.path / 'config.json'}: expected the config of a run, with its identity.")
        if config.pop(CHECKSUM, None) not in (None, checksum(config)):
            raise ValueError(
                f"{self.path / 'config.json'}: it was changed after it was written; restore it from a copy."
            )
        return config

    def write_result(self, result: Mapping[str, Any]) -> None:
        """Write `result.json`, the last file of a run: its presence means that the run is done.

        Args:
          result: some of RESULT_FIELDS, `status` among them; what is missing or not finite is written as null.
        Raises: ValueError if a field is not known, or there is a result already.
        """
        if not self.is_written:
            return
        strangers = sorted(result.keys() - RESULT_FIELDS.keys())
        if strangers or result.get("status") not in DONE:
            raise ValueError(
                f"result.json: expected status 'finished' or 'diverged' and fields of RESULT_FIELDS; "
                f"found status {result.get('status')!r} and unknown fields {strangers}."
            )
        if (self.path / "result.json").exists():
            raise ValueError(f"{self.path / 'result.json'}: the run is done already; its result is not overwritten.")
        content = finite({name: result.get(name) for name in RESULT_FIELDS})
        write_json(self.path / "result.json", content | {CHECKSUM: checksum(content)})

    def read_result(self) -> dict[str, Any] | None:
        """Read `result.json`, or return None if the run is not done.

        Raises: ValueError if it is damaged or was changed; UnreadableError if it cannot be read.
        """
        path = self.path / "result.json"
        result = _read_json(path)
        if result is None:
            return None
        recorded = result.pop(CHECKSUM, None)
        if recorded is None:  # runs of earlier versions have none
            if fault := _result_fault(result):
                raise ValueError(f"{path}: {fault}; restore it from a copy.")
        elif recorded != checksum(result):
            raise ValueError(f"{path}: it was changed after it was written; restore it from a copy.")
        return result

    @property
    def error_file(self) -> Path:
        """Give the file of tracebacks: `error.txt`, and once the run is done, when it is only measured, another one."""
        is_done = (self.path / "result.json").exists()
        return self.path / "measurements" / "error.txt" if is_done else self.path / "error.txt"

    def write_error(self, text: str) -> None:
        """Append a traceback to the run's error file: it, or a measurement of it, failed, and may be tried again."""
        if not self.is_written:
            return
        self.error_file.parent.mkdir(exist_ok=True)
        with disk.named(self.error_file), disk.open_regular(self.error_file, "a") as file:
            file.write(text.rstrip("\n") + "\n")

    def read_error(self) -> str:
        """Read the last line of the error file, which says what went wrong."""
        try:
            content = disk.read(self.error_file) or b""
        except disk.UnreadableError as error:
            return str(error)
        return content.decode(errors="backslashreplace").rstrip("\n").rpartition("\n")[2]

    @property
    def metrics_file(self) -> Path:
        """The file of the evaluations, `metrics.csv`."""
        return self.path / "metrics.csv"

    def append_metrics(self, *new: Mapping[str, float | None]) -> bytes:
        """Append rows of numbers to `metrics.csv`; the first row settles the columns.

        Floats are written so that they are read back to the last bit; None, and a column that is missing, is empty.

        Returns: what was appended.
        Raises: ValueError if the row has a column that the file has not.
        """
        if not self.is_written:
            return b""
        with disk.named(self.metrics_file), disk.open_regular(self.metrics_file, "ab+") as file:
            file.seek(0)
            header = file.readline().decode().rstrip("\n")
            columns = header.split(",") if header else list(new[0])
            if strangers := [name for row in new for name in row if name not in columns]:
                raise ValueError(f"{file.name}: no columns {strangers}; the first row settled {columns}.")
            content = rows.encode(columns, new)
            content = content if header else ",".join(columns).encode() + b"\n" + content
            file.write(content)
        if not header:
            disk.sync_directory(self.path)  # a checkpoint may not outlive the file's name either
        return content

    def sync_metrics(self) -> None:
        """Flush `metrics.csv` to the disk, so that no checkpoint outlives its rows in a power failure."""
        if self.is_written and self.metrics_file.exists():
            with disk.open_regular(self.metrics_file, "ab") as file:
                os.fsync(file.fileno())

    def read_metrics(self) -> list[rows.Row]:
        """Read the rows of `metrics.csv`; a last line that a kill cut short is left out.

        Raises: ValueError if another line is damaged; UnreadableError if the file cannot be read.
        """
        return rows.decode(self.metrics_file, disk.read(self.metrics_file) or b"")

    def replace_metrics(self, content: bytes) -> None:
        """Keep of `metrics.csv` what leads to the checkpoint that a run resumes from; later steps are done again."""
        if self.is_written and (disk.read(self.metrics_file) or b"") != content:
            write_atomically(self.metrics_file, content)
            disk.sync_directory(self.path)


def run_directories(workdir: Path | str) -> list[RunDirectory]:
    """List the runs of a work directory, by name."""
    runs = Path(workdir) / "runs"
    if not runs.is_dir():
        return []
    return [
        RunDirectory(runs / entry.name) for entry in sorted(os.scandir(runs), key=lambda e: e.name) if _leads(entry)
    ]


def _leads(entry: os.DirEntry) -> bool:
    """Whether an entry is a directory, or a link to one; a link that leads back to itself is none."""
    try:
        return entry.is_dir()
    except OSError:
        return False


def best_evaluations(rows: list[dict[str, Any]], *, higher_is_better: bool) -> dict[str, Any]:
    """Find the best evaluations of a run; of equals the first.

    Args:
      rows: the rows of `metrics.csv`.
    Returns: `test_metric_best` and `best_epoch` (the paper's protocol), `test_metric_at_best_validation`; None where no
      row has what it takes.
    """
    best = _best(rows, "test_metric", higher_is_better)
    chosen = _best(rows, "validation_metric", higher_is_better)
    return {
        "test_metric_best": best.get("test_metric"),
        "best_epoch": best.get("epoch"),
        "test_metric_at_best_validation": chosen.get("test_metric"),
    }


def _best(rows: list[dict[str, Any]], name: str, higher_is_better: bool) -> dict[str, Any]:
    finite = [row for row in rows if row.get(name) is not None and math.isfinite(row[name])]
    sign = 1 if higher_is_better else -1
    return max(finite, key=lambda row: sign * row[name], default={})


def write_json(path: Path, value: Any) -> None:
    """Write strict JSON atomically; a number that is not finite becomes null."""
    write_atomically(path, json.dumps(finite(value), indent=2, allow_nan=False) + "\n")


def checksum(content: Mapping[str, Any]) -> str:
    """Return a digest of the entries of a JSON object, which is kept beside them."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]


def _result_fault(result: Mapping[str, Any]) -> str:
    """Say what cannot be right in a result that has no checksum; "" if nothing is wrong."""
    status = result.get("status")
    if status not in DONE:
        return f"status is {status!r}; expected 'finished' or 'diverged'"
    for name, field in RESULT_FIELDS.items():
        value = result.get(name)
        if value is None and not (field.is_always_there and status == "finished"):
            continue
        is_of_kind = isinstance(value, field.kind) and (field.kind is bool or not isinstance(value, bool))
        if not is_of_kind or (isinstance(value, float) and not math.isfinite(value)):
            return f"{name} is {_short(value)}; expected {_kind_text(field.kind)}"
    for name in _METRICS if result.get("metric_name") in FRACTION_METRICS else ():
        if (value := result.get(name)) is not None and not 0 <= value <= 1:
            return f"{name} is {_short(value)}; expected a fraction in [0, 1]"
    return ""


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 80 else f"{text[:80]}…"


def _kind_text(kind: type | tuple[type, ...]) -> str:
    return {str: "text", int: "an integer", bool: "true or false", dict: "an object"}.get(kind, "a number")  # type: ignore[arg-type]


def finite(value: Any) -> Any:
    """Return a value as strict JSON holds it: numbers that are not finite become None, sequences lists."""
    if isinstance(value, Mapping):
        return {name: finite(entry) for name, entry in value.items()}
    if isinstance(value, list | tuple):
        return [finite(entry) for entry in value]
    value = value.item() if hasattr(value, "item") else value
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _read_json(path: Path) -> dict[str, Any] | None:
    """Read an object from a JSON file, or return None if there is no file.

    Raises: ValueError if the file is damaged; UnreadableError if it cannot be read.
    """
    if (content := disk.read(path)) is None:
        return None
    try:
        value = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path}: the file is damaged ({error}); restore it from a copy.") from error
    if not isinstance(value, dict):
        raise ValueError(f"{path}: the file is damaged (it holds no JSON object); restore it from a copy.")
    return value


def write_atomically(path: Path, content: str | bytes) -> None:
    """Write a file that is whole or not there, whatever kills the process or the machine.

    Its folder may be new; the one above it must be there, so that no half of a removed work directory is made again.
    """
    temporary = path.with_name(f"{path.name}.{socket.gethostname()}.{os.getpid()}{TEMPORARY}")
    with disk.named(path):
        path.parent.mkdir(exist_ok=True)
        temporary.unlink(missing_ok=True)  # a killed process may have left one, and a link would be written through
        try:
            with open(temporary, "x" if isinstance(content, str) else "xb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
        except BaseException:
            with contextlib.suppress(OSError):
                temporary.unlink(missing_ok=True)
            raise


def is_litter(path: Path) -> bool:
    """Whether a temporary file is one that nobody writes any more: its process has ended, or a day has gone by."""
    host, _, pid = path.name.removesuffix(TEMPORARY).rpartition(".")
    if pid.isdecimal() and host.endswith(f".{socket.gethostname()}"):
        return int(pid) == os.getpid() or not _is_alive(int(pid))
    try:
        return time.time() - path.stat().st_mtime > _DAY_SECONDS
    except OSError:
        return False


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:  # it is another user's
        pass
    return True


def sweep(workdir: Path | str) -> None:
    """Remove what killed processes left half written beside the runs of a work directory."""
    for folder in (Path(workdir), Path(workdir) / "commands", Path(workdir) / "figures"):
        for path in folder.glob(f"*{TEMPORARY}"):
            if is_litter(path):
                path.unlink(missing_ok=True)


def _shown(identity: Mapping[str, Any], name: str) -> str:
    return json.dumps(identity[name]) if name in identity else "at its default"
