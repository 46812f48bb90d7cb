"""Safe opening of files that others may have replaced: a pipe would block its reader, and a device has no end."""

import contextlib
import errno
import os
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any


class UnreadableError(ValueError):
    """A file that cannot be read, for example for lack of permission; its content may be intact."""


class RemovedError(OSError):
    """A folder was removed while it was in use."""


_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)  # the disk, a quota, the largest file that may be written


def is_full(error: BaseException) -> bool:
    """Whether an error says that there is no space for a file."""
    return isinstance(error, OSError) and error.errno in _FULL


def full_text(error: OSError, workdir: Path | str) -> str:
    """Return a message that names the file and says how to resume."""
    return (
        f"{error.filename or workdir}: it could not be written ({error.strerror}). Free some space, and rerun the same "
        "command to resume each run from its last checkpoint."
    )


def check_is_there(folder: str | os.PathLike) -> None:
    """Raise RemovedError if a folder in use no longer exists, so that no part of it is recreated."""
    if not os.path.isdir(folder):
        raise RemovedError(f"{folder}: the folder was removed while it was in use; nothing was recreated.")


def check_folder(folder: Path | str, given: str) -> None:
    """Check, before work whose result it is to hold, that a folder can be written to, or made.

    Args:
      given: the flag that names it, for the message.
    Raises: ValueError.
    """
    place = next(path for path in (Path(folder).absolute(), *Path(folder).absolute().parents) if path.exists())
    try:
        tempfile.TemporaryFile(dir=place).close()
    except OSError as error:
        raise ValueError(f"{given}: no file can be written in {place} ({error.strerror}); name another path.") from None


@contextlib.contextmanager
def named(path: Path | str) -> Iterator[None]:
    """Add the file's name to errors of writing to it, which do not include it."""
    try:
        yield
    except OSError as error:
        error.filename = error.filename or str(path)
        raise


def open_regular(path: Path | str, mode: str = "rb", *, follow: bool = True) -> IO[Any]:
    """Open a regular file as `open` does, without blocking.

    Args:
      follow: whether the last part of the path may be a symbolic link.
    Raises: OSError, with the kind of file in `strerror`, if it is a directory, a pipe or a device.
    """

    def opener(name: str, flags: int) -> int:
        descriptor = os.open(name, flags | os.O_NONBLOCK | (0 if follow else os.O_NOFOLLOW), 0o666)
        kind = os.fstat(descriptor).st_mode
        if not stat.S_ISREG(kind):
            os.close(descriptor)
            raise OSError(None, f"it is {_KINDS.get(stat.S_IFMT(kind), 'something else')}, not a regular file")
        return descriptor

    return open(path, mode, opener=opener)


_KINDS = {stat.S_IFDIR: "a directory", stat.S_IFIFO: "a pipe", stat.S_IFCHR: "a device", stat.S_IFBLK: "a device"}


def read(path: Path | str) -> bytes | None:
    """Read a regular file; return None if there is none.

    Raises: UnreadableError, naming the file, if it cannot be read.
    """
    try:
        with open_regular(path) as file:
            return file.read()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise UnreadableError(
            f"{path}: the file cannot be read ({error.strerror or error}); make it readable, or restore it from a copy."
        ) from error


def sync_directory(directory: Path | str) -> None:
    """Flush a directory to the disk, so that new and renamed files survive a power failure."""
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
