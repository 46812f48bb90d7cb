"""The files of a data set: search paths, reading, and errors for missing or damaged files."""

import contextlib
import gzip
import io
import lzma
import zlib
from collections.abc import Sequence
from pathlib import Path

from flatwide import machine

_PIECE = 2**24  # bytes read at a time


class DataError(ValueError):
    """Data that is missing, damaged, or not what its name says; the message says what to do."""


def folders(data_dir: str, subfolders: Sequence[str]) -> list[Path]:
    """List the folders that may hold a data set's files, the most specific ones first.

    The subfolders come before `data_dir` itself, since MNIST and Fashion-MNIST share their file names.

    Raises: DataError if `data_dir` is no folder.
    """
    root = Path(data_dir).expanduser()
    if not root.is_dir():
        raise DataError(f"config.data_dir={data_dir!r}: there is no such folder; give the folder that holds the data.")
    return [folder for name in subfolders if (folder := root / name).is_dir()] + [root]


def read(path: Path) -> bytes:
    """Read a file whole, as `start` does, up to a quarter of this machine's memory.

    Raises: DataError if it cannot be read, is larger, or its compressed content is damaged.
    """
    most = machine.memory() // 4  # its numbers or words will take as much again, or more
    content = start(path, most + 1)
    if len(content) > most:
        raise DataError(
            f"{path}: more than {most / 1e9:,.1f} GB (uncompressed), a quarter of this machine's memory; expected a "
            "file that fits. Get it again, or make it smaller."
        )
    return content


def start(path: Path, num_bytes: int) -> bytes:
    """Read the first bytes of a file, through gzip or xz if its content is so compressed, whatever its name says.

    A small compressed file may unpack to more than any memory holds, so no more is unpacked than is asked for.

    Raises: DataError if it cannot be read, or its compressed content is damaged.
    """
    content, is_xz = io.BytesIO(), False
    try:
        with open(path, "rb") as file:
            magic = file.read(6)
            file.seek(0)
            is_gzip, is_xz = magic[:2] == b"\x1f\x8b", magic == b"\xfd7zXZ\x00"
            unpacked = gzip.open if is_gzip else lzma.open if is_xz else contextlib.nullcontext
            with unpacked(file) as stream:
                while piece := stream.read(min(_PIECE, num_bytes - content.tell())):
                    content.write(piece)
        return content.getvalue()
    except MemoryError as error:
        raise DataError(f"{path}: does not fit into memory; make it smaller.") from error
    except (EOFError, gzip.BadGzipFile, zlib.error, lzma.LZMAError) as error:
        kind = "xz" if is_xz else "gzip"
        raise DataError(f"{path}: damaged {kind} file ({error}); expected a whole one. Get it again.") from error
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}).") from error
