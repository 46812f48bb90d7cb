"""Where the files of a data set are looked for, and what is said when they are missing or damaged."""

import gzip
import zlib
from collections.abc import Sequence
from pathlib import Path


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
    """Read a file whole, through gzip if its content is gzipped, whatever its name says.

    Raises: DataError if it cannot be read, or its compressed content is damaged.
    """
    try:
        content = path.read_bytes()
        return gzip.decompress(content) if content[:2] == b"\x1f\x8b" else content
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise DataError(f"{path}: damaged gzip file ({error}); expected a whole one. Get it again.") from error
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}).") from error
