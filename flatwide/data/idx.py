"""MNIST and Fashion-MNIST, from their four IDX files or from the Hugging Face hub."""

import math
from pathlib import Path

import numpy as np

from flatwide import machine
from flatwide.data import files, hub, pixels
from flatwide.data.files import DataError
from flatwide.data.splits import Resident, dataset
from flatwide.types import Dataset

NUM_CLASSES = 10
IMAGE_SHAPE = (28, 28)
NAMES = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")
MNIST = hub.Images("ylecun/mnist", inputs="image", targets="label")
FASHION_MNIST = hub.Images("zalando-datasets/fashion_mnist", inputs="image", targets="label")
_UNSIGNED_BYTE = 0x08
_FILES = f"{', '.join(NAMES[:3])} and {NAMES[3]} (each with or without .gz, and with '-' or '.' before idx)"


def mnist(*, data_dir: str | None = None) -> Dataset:
    """Load MNIST: 60,000 and 10,000 handwritten digits of 28 x 28 pixels.

    Args:
      data_dir: folder with the four IDX files, or whose folder `mnist` has them; None for the hub.
    Raises: DataError if they are missing or damaged.
    Source: LeCun et al. (1998), Gradient-based learning applied to document recognition.
    """
    return _load("mnist", ("mnist", "MNIST/raw"), MNIST, data_dir=data_dir)


def fashion_mnist(*, data_dir: str | None = None) -> Dataset:
    """Load Fashion-MNIST: 60,000 and 10,000 pictures of clothes, in the format of MNIST.

    Args:
      data_dir: folder with the four IDX files, or whose folder `fashion_mnist` has them; None for the hub.
    Raises: DataError if they are missing or damaged.
    Source: Xiao, Rasul and Vollgraf (2017), arXiv 1708.07747.
    """
    folders = ("fashion_mnist", "fashion-mnist", "FashionMNIST/raw")
    return _load("fashion_mnist", folders, FASHION_MNIST, data_dir=data_dir)


def read(path: Path, *, num_axes: int) -> np.ndarray:
    """Read an IDX file of unsigned bytes.

    Args:
      path: the file, gzipped or not.
      num_axes: how many axes it must have: 3 for images, 1 for labels.
    Returns: uint8 array of the shape in the header; not writable.
    Raises: DataError naming the file, what was found and what was expected.
    """
    header = 4 + 4 * num_axes
    content = files.start(path, header)
    magic = bytes((0, 0, _UNSIGNED_BYTE, num_axes))
    if content[:4] != magic:
        raise DataError(
            f"{path}: starts with bytes {content[:4].hex(' ') or '(none)'}; expected {magic.hex(' ')}, "
            f"an IDX file of unsigned bytes with {num_axes} axes."
        )
    if len(content) < header:
        raise DataError(f"{path}: {len(content)} bytes; expected a header of {header} at least. Get it again.")
    shape = tuple(int(n) for n in np.frombuffer(content, ">u4", num_axes, offset=4))
    expected = header + math.prod(shape)
    if expected > machine.memory():
        raise DataError(
            f"{path}: its header says {' x '.join(map(str, shape))}, {expected / 1e9:,.0f} GB and more than the "
            "memory of this machine; expected an array that fits. Get it again."
        )
    content = files.start(path, expected + 1)
    if len(content) != expected:
        size = "more" if len(content) > expected else f"{len(content):,}"
        raise DataError(
            f"{path}: {size} bytes (uncompressed); expected {expected:,} for the shape "
            f"{' x '.join(map(str, shape))} in its header. Get it again."
        )
    return np.frombuffer(content, np.uint8, offset=header).reshape(shape)


def _load(name: str, subfolders: tuple[str, ...], source: hub.Images, *, data_dir: str | None) -> Dataset:
    if data_dir is None:
        train, test = hub.load_images(source, shape=(*IMAGE_SHAPE, 1), num_classes=NUM_CLASSES, name=name, files=_FILES)
    else:
        expected = f"the four files of {name}: {_FILES}"
        paths = files.complete(data_dir, subfolders, NAMES, expected, spellings=_spellings)
        train, test = _split(*paths[:2]), _split(*paths[2:])
    return dataset(train, test, prepare=pixels.scaling(largest=255), num_outputs=NUM_CLASSES)


def _spellings(name: str) -> list[str]:
    """List the spellings that are in use; the uncompressed ones first, which read fastest."""
    return [spelling + suffix for suffix in ("", ".gz") for spelling in (name, name.replace("-idx", ".idx"))]


def _split(images_path: Path, labels_path: Path) -> Resident:
    images, labels = read(images_path, num_axes=3), read(labels_path, num_axes=1)
    if images.shape[1:] != IMAGE_SHAPE:
        raise DataError(
            f"{images_path}: images of {images.shape[1]} x {images.shape[2]} pixels; "
            f"expected {IMAGE_SHAPE[0]} x {IMAGE_SHAPE[1]}."
        )
    if len(images) == 0:
        raise DataError(f"{images_path}: has no images; expected at least 1.")
    if len(labels) != len(images):
        raise DataError(
            f"{labels_path}: {len(labels):,} labels; expected {len(images):,}, as many as {images_path} has images."
        )
    if labels.max() >= NUM_CLASSES:
        raise DataError(f"{labels_path}: has a label {labels.max()}; expected labels from 0 to {NUM_CLASSES - 1}.")
    return Resident({"inputs": images[..., None], "targets": labels.astype(np.int32)})
