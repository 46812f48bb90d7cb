"""Directories of arrays that Orbax writes and reads, each process the parts that lie on its devices.

A directory is whole or not there, as an npz of `checkpoints` is: Orbax writes under another name, `flatwide.json` with
the SHA-256 of each file comes last, and then the directory gets its name.
"""

import contextlib
import hashlib
import json
import os
import re
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, cast

import jax
import numpy as np

from flatwide import processes
from flatwide.runs import disk

SUFFIX = ".orbax"
_MANIFEST = "flatwide.json"
_UNFINISHED = "unfinished.orbax.tmp"  # Orbax adds to it while it writes
_REMOVED = "removed.orbax.tmp"


def write(path: Path, arrays: Mapping[str, jax.Array], metadata: Mapping[str, Any]) -> None:
    """Write a directory; all processes that hold parts of the arrays must call it, and see the same file system."""
    import orbax.checkpoint as ocp  # half a second

    temporary = path.parent.absolute() / _UNFINISHED
    processes.agreed(lambda: _remove_all(temporary))
    with ocp.Checkpointer(ocp.PyTreeCheckpointHandler()) as checkpointer, _system_errors(path):
        checkpointer.save(temporary, dict(arrays))
    processes.agreed(lambda: _finish(temporary, path, metadata))


def read_metadata(path: Path) -> dict[str, Any]:
    """Read the metadata of a directory whose files are those that were written.

    Raises: OSError if a file cannot be read; ValueError, saying which, if one was changed or is missing.
    """
    with disk.open_regular(path / _MANIFEST) as file:
        manifest = json.loads(file.read())
    if not isinstance(manifest, dict) or manifest.pop("sha256", None) != _digest_of(manifest):
        raise ValueError(f"{_MANIFEST} does not end with its SHA-256")
    for name, digest in manifest["files"].items():
        if _digest(path / name) != digest:
            raise ValueError(f"{name} was changed")
    return manifest["metadata"]


def read(path: Path, like: Mapping[str, Any], *, is_local: bool) -> dict[str, Any]:
    """Read some of the arrays of a directory.

    Args:
      like: name -> the shape, dtype and sharding of the array that is returned; a NumPy array without a sharding.
      is_local: whether this process reads alone; else all call it.
    """
    import orbax.checkpoint as ocp

    index = jax.process_index()
    alone = ocp.options.MultiprocessingOptions(primary_host=index, active_processes={index})
    options = alone if is_local else ocp.options.MultiprocessingOptions()
    restore_args = {
        name: ocp.RestoreArgs(restore_type=np.ndarray)
        if leaf.sharding is None
        else ocp.ArrayRestoreArgs(sharding=leaf.sharding, global_shape=leaf.shape)
        for name, leaf in like.items()
    }
    handler = ocp.PyTreeCheckpointHandler(multiprocessing_options=options)
    with ocp.Checkpointer(handler, multiprocessing_options=options) as checkpointer:
        arguments = ocp.args.PyTreeRestore(item=dict(like), restore_args=restore_args, partial_restore=True)
        return checkpointer.restore(path.absolute(), args=arguments)


def remove(path: Path) -> None:
    """Remove a directory; one that is removed in part has no name of a checkpoint any more."""
    removed = path.parent / _REMOVED
    _remove_all(removed)
    os.replace(path, removed)
    _remove_all(removed)


@contextlib.contextmanager
def _system_errors(path: Path) -> Iterator[None]:
    """Raise OSError in place of TensorStore's ValueError with the code of one, such as that of a full disk."""
    try:
        yield
    except ValueError as error:
        code = re.search(r"os_error_code='(\d+)'", str(error))
        if code is None:
            raise
        raise OSError(int(code[1]), os.strerror(int(code[1])), str(path)) from error


def _finish(temporary: Path, path: Path, metadata: Mapping[str, Any]) -> None:
    names = sorted(str(file.relative_to(temporary)) for file in temporary.rglob("*") if file.is_file())
    manifest = {"metadata": dict(metadata), "files": {name: _digest(temporary / name) for name in names}}
    with disk.named(path), open(temporary / _MANIFEST, "x") as file:
        json.dump(manifest | {"sha256": _digest_of(manifest)}, file)
        file.flush()
        os.fsync(file.fileno())
    for folder in {temporary, *((temporary / name).parent for name in names)}:
        disk.sync_directory(folder)
    if path.exists():  # a damaged one that the run fell back from: only an empty directory is replaced by a name
        remove(path)
    os.replace(temporary, path)
    disk.sync_directory(path.parent)


def _remove_all(temporary: Path) -> None:
    """Remove what a process has left under a temporary name, or under those that Orbax derives from it."""
    for path in temporary.parent.glob(f"{temporary.name}*"):
        path.unlink() if path.is_symlink() or path.is_file() else shutil.rmtree(path)


def _digest(path: Path) -> str:
    with disk.open_regular(path, follow=False) as file:
        return hashlib.file_digest(cast(Any, file), "sha256").hexdigest()


def _digest_of(manifest: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(manifest, sort_keys=True).encode()).hexdigest()
