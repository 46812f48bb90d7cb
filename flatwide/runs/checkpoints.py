"""Checkpoints of one run: a pytree and some JSON in one file, written atomically and protected by a digest.

A file is an ordinary npz (`numpy.load` opens it) with one array a leaf, named by its path, a member `metadata.json`,
and the SHA-256 of everything before it as the archive's comment, so that a changed byte anywhere is found. A state that
is split over devices is a directory of Orbax (`orbax_files`) instead, since no process may have space for all of it.
"""

import contextlib
import hashlib
import json
import os
import re
import zipfile
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import IO, Any, NamedTuple

import jax
import numpy as np

from flatwide import processes, trees
from flatwide.runs import disk, orbax_files
from flatwide.training import devices
from flatwide.types import PyTree

FINAL = "final.npz"
_METADATA = "metadata.json"
_TEMPORARY = "unfinished.tmp"  # a fixed name, so that the next save overwrites what a killed process left
_DIGEST_BYTES = 64  # a SHA-256 in hexadecimal
_STEP_FILE = re.compile(r"step_(\d{8,})\.(npz|orbax)")


class DamagedError(ValueError):
    """A checkpoint that cannot be read, or whose bytes have changed."""


class Newest(NamedTuple):
    """The newest undamaged checkpoint; `tree` is None if there is none, and the run starts at step 0."""

    tree: PyTree | None
    extra: dict[str, Any]
    step: int
    warnings: list[str]  # one line for each newer checkpoint that is damaged


def save(directory: Path | str, step: int, tree: PyTree, *, extra: dict[str, Any], final: bool = False) -> Path:
    """Write a checkpoint atomically, and remove all but the final one and the newest two undamaged ones.

    A process that is killed at any instant leaves the older checkpoints unchanged.

    Args:
      directory: created if missing; one process writes to it at a time.
      step: the number of steps taken, >= 0.
      tree: pytree of arrays, typed PRNG keys and Python numbers.
      extra: any values that JSON can represent.
      final: write `final.npz`, which nothing removes, in place of `step_<step>.npz`.
    Returns: the path, which ends in `.orbax` if a leaf is split over devices.
    Raises: ValueError if two leaves have the same path.
    Cost: two flushes to disk, and reading the previous checkpoint.
    """
    directory = Path(directory)
    path = write(directory / (FINAL if final else f"step_{step:08d}.npz"), step, tree, extra=extra)
    if not final and processes.is_first():
        _remove_superseded(directory, step)
    return path


def existing(path: Path) -> Path | None:
    """Return the path of an npz, or of the directory that replaces it for a sharded state; None if neither exists."""
    return next((kind for kind in (path, path.with_suffix(orbax_files.SUFFIX)) if kind.exists()), None)


def write(path: Path, step: int, tree: PyTree, *, extra: dict[str, Any]) -> Path:
    """Write one file atomically, as `save` does, without removing any; of several processes the first one writes.

    If a leaf is split over devices, all processes must call this.
    Returns: the path, which then ends in `.orbax`.
    """
    if devices.is_split(tree):
        return _write_split(path.with_suffix(orbax_files.SUFFIX), step, tree, extra=extra)
    if processes.is_first():
        _write_whole(path, step, devices.local_copy(tree), extra=extra)
    return path


def _write_whole(path: Path, step: int, tree: PyTree, *, extra: dict[str, Any]) -> None:
    directory = path.parent
    directory.mkdir(exist_ok=True)
    arrays, dtypes = _to_numpy(tree)
    metadata = {"step": int(step), "dtypes": dtypes, "extra": extra}
    temporary = directory / _TEMPORARY
    try:
        temporary.unlink(missing_ok=True)  # not opened, since it may be a link
        with disk.named(path), open(temporary, "xb+") as file:
            _write(file, arrays, metadata)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)  # free the space of a full disk
        raise
    disk.sync_directory(directory)


def _write_split(path: Path, step: int, tree: PyTree, *, extra: dict[str, Any]) -> Path:
    if processes.is_first():
        path.parent.mkdir(exist_ok=True)
    named = _named_leaves(tree)
    leaves = {name: _description(leaf) for name, leaf in named}
    arrays = {name: jax.random.key_data(leaf) if _is_key(leaf) else leaf for name, leaf in named}
    orbax_files.write(path, arrays, {"step": int(step), "leaves": leaves, "extra": extra})
    return path


def arrays(path: Path) -> dict[str, np.ndarray]:
    """Read the arrays of a file by name, such as `params/Dense_0/kernel`.

    Raises: DamagedError.
    """
    return _read(path)[0]


