"""Work directories and tables on object storage, which are copied to this machine to be read."""

import contextlib
import os
import tempfile
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path, PurePosixPath

_NOT_READ = {"checkpoints", "snapshots", "study", "figures", "lock", ".."}  # parts of a path that no table is made of


def is_remote(source: str | os.PathLike) -> bool:
    """Whether a path is the address of something on object storage, such as `s3://bucket/study`."""
    return "://" in os.fspath(source)


@contextlib.contextmanager
def local(source: str | os.PathLike) -> Iterator[Path]:
    """Yield the path of a work directory or table; of one on object storage that of a copy, removed afterwards.

    The copy has no networks. The kinds of storage are those of fsspec and its packages.

    Raises: ValueError if fsspec or its package for this storage is not installed; FileNotFoundError.
    """
    address = os.fspath(source)
    if not is_remote(address):
        yield Path(source)
        return
    if find_spec("fsspec") is None:
        raise ValueError(f"{address}: reading object storage needs fsspec: pip install 'flatwide[storage]'")
    import fsspec

    try:
        files, root = fsspec.url_to_fs(address)
    except ImportError as error:
        raise ValueError(f"{address}: {error}") from None
    found = {path: PurePosixPath(path).relative_to(root) for path in files.find(root)}
    if not found:
        raise FileNotFoundError(f"{address}: there is no such file or folder; expected a work directory or a CSV file.")
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / PurePosixPath(root).name
        copies = {path: copy / inside for path, inside in found.items() if not _NOT_READ & {*inside.parts}}
        for path in copies.values():
            path.parent.mkdir(parents=True, exist_ok=True)
        files.get([*copies], [str(path) for path in copies.values()])
        yield copy
