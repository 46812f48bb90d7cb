"""A data set of the user's own arrays, in one .npz file."""

import zipfile
import zlib
from pathlib import Path

import jax
import numpy as np

from flatwide.data import files, pixels
from flatwide.data.files import DataError
from flatwide.data.splits import Resident, dataset
from flatwide.types import Array, Batch, Dataset

_NAMES = ("inputs", "targets")
_TEST_NAMES = ("test_inputs", "test_targets")
_LAYOUT = (
    "an .npz file with inputs [N, ...] of numbers, and targets: integers [N] for classes from 0, or floats [N] or "
    "[N, k]; test_inputs and test_targets may be there too"
)


def npz(*, data_dir: str | None = None) -> Dataset:
    """Load the arrays `inputs` and `targets` of a file, and `test_inputs` and `test_targets` if it has them.

    Integer targets are classes, floats are real targets. Bytes become floats in [0, 1]; other numbers are rounded to 32
    bits. Without test arrays, every tenth example is a test example.

    Args:
      data_dir: the file, or a folder with no other .npz file.
    Raises: DataError if the file is missing or damaged, or an array is missing or has another form.
    """
    path = _find(data_dir)
    arrays = _read(path)
    splits = [_split(path, arrays, names) for names in (_NAMES, _TEST_NAMES) if set(names) <= set(arrays)]
    if len(splits) == 1:
        chosen = files.every_tenth(range(splits[0].num_examples), path, "inputs")
        splits = [splits[0].take(np.array(rows)) for rows in chosen]
    train, test = splits
    forms = [[leaf.shape[1:] for leaf in (split.arrays["inputs"], split.arrays["targets"])] for split in splits]
    if forms[0] != forms[1] or train.targets.dtype != test.targets.dtype:
        raise DataError(f"{path}: test examples have other shapes or targets than the others; expected the same.")
    return dataset(train, test, prepare=prepare, num_outputs=_num_outputs(path, train, test))


def prepare(batch: Batch, key: Array | None, *, train: bool) -> Batch:
    """Bring inputs, and targets that are floats, to the default float type."""
    del key, train
    real = jax.dtypes.canonicalize_dtype(float)
    targets = batch["targets"]
    targets = targets.astype(real) if np.issubdtype(targets.dtype, np.floating) else targets
    return batch | {"inputs": pixels.to_float(batch["inputs"], largest=255).astype(real), "targets": targets}


def _find(data_dir: str | None) -> Path:
    if data_dir is None:
        raise DataError(f"config.data_dir=None: expected {_LAYOUT}.")
    found = files.listed(data_dir, (".npz",))
    if len(found) != 1:
        names = [path.name for path in found]
        raise DataError(
            f"config.data_dir={data_dir!r}: .npz files {names}; expected one, or the path of one: {_LAYOUT}."
        )
    return found[0]


def _read(path: Path) -> dict[str, np.ndarray]:
    """Read the arrays of the file that are used."""
    try:
        with zipfile.ZipFile(path):  # a file that is none might be a pickle, which is never read
            archive = np.load(path, allow_pickle=False)
        with archive:
            names = archive.files
            arrays = {name: archive[name] for name in (*_NAMES, *_TEST_NAMES) if name in names}
    except MemoryError as error:
        raise DataError(f"{path}: does not fit into memory; make it smaller.") from error
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise DataError(f"{path}: cannot be read ({error}); expected {_LAYOUT}.") from error
    if not set(_NAMES) <= set(arrays) or (set(_TEST_NAMES) & set(arrays) and not set(_TEST_NAMES) <= set(arrays)):
        raise DataError(f"{path}: has the arrays {', '.join(names) or '(none)'}; expected {_LAYOUT}.")
    return arrays


def _split(path: Path, arrays: dict[str, np.ndarray], names: tuple[str, str]) -> Resident:
    """Check the arrays of a split, and convert them to the types that are kept."""
    inputs, targets = (arrays[name] for name in names)
    for name, array in zip(names, (inputs, targets), strict=True):
        if array.dtype.kind not in "biuf" or array.ndim == 0:
            raise DataError(f"{path}: {name} is {array.dtype}{list(array.shape)}; expected {_LAYOUT}.")
        if not np.isfinite(array).all():
            raise DataError(f"{path}: {name} has an entry that is not finite; expected finite numbers. Remove it.")
    if len(inputs) != len(targets) or len(inputs) == 0:
        found = f"{len(inputs):,} {names[0]} and {len(targets):,} {names[1]}"
        raise DataError(f"{path}: {found}; expected as many, and one at least.")
    if targets.dtype.kind == "f" and targets.ndim <= 2:
        targets = targets.astype(np.float32).reshape(len(targets), -1)
    elif targets.dtype.kind != "f" and targets.ndim == 1:
        if not 0 <= int(targets.min()) <= int(targets.max()) < 2**31:
            found = f"{targets.min()} to {targets.max()}"
            raise DataError(
                f"{path}: {names[1]} are classes {found}; expected classes from 0. Real targets are floats."
            )
        targets = targets.astype(np.int32)
    else:
        raise DataError(f"{path}: {names[1]} is {targets.dtype}{list(targets.shape)}; expected {_LAYOUT}.")
    return Resident({"inputs": inputs if inputs.dtype == np.uint8 else inputs.astype(np.float32), "targets": targets})


def _num_outputs(path: Path, train: Resident, test: Resident) -> int:
    if np.issubdtype(train.targets.dtype, np.floating):
        return train.targets.shape[1]
    largest = int(max(train.targets.max(), test.targets.max()))
    if largest >= train.num_examples:  # years, prices
        raise DataError(
            f"{path}: class {largest} with {train.num_examples:,} training examples; expected classes from 0 without "
            "large gaps. Real targets are floats."
        )
    return largest + 1