def load(
    path: Path | str,
    like: PyTree,
    *,
    step: int | None = None,
    fault: Callable[[Mapping[str, Any]], str] = lambda extra: "",
    is_part: bool = False,
) -> tuple[PyTree, dict[str, Any]]:
    """Read a checkpoint into the structure of `like`.

    Args:
      path: a file written by `save`.
      like: pytree of arrays or `jax.ShapeDtypeStruct` with the expected structure, shapes and dtypes. JAX leaves are
        returned with the sharding of `like`, NumPy leaves and Python numbers as such.
      step: the step that the file must be of; None for any.
      fault: extra -> the reason why an undamaged file cannot be used, or "".
      is_part: `like` is a part of the content; the rest is ignored.
    Returns: (tree, extra).
    Raises: DamagedError if a byte is wrong or missing; ValueError, naming the leaf, if the file holds another state, or
      with the reason of `fault`, or if it is of another step.
    """
    path = Path(path)
    arrays, metadata = _read(path)
    problem = fault(metadata["extra"])
    if not problem and step not in (None, metadata["step"]):
        problem = f"it is the network after step {metadata['step']}; expected that after step {step}"
    if problem:
        raise ValueError(
            f"{path}: {problem}; restore the file from a copy, or train the run again in another --workdir."
        )
    return _restored(path, arrays, metadata, like, is_part=is_part, is_local=True), metadata["extra"]


def load_newest(
    directory: Path | str,
    like: PyTree,
    *,
    fault: Callable[[Path, Mapping[str, Any]], str] = lambda path, extra: "",
) -> Newest:
    """Read the final or else the newest checkpoint, falling back to older ones that can be used.

    Args:
      fault: (path, extra) -> the reason why an undamaged checkpoint cannot be used, or "".
    Raises: ValueError, naming the leaf, if an undamaged checkpoint has another structure than `like`; with the reason
      of `fault` if no checkpoint is left, since a run that starts again would replace files that may be repaired.
    """
    chosen = _choose(Path(directory), fault) if processes.is_first() else _Chosen(warnings=[])
    name, metadata, warnings = processes.agreed(lambda: [chosen.name, dict(chosen.metadata), chosen.warnings])
    if not name:
        return Newest(tree=None, extra={}, step=0, warnings=warnings)
    path = Path(directory) / name
    arrays = {} if path.suffix == orbax_files.SUFFIX else devices.of_first(chosen.arrays)
    tree = _restored(path, arrays, metadata, like)
    return Newest(tree=tree, extra=metadata["extra"], step=metadata["step"], warnings=warnings)


def of_first(tree: PyTree) -> PyTree:
    """Return the tree of process 0 in all processes: that of another type of CPU may differ in its last bits.

    Leaves that are split over devices are returned unchanged, since each part exists once.
    """
    if processes.count() == 1:
        return tree
    leaves, structure = jax.tree.flatten(tree)
    whole = {index: leaf for index, leaf in enumerate(leaves) if not devices.is_split(leaf)}
    arrays, dtypes = _to_numpy(devices.local_copy(whole))
    sent = _restored(Path("state of process 0"), devices.of_first(arrays), {"dtypes": dtypes}, whole)
    return jax.tree.unflatten(structure, [sent.get(index, leaf) for index, leaf in enumerate(leaves)])


class _Chosen(NamedTuple):
    """The checkpoint to resume from; `name` is that of its file, "" if there is none."""

    warnings: list[str]
    name: str = ""
    metadata: Mapping[str, Any] = MappingProxyType({})
    arrays: Mapping[str, np.ndarray] = MappingProxyType({})


def _choose(directory: Path, fault: Callable[[Path, Mapping[str, Any]], str]) -> _Chosen:
    """Read the newest usable checkpoint; raise as `load_newest` does if there are others but none is usable."""
    warnings: list[str] = []
    refusals: list[str] = []
    final = existing(directory / FINAL)
    for path in [*([final] if final else []), *(path for _, path in _step_files(directory))]:
        try:
            arrays, metadata = _read(path)
        except DamagedError as error:
            warnings.append(f"{error} Using the checkpoint before it.")
            refusals += [str(error)] if isinstance(error.__cause__, PermissionError) else []
            continue
        if problem := fault(path, metadata["extra"]):
            warnings.append(f"{problem} Using the checkpoint before it.")
            refusals.append(problem)
            continue
        return _Chosen(name=path.name, metadata=metadata, arrays=arrays, warnings=warnings)
    if refusals:
        raise ValueError(
            f"{refusals[0]} No checkpoint before it can be used. Restore what was lost or changed from a copy, or "
            "train the run again in another --workdir."
        )
    if warnings:
        warnings.append(f"{directory}: no checkpoint is undamaged; starting again from step 0.")
    return _Chosen(warnings=warnings)


