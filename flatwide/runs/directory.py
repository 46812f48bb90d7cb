"""The directory of one run: its lock, config, metrics and result.

The files in its directory hold the whole state of a run, so any process may inspect it at any time, and it stays
readable after a kill. Nothing here deletes or overwrites the output of a finished run.
"""

import contextlib
import fcntl
import json
import math
import os
import socket
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from flatwide import processes
from flatwide.columns import DONE, RESULT_FIELDS
from flatwide.config.run_identity import digest
from flatwide.runs import disk, provenance, results, rows
from flatwide.runs.provenance import CHECKSUM, FILE_VERSION, IDENTITY, UNREAD, checksum

STARTED_ON = ("num_devices", "matmul_precision")  # in config.json, the hardware and precision with which a run started
METRICS_DIGEST = "metrics_sha256"  # in result.json
TEMPORARY = ".tmp"  # suffix of a file that is being written
_DAY_SECONDS = 24 * 3600.0
_NOTE_OF_JAX = "For simplicity, JAX has removed its internal frames"  # after the message of an error, and dashes


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
    def identity(self) -> str:
        """The hash of the run's identity, with which its name ends."""
        return self.name.rpartition("-")[2]

    @property
    def is_earlier(self) -> bool:
        """Whether an earlier version of flatwide started the run, whose files need no checksum and name no run."""
        return FILE_VERSION not in (_read_json(self.path / "config.json") or {})

    def identity_fault(self, content: Mapping[str, Any]) -> str:
        """Describe that the content of a file belongs to another run, or does not say to which; "" if it is right."""
        stored = content.get(IDENTITY)
        if stored == self.identity:
            return ""
        if not stored:
            return "" if self.is_earlier else "it does not say of which run it is"
        expected = digest(self.read_config()[IDENTITY])  # differs from the name of a renamed folder
        return "" if stored == expected else f"it is of another run (identity {stored}; expected {expected})"

    @property
    def checkpoints(self) -> Path:
        """The directory of its checkpoints."""
        return self.path / "checkpoints"

    def snapshot(self, epoch: int) -> Path:
        """Return the file of the network at the end of an epoch; epoch 0 is the initial network."""
        return self.path / "snapshots" / f"epoch-{epoch}.npz"

    def status(self) -> str:
        """Return "new", "unfinished", "failed", "finished" or "diverged", as the files show.

        Raises: ValueError if `result.json` is damaged; UnreadableError if it cannot be read.
        """
        return self.status_and_result()[0]

    def status_and_result(self) -> tuple[str, dict[str, Any]]:
        """Return the status, as `status` does, and the content of `result.json`; empty if the run is not done."""
        if (result := self._read_result()) is not None:
            return result["status"], result
        has_failed, has_begun = ((self.path / name).exists() for name in ("error.txt", "config.json"))
        return "failed" if has_failed else "unfinished" if has_begun else "new", {}

    @contextlib.contextmanager
    def lock(self) -> Iterator[None]:
        """Exclude other processes from training or measuring this run; the lock ends with this process in any case.

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
        """Remove partial files of killed processes; only the holder of a run's lock writes its files."""
        for folder in (self.path, self.checkpoints, self.path / "snapshots", self.path / "measurements"):
            for path in folder.glob(f"*{TEMPORARY}"):
                if is_abandoned(path):
                    path.unlink(missing_ok=True)

    def holder(self) -> str | None:
        """Return the process that trains or measures this run, from its lock, or None if the lock is free."""
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
            return disk.open_regular(path, "a+", follow=False)  # the target of a link would be overwritten
        except OSError as error:
            if not path.is_symlink() and error.errno is not None:
                raise  # the disk is full, or the folder belongs to another user
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
        """Write `config.json`, or check that the existing one describes this run.

        Args:
          config: every field of the resolved config.
          identity: the fields that identify the run, whose hash is in its directory name.
          unread: fields that the run does not read; their values are recorded nevertheless.
          started_on: a value for each of STARTED_ON, which are recorded and not compared.
        Raises: ValueError that lists the fields that differ, if the directory holds another run.
        """
        if not self.is_written:
            return
        if reserved := sorted({IDENTITY, CHECKSUM, FILE_VERSION, UNREAD, *STARTED_ON} & config.keys()):
            raise ValueError(f"config.{reserved[0]}: config.json reserves this name; choose another one.")
        if not (self.path / "config.json").exists():
            self.path.mkdir(parents=True, exist_ok=True)
            beside = {FILE_VERSION: provenance.VERSION, UNREAD: sorted(unread), IDENTITY: dict(identity)}
            content = finite({**config, **(started_on or {}), **beside})
            write_json(self.path / "config.json", content | {CHECKSUM: checksum(content)})
            return
        stored = self.read_config()[IDENTITY]
        expected = json.loads(json.dumps(dict(identity)))
        absent = object()
        faults = [
            f"{name} is {_shown(stored, name)} there and {_shown(expected, name)} here"
            for name in sorted(stored.keys() | expected.keys())
            if stored.get(name, absent) != expected.get(name, absent)
        ]
        if faults:
            raise ValueError(
                f"{self.path}: the directory holds another run: {'; '.join(faults)}. "
                "Restore its config.json if it was edited, or choose another --workdir."
            )

    def read_config(self) -> dict[str, Any]:
        """Read `config.json`: every config field, `identity`, and the version of the files if it is recorded.

        Raises: ValueError if it is missing or damaged, or a field contradicts the identity.
        """
        path = self.path / "config.json"
        config = _read_json(path)
        if config is None or not isinstance(config.get(IDENTITY), dict):
            raise ValueError(f"{path}: expected the config of a run, with its identity.")
        if fault := _checksum_fault(config, is_required=FILE_VERSION in config) or provenance.edited(config):
            raise ValueError(f"{path}: {fault}; restore it from a copy.")
        return config

    def write_result(self, result: Mapping[str, Any]) -> None:
        """Write `result.json`, the last file of a run: its presence means that the run is done.

        Args:
          result: some of RESULT_FIELDS, `status` among them; missing and non-finite values are written as null.
        Raises: ValueError if a field is unknown, or there is a result already.
        """
        if not self.is_written:
            return
        unknown = sorted(result.keys() - RESULT_FIELDS.keys())
        if unknown or result.get("status") not in DONE:
            raise ValueError(
                f"result.json: expected status 'finished' or 'diverged' and fields of RESULT_FIELDS; "
                f"found status {result.get('status')!r} and unknown fields {unknown}."
            )
        if (self.path / "result.json").exists():
            raise ValueError(f"{self.path / 'result.json'}: the run is already done; its result is not overwritten.")
        digest_of_rows = {METRICS_DIGEST: rows.Digest(disk.read(self.metrics_file) or b"").hexdigest()}
        self.write_own(self.path / "result.json", {name: result.get(name) for name in RESULT_FIELDS} | digest_of_rows)

    def read_result(self) -> dict[str, Any] | None:
        """Read `result.json`, or return None if the run is not done.

        Raises: ValueError if it is damaged, was changed or is of another run; UnreadableError if it cannot be read.
        """
        result = self._read_result()
        return result and {name: value for name, value in result.items() if name != METRICS_DIGEST}

    def _read_result(self) -> dict[str, Any] | None:
        return self.read_own(self.path / "result.json", fault=results.fault)

    def write_own(self, path: Path, content: Mapping[str, Any]) -> None:
        """Write a JSON file with the identity of this run and a checksum."""
        named = finite({**content, IDENTITY: self.identity})
        write_json(path, named | {CHECKSUM: checksum(named)})

    def read_own(
        self, path: Path, *, fault: Callable[[dict[str, Any]], str] = lambda content: ""
    ) -> dict[str, Any] | None:
        """Read what `write_own` wrote, without the identity and the checksum; None if there is no file.

        Args:
          fault: content -> its first invalid value, or ""; called for a file of an earlier version, without checksum.
        Raises: ValueError if it is damaged, was changed or is of another run; UnreadableError if it cannot be read.
        """
        content = _read_json(path)
        if content is None:
            return None
        is_unsealed = CHECKSUM not in content
        found = _checksum_fault(content, is_required=is_unsealed and not self.is_earlier)
        if found := found or self.identity_fault(content) or (fault(content) if is_unsealed else ""):
            raise ValueError(f"{path}: {found}; restore it from a copy.")
        content.pop(IDENTITY, None)
        return content

    @property
    def error_file(self) -> Path:
        """Return the file of tracebacks: of training, or, once the run is done, of measurements."""
        is_done = (self.path / "result.json").exists()
        return self.path / "measurements" / "error.txt" if is_done else self.path / "error.txt"

    def write_error(self, text: str) -> None:
        """Append a traceback to the run's error file: training or a measurement failed, and may be retried."""
        if not self.is_written:
            return
        self.error_file.parent.mkdir(exist_ok=True)
        with disk.named(self.error_file), disk.open_regular(self.error_file, "a") as file:
            file.write(text.rstrip("\n") + "\n")

    def read_error(self) -> str:
        """Read the last line of the error file, which is the error message, without JAX's note about its frames."""
        try:
            content = disk.read(self.error_file) or b""
        except disk.UnreadableError as error:
            return str(error)
        lines = content.decode(errors="backslashreplace").splitlines()
        return next((line for line in reversed(lines) if line.strip("-") and not line.startswith(_NOTE_OF_JAX)), "")

    @property
    def metrics_file(self) -> Path:
        """The file of the evaluations, `metrics.csv`."""
        return self.path / "metrics.csv"

    def append_metrics(self, *new: Mapping[str, float | None]) -> bytes:
        """Append rows of numbers to `metrics.csv`; the first row determines the columns.

        Floats are written with every bit; None and missing columns are empty.

        Returns: the appended bytes.
        Raises: ValueError if a row has a column that the file lacks.
        """
        if not self.is_written:
            return b""
        with disk.named(self.metrics_file), disk.open_regular(self.metrics_file, "ab+") as file:
            file.seek(0)
            header = file.readline().decode().rstrip("\n")
            columns = header.split(",") if header else list(new[0])
            if unknown := [name for row in new for name in row if name not in columns]:
                raise ValueError(f"{file.name}: no columns {unknown}; the first row has {columns}.")
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

        Raises: ValueError if another line is damaged, or the rows of a run that is done are not those that it wrote;
          UnreadableError if the file cannot be read.
        """
        return rows.decode(self.metrics_file, self.metrics())

    def metrics(self, result: Mapping[str, Any] | None = None) -> bytes:
        """Read the text of `metrics.csv`; `result` is from `status_and_result`, if it has been read.

        Raises: as `read_metrics`, but for damaged lines of a run that is not done.
        """
        content = disk.read(self.metrics_file) or b""
        recorded = (self._read_result() or {} if result is None else result).get(METRICS_DIGEST)
        if recorded not in (None, rows.Digest(content).hexdigest()):
            raise ValueError(
                f"{self.metrics_file}: its rows are not those with which the run ended; restore it from a copy."
            )
        return content

    def replace_metrics(self, content: bytes) -> None:
        """Cut `metrics.csv` back to the checkpoint from which a run resumes; later steps are repeated."""
        if self.is_written and (disk.read(self.metrics_file) or b"") != content:
            write_atomically(self.metrics_file, content)
            disk.sync_directory(self.path)


def run_directories(workdir: Path | str) -> list[RunDirectory]:
    """List the runs of a work directory, by name."""
    runs = Path(workdir) / "runs"
    if not runs.is_dir():
        return []
    return [
        RunDirectory(runs / item.name) for item in sorted(os.scandir(runs), key=lambda e: e.name) if _is_directory(item)
    ]


def _is_directory(item: os.DirEntry) -> bool:
    """Whether an item is a directory or a link to one; False for a link to itself."""
    try:
        return item.is_dir()
    except OSError:
        return False


def write_json(path: Path, value: Any) -> None:
    """Write strict JSON atomically; a number that is not finite becomes null."""
    write_atomically(path, json.dumps(finite(value), indent=2, allow_nan=False) + "\n")


def finite(value: Any) -> Any:
    """Convert a value for strict JSON: non-finite numbers become None, sequences lists."""
    if isinstance(value, Mapping):
        return {name: finite(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [finite(item) for item in value]
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
        raise ValueError(f"{path}: the file is damaged (it does not contain a JSON object); restore it from a copy.")
    return value


def _checksum_fault(content: dict[str, Any], *, is_required: bool) -> str:
    """Remove the checksum of a file's content; describe that the others were changed, or "" if they were not."""
    recorded = content.pop(CHECKSUM, None)
    if recorded is None:
        return "its checksum was removed" if is_required else ""
    return "" if recorded == checksum(content) else "it was changed after it was written"


def write_atomically(path: Path, content: str | bytes) -> None:
    """Write a file atomically, even if the process or the machine dies.

    Its folder may be new; the parent of that must exist, so that no part of a removed work directory is recreated.
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


def is_abandoned(path: Path) -> bool:
    """Whether no process writes a temporary file any more: its process has ended, or it is a day old."""
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
    except OSError:  # it belongs to another user
        pass
    return True


def sweep(workdir: Path | str) -> None:
    """Remove partial files of killed processes beside the runs of a work directory."""
    for folder in (Path(workdir), Path(workdir) / "commands", Path(workdir) / "figures"):
        for path in folder.glob(f"*{TEMPORARY}"):
            if is_abandoned(path):
                path.unlink(missing_ok=True)


def _shown(identity: Mapping[str, Any], name: str) -> str:
    return json.dumps(identity[name]) if name in identity else "at its default"
