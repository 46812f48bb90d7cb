"""The files of a data set: search paths, reading, and errors for missing or damaged files."""

import contextlib
import csv
import gzip
import io
import lzma
import zlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TypeVar

from flatwide import machine

TEST_EVERY = 10  # where nobody has made a split, the tenth, twentieth, ... example is a test example
_PIECE = 2**24  # bytes read at a time

T = TypeVar("T")


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


def listed(data_dir: str, suffixes: tuple[str, ...], subfolders: Sequence[str] = ()) -> list[Path]:
    """List the files of a data set by name: `data_dir` if it is a file, else those of the first folder that has any."""
    root = Path(data_dir).expanduser()
    if root.is_file():
        return [root]
    found = (sorted(each.iterdir()) for each in folders(data_dir, subfolders))
    matching = ([path for path in paths if path.name.endswith(suffixes) and path.is_file()] for paths in found)
    return next(filter(None, matching), [])


def complete(
    data_dir: str,
    subfolders: Sequence[str],
    names: Sequence[str],
    expected: str,
    *,
    spellings: Callable[[str], Sequence[str]] = lambda name: (name,),
) -> list[Path]:
    """Find the files of a data set, in the first folder that has all of them.

    Args:
      expected: for the message. spellings: of a name, in the order in which they are tried.
    Raises: DataError naming what the folder with most of them lacks.
    """
    tried = folders(data_dir, subfolders)
    found = [
        [next(filter(Path.is_file, (folder / each for each in spellings(name))), None) for name in names]
        for folder in tried
    ]
    best, paths = max(zip(tried, found, strict=True), key=lambda pair: len(names) - pair[1].count(None))
    if missing := [name for name, path in zip(names, paths, strict=True) if path is None]:
        raise DataError(f"config.data_dir={data_dir!r}: {best} has no {', no '.join(missing)}; expected {expected}.")
    return [path for path in paths if path is not None]


def every_tenth(rows: Sequence[T], location: object, noun: str) -> tuple[list[T], list[T]]:
    """Split the rows of a source that nobody has split: the tenth, twentieth, ... are the test examples.

    Raises: DataError if there are fewer than ten.
    """
    if len(rows) < TEST_EVERY:
        raise DataError(
            f"{location}: {len(rows)} {noun}; expected {TEST_EVERY} at least, every tenth of which is a test example, "
            "or a split of your own."
        )
    return [row for i, row in enumerate(rows, 1) if i % TEST_EVERY], list(rows[TEST_EVERY - 1 :: TEST_EVERY])


def read_text(path: Path) -> str:
    """Read a text in UTF-8.

    Raises: DataError as `read`, or naming the line that is not UTF-8.
    """
    content = read(path)
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise DataError(f"{path}, line {line}: is not UTF-8 ({error.reason}); save the file as UTF-8.") from error


def csv_rows(path: Path) -> Iterator[tuple[int, list[str]]]:
    """Yield the rows of a CSV file that are not empty, each with the line where it begins.

    Raises: DataError as `read_text`, or naming the line of a row that RFC 4180 does not allow.
    """
    content, line = read_text(path), 1
    reader = csv.reader(io.StringIO(content, newline=""), strict=True)
    limit = csv.field_size_limit(len(content) + 1)  # a text may be long; Python's own limit is 131,072 characters
    try:
        for cells in reader:
            if cells:
                yield line, cells
            line = reader.line_num + 1
    except csv.Error as error:
        raise DataError(
            f"{path}, line {line}: {error}; expected cells with quotation marks to be quoted, and the marks doubled."
        ) from error
    finally:
        csv.field_size_limit(limit)


@contextlib.contextmanager
def naming_what_cannot_be_read() -> Iterator[None]:
    """Turn errors of the system into DataErrors that name the file."""
    try:
        yield
    except OSError as error:
        raise DataError(f"{error.filename}: cannot be read ({error.strerror}).") from error


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