def _step_files(directory: Path) -> list[tuple[int, Path]]:
    """List (step, path), the newest first; a step may have a file and a directory."""
    if not directory.is_dir():
        return []
    matches = ((_STEP_FILE.fullmatch(path.name), path) for path in directory.iterdir())
    return sorted(((int(match[1]), path) for match, path in matches if match), reverse=True)


def _remove_superseded(directory: Path, step: int) -> None:
    """Remove checkpoints older than the newest two undamaged ones up to `step`.

    The file of `step` was just written. Files of later steps are damaged ones that the run fell back from; they stay
    until the run has passed them.
    """
    older = [path for stored_step, path in _step_files(directory) if stored_step < step]
    intact = 1
    for path in older:
        if intact == 2:
            orbax_files.remove(path) if path.is_dir() else path.unlink(missing_ok=True)
        elif _is_intact(path):
            intact += 1


def _is_intact(path: Path) -> bool:
    try:
        if path.suffix == orbax_files.SUFFIX:
            _read(path)
            return True
        with _opened(path):
            return True
    except DamagedError:
        return False


def _write(file: IO[bytes], arrays: dict[str, np.ndarray], metadata: dict[str, Any]) -> None:
    """Write the archive, and then the digest of all bytes before the digest."""
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        archive.comment = b" " * _DIGEST_BYTES
        archive.writestr(
            zipfile.ZipInfo(_METADATA), json.dumps(metadata)
        )  # ZipInfo has a fixed date, so the bytes are reproducible
        for name, array in arrays.items():
            with archive.open(zipfile.ZipInfo(f"{name}.npy"), "w", force_zip64=True) as member:
                np.lib.format.write_array(member, array, allow_pickle=False)
    end = file.seek(0, os.SEEK_END) - _DIGEST_BYTES
    digest = _digest(file, end)
    file.seek(end)
    file.write(digest)


