"""ImageNet, or any tree of images with one folder a class: read as it is needed, decoded by parallel threads."""

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import jax
import numpy as np

from flatwide.data import files, hub, images, pixels
from flatwide.data.files import DataError
from flatwide.data.images import Encoded
from flatwide.data.splits import fingerprint
from flatwide.types import Dataset

# The authors' code (input_pipeline.py): of all training pixels.
MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)
IMAGENET = hub.Images("ILSVRC/imagenet-1k", inputs="image", targets="label", test="validation")
SUFFIXES = (".jpeg", ".jpg", ".png")
TEST_FOLDERS = ("val", "validation", "test")
_LAYOUT = "train/<class>/*.JPEG and val/<class>/*.JPEG (or .jpg, .png)"
_LISTERS = 16  # folders listed at a time, since on a network file system each waits for its server


def imagenet2012(
    *, data_dir: str | None = None, augment: bool = True, cache: bool = False, threads: int | None = None
) -> Dataset:
    """Open ImageNet: 1,281,167 and 50,000 images in 1,000 classes, or any smaller tree of the same layout.

    Args:
      data_dir: folder with train/<class>/*.JPEG and val/<class>/*.JPEG, or whose folder `imagenet2012` has them; None
        for the hub.
      augment: take random parts of the training images, flipped at random; else their centres.
      cache: keep the encoded images in memory once they are read.
      threads: how many images are decoded at a time; None for as many as there are cores.
    Raises: DataError if there is no such tree.
    Source: Russakovsky et al. (2015), arXiv 1409.0575.
    """
    if data_dir is not None:
        return image_folder(data_dir=data_dir, augment=augment, cache=cache, threads=threads)
    train, test, num_classes = hub.open_images(IMAGENET, name="imagenet2012", files=_LAYOUT)
    return _dataset(train, test, num_classes, augment=augment, cache=cache, threads=threads)


def image_folder(
    *, data_dir: str | None = None, augment: bool = True, cache: bool = False, threads: int | None = None
) -> Dataset:
    """Open a tree of images whose folders are the classes; each image becomes 224 x 224 pixels.

    Args: as `imagenet2012`, but `data_dir` is needed.
    Raises: DataError if there is no such tree, or a class has no images, or train and val differ in their classes.
    """
    if data_dir is None:
        raise DataError(f"config.data_dir=None: expected a folder with {_LAYOUT}; set it.")
    root, test_folder = _find(data_dir)
    (train, classes), (test, others) = tree(root / "train"), tree(root / test_folder)
    if classes != others:
        differing = sorted(set(classes) ^ set(others))
        raise DataError(
            f"{root}: train has {len(classes)} classes and {test_folder} {len(others)}; expected the same "
            f"ones. Only in one of them: {', '.join(differing[:5])}{', …' if len(differing) > 5 else ''}."
        )
    return _dataset(train, test, len(classes), augment=augment, cache=cache, threads=threads)


@files.naming_what_cannot_be_read()
def tree(folder: Path) -> tuple[Encoded, list[str]]:
    """List the images below a folder; none is opened.

    Args:
      folder: has one folder a class; the classes are numbered in the order of their names.
    Returns: the images in the order of their names, and the names of the classes. The digest is of names and sizes.
    Raises: DataError if there are no class folders, or one has no images.
    """
    names_here = os.listdir(folder)
    classes = sorted(name for name in names_here if not name.startswith(".") and (folder / name).is_dir())
    if not classes:
        loose = any(name.lower().endswith(SUFFIXES) for name in names_here)
        problem = "images that are in no class folder" if loose else "no class folders"
        raise DataError(f"{folder}: has {problem}; expected {folder.name}/<class>/*.JPEG, one folder a class.")
    with ThreadPoolExecutor(_LISTERS) as pool:
        listings = list(pool.map(lambda name: _list(folder / name), classes))
    if empty := [name for name, listing in zip(classes, listings, strict=True) if not listing]:
        raise DataError(
            f"{folder}: {len(empty)} of {len(classes)} class folders have no images, such as {empty[0]!r}; "
            f"expected files that end in {', '.join(SUFFIXES)} in each."
        )
    # Bytes of one width, not a list of a million strings: 40 MB for ImageNet instead of 150.
    names = np.array([os.fsencode(name) for listing in listings for name, _ in listing])
    sizes = np.array([size for listing in listings for _, size in listing])
    targets = np.repeat(np.arange(len(classes), dtype=np.int32), [len(listing) for listing in listings])
    owner = targets  # the class whose folder holds the file, whatever becomes of the labels

    def path(index: int) -> str:
        return os.path.join(folder, classes[owner[index]], os.fsdecode(bytes(names[index])))

    @files.naming_what_cannot_be_read()
    def content(index: int) -> bytes:
        return Path(path(index)).read_bytes()

    digest = fingerprint([names, sizes, targets, np.array(classes)])
    return Encoded(content, path, targets, digest), classes


def _dataset(
    train: Encoded, test: Encoded, num_classes: int, *, augment: bool, cache: bool, threads: int | None
) -> Dataset:
    shape = (images.SIZE, images.SIZE, 3)
    return Dataset(
        train=images.stream(train, augment=augment, cache=cache, threads=threads),
        test=images.stream(test, augment=augment, cache=cache, threads=threads),
        # The random parts are cut on the host, from the whole image.
        prepare=pixels.standardizing(mean=MEAN, std=STD, augment=False),
        example=jax.ShapeDtypeStruct(shape, jax.dtypes.canonicalize_dtype(float)),
        num_outputs=num_classes,
        fingerprint=fingerprint([np.array([train.digest, test.digest])]),
    )


def _find(data_dir: str) -> tuple[Path, str]:
    """Find the folder that holds train and one of val, validation and test."""
    folders = files.folders(data_dir, ("imagenet2012", "imagenet"))
    for folder in folders:
        for name in TEST_FOLDERS:
            if (folder / "train").is_dir() and (folder / name).is_dir():
                return folder, name
    has_train = next((folder for folder in folders if (folder / "train").is_dir()), None)
    missing = f"{folders[-1]} has no folder 'train'" if has_train is None else f"{has_train} has no folder 'val'"
    raise DataError(f"config.data_dir={data_dir!r}: {missing}; expected {_LAYOUT}.")


def _list(folder: Path) -> Sequence[tuple[str, int]]:
    """List names and sizes of the images in one folder."""
    with os.scandir(folder) as entries:
        files_here = [
            file for file in entries if file.name.lower().endswith(SUFFIXES) and not file.name.startswith(".")
        ]
        return sorted((file.name, file.stat().st_size) for file in files_here)