def _read(path: Path) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Read all arrays and the metadata of an undamaged file, or only the metadata of a directory."""
    if path.suffix == orbax_files.SUFFIX:
        try:
            return {}, orbax_files.read_metadata(path)
        except OSError as error:
            raise DamagedError(f"{path}: the checkpoint cannot be read ({error.strerror or error}).") from error
        except (ValueError, KeyError) as error:
            raise DamagedError(f"{path}: the checkpoint is damaged: {error}.") from error
    with _opened(path) as file, zipfile.ZipFile(file) as archive:
        metadata = json.loads(archive.read(_METADATA))
        arrays = {}
        for name in metadata["dtypes"]:
            with archive.open(f"{name}.npy") as member:
                arrays[name] = np.lib.format.read_array(member, allow_pickle=False)
    return arrays, metadata


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[IO[bytes]]:
    """Open a checkpoint with a correct digest; raise DamagedError for any other."""
    try:
        with disk.open_regular(path) as file:
            size = os.fstat(file.fileno()).st_size
            if _digest(file, size - _DIGEST_BYTES) != file.read():
                raise DamagedError(
                    f"{path}: the checkpoint is damaged (truncated or changed): its {size} bytes do not end with their "
                    "SHA-256."
                )
            file.seek(0)
            yield file
    except OSError as error:
        raise DamagedError(f"{path}: the checkpoint cannot be read ({error.strerror or error}).") from error


def _digest(file: IO[bytes], size: int) -> bytes:
    """Compute the SHA-256 of the first `size` bytes, in hexadecimal; the file position is then at their end."""
    file.seek(0)
    digest = hashlib.sha256()
    while size > 0 and (chunk := file.read(min(size, 1 << 20))):
        digest.update(chunk)
        size -= len(chunk)
    return digest.hexdigest().encode()


def _named_leaves(tree: PyTree) -> list[tuple[str, Any]]:
    """List (path, leaf), with paths such as `params/Dense_0/kernel`."""
    named = [(trees.path_name(path), leaf) for path, leaf in jax.tree_util.tree_leaves_with_path(tree)]
    names = [name for name, _ in named]
    if len(set(names)) < len(names):
        duplicates = sorted({name for name in names if names.count(name) > 1})
        raise ValueError(f"two leaves of the state have the path {duplicates[0]!r}; rename one of them.")
    return named


def _is_key(leaf: Any) -> bool:
    return hasattr(leaf, "dtype") and jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def _to_numpy(tree: PyTree) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """Convert the leaves to arrays that an npz can hold, and their dtypes to text."""
    named = _named_leaves(tree)
    dtypes = {
        name: f"key:{jax.random.key_impl(leaf)}" if _is_key(leaf) else np.asarray(leaf).dtype.name
        for name, leaf in named
    }
    stored = jax.device_get({name: jax.random.key_data(leaf) if _is_key(leaf) else leaf for name, leaf in named})
    return {name: _plain(np.asarray(array)) for name, array in stored.items()}, dtypes


def _plain(array: np.ndarray) -> np.ndarray:
    """View an array of a dtype that NumPy lacks (bfloat16, float8) as unsigned integers of the same size."""
    return array if array.dtype.kind in "biufc" else array.view(f"u{array.dtype.itemsize}")


def _restored(
    path: Path,
    arrays: dict[str, np.ndarray],
    metadata: Mapping[str, Any],
    like: PyTree,
    *,
    is_part: bool = False,
    is_local: bool = False,
) -> PyTree:
    """Put stored arrays into the structure of `like`, or raise ValueError with the leaves that do not fit.

    Args:
      arrays: of a file; those of a directory are read here, with the shardings of `like`.
      is_part: ignore leaves that `like` does not have. is_local: whether this process reads a directory alone.
    """
    named = _named_leaves(like)
    expected = {name: _description(leaf) for name, leaf in named}
    is_split = path.suffix == orbax_files.SUFFIX
    dtypes = metadata["leaves"] if is_split else metadata["dtypes"]
    stored = dtypes if is_split else {name: _stored_description(arrays[name], dtype) for name, dtype in dtypes.items()}
    faults = [
        f"{name!r}: found {stored.get(name, 'nothing')}, expected {expected.get(name, 'nothing')}"
        for name in sorted(expected.keys() if is_part else expected.keys() | stored.keys())
        if expected.get(name) != stored.get(name)
    ]
    if faults:
        more = f"; and {len(faults) - 5} more" if len(faults) > 5 else ""
        raise ValueError(f"{path}: the checkpoint holds another state: {'; '.join(faults[:5])}{more}.")
    if is_split:
        arrays = orbax_files.read(path, {name: _stored_like(leaf) for name, leaf in named}, is_local=is_local)
        dtypes = {
            name: f"key:{jax.random.key_impl(leaf)}" if _is_key(leaf) else str(leaf.dtype) for name, leaf in named
        }
    leaves = [_restore(arrays[name], dtypes[name], leaf) for name, leaf in named]
    return jax.tree.unflatten(jax.tree.structure(like), leaves)


def _stored_like(leaf: Any) -> jax.ShapeDtypeStruct:
    """Return the shape, dtype and sharding with which the stored array of a leaf is read."""
    shape = jax.eval_shape(jax.random.key_data, leaf) if _is_key(leaf) else leaf
    return jax.ShapeDtypeStruct(shape.shape, shape.dtype, sharding=_sharding(leaf))


def _description(leaf: Any) -> str:
    """Return the dtype and shape of a leaf as text, such as `float32[3,4]`."""
    if _is_key(leaf):
        return f"{leaf.dtype}{_shape(leaf.shape)}"
    array = leaf if hasattr(leaf, "dtype") else np.asarray(leaf)
    return f"{np.dtype(array.dtype).name}{_shape(array.shape)}"


def _stored_description(array: np.ndarray, dtype: str) -> str:
    if dtype.startswith("key:"):
        key = jax.eval_shape(partial(jax.random.wrap_key_data, impl=dtype.removeprefix("key:")), array)
        return f"{key.dtype}{_shape(key.shape)}"
    return f"{dtype}{_shape(array.shape)}"


def _shape(shape: tuple[int, ...]) -> str:
    return f"[{','.join(map(str, shape))}]"


def _restore(array: Any, dtype: str, like: Any) -> Any:
    """Convert a stored array to the kind of leaf that `like` is."""
    if dtype.startswith("key:"):
        return jax.random.wrap_key_data(_placed(array, like), impl=dtype.removeprefix("key:"))
    if isinstance(array, jax.Array):  # of a directory, already on the devices of `like`
        return array
    array = array.view(np.dtype(dtype)) if array.dtype.name != dtype else array
    if isinstance(like, np.ndarray):
        return array
    if isinstance(like, np.generic):
        return array[()]
    if isinstance(like, bool | int | float | complex):
        return array.item()
    return _placed(array, like)


def _placed(array: Any, like: Any) -> Any:
    """Put an array on the devices of `like`, or on the default device if `like` has none."""
    return array if isinstance(array, jax.Array) else devices.put(array, _sharding(like))


def _sharding(like: Any) -> jax.sharding.Sharding | None:
    return getattr(like, "sharding", None) if getattr(like, "committed", True) else None
