"""CIFAR-10 and CIFAR-100, from their binary files or from the Hugging Face hub."""

import functools
import tarfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from flatwide.data import files, hub, pixels
from flatwide.data.files import DataError
from flatwide.data.splits import Resident, dataset
from flatwide.types import Dataset

IMAGE_SHAPE = (32, 32, 3)


class Format(NamedTuple):
    """The binary version of a CIFAR data set: records of label bytes and 3,072 pixels, channel by channel.

    A record ends its labels with the one that is learned; CIFAR-100 has a coarse one before it.
    """

    name: str
    folder: str
    archive: str
    pickled: tuple[str, ...]  # the files of the Python version, which is not read
    train: tuple[str, ...]
    test: str
    images_a_file: dict[str, int]  # in the files as published
    label_bytes: int
    num_classes: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    source: hub.Images


_BATCHES = tuple(f"data_batch_{i}.bin" for i in range(1, 6))
CIFAR10 = Format(
    name="cifar10",
    folder="cifar-10-batches-bin",
    archive="cifar-10-binary.tar.gz",
    pickled=("cifar-10-batches-py", "cifar-10-python.tar.gz", "data_batch_1"),
    train=_BATCHES,
    test="test_batch.bin",
    images_a_file=dict.fromkeys((*_BATCHES, "test_batch.bin"), 10_000),
    label_bytes=1,
    num_classes=10,
    # The authors' code (input_pipeline.py). These widely copied deviations are averages over images of each image's
    # own; over all pixels they are 0.2470, 0.2435, 0.2616.
    mean=(0.4914, 0.4822, 0.4465),
    std=(0.2023, 0.1994, 0.2010),
    source=hub.Images("uoft-cs/cifar10", inputs="img", targets="label"),
)
CIFAR100 = Format(
    name="cifar100",
    folder="cifar-100-binary",
    archive="cifar-100-binary.tar.gz",
    pickled=("cifar-100-python", "cifar-100-python.tar.gz", "train"),
    train=("train.bin",),
    test="test.bin",
    images_a_file={"train.bin": 50_000, "test.bin": 10_000},
    label_bytes=2,
    num_classes=100,
    # Over all training pixels, as in common use; the authors' code has no CIFAR-100.
    mean=(0.5071, 0.4865, 0.4409),
    std=(0.2673, 0.2564, 0.2762),
    source=hub.Images("uoft-cs/cifar100", inputs="img", targets="fine_label"),
)


def load(form: Format, *, data_dir: str | None = None, augment: bool = True) -> Dataset:
    """Load 50,000 and 10,000 colour images of 32 x 32 pixels, in 10 classes or in 100 (the fine labels).

    Args:
      data_dir: folder with the files of the binary version, or with their usual folder or archive; None for the hub.
      augment: crop and flip the training images at random.
    Raises: DataError if the files are missing or damaged.
    Source: Krizhevsky (2009), Learning multiple layers of features from tiny images.
    """
    if data_dir is None:
        train, test = hub.load_images(
            form.source, shape=IMAGE_SHAPE, num_classes=form.num_classes, name=form.name, files=_expected(form)
        )
    else:
        parts = _read(form, data_dir)
        train, test = _resident(form, [parts[name] for name in form.train]), _resident(form, [parts[form.test]])
    prepare = pixels.standardizing(mean=form.mean, std=form.std, augment=augment)
    return dataset(train, test, prepare=prepare, num_outputs=form.num_classes)


cifar10 = functools.partial(load, CIFAR10)
cifar100 = functools.partial(load, CIFAR100)


def _resident(form: Format, parts: list[np.ndarray]) -> Resident:
    """Split the records into labels [N] and images [N, 32, 32, 3]."""
    records = np.concatenate(parts)
    planes = records[:, form.label_bytes :].reshape(-1, 3, 32, 32)
    images = np.ascontiguousarray(planes.transpose(0, 2, 3, 1))
    return Resident({"inputs": images, "targets": records[:, form.label_bytes - 1].astype(np.int32)})


def _read(form: Format, data_dir: str) -> dict[str, np.ndarray]:
    """Read the records of each file, from the first folder that has all of them or their archive."""
    subfolders = (form.folder, form.name, f"{form.name}/{form.folder}")
    folders = files.folders(data_dir, subfolders)
    try:
        paths = files.complete(data_dir, subfolders, (*form.train, form.test), _expected(form))
    except DataError as error:
        if archives := [path for folder in folders if (path := folder / form.archive).is_file()]:
            return _records(form, _members(form, archives[0]))
        if any((folder / name).exists() for folder in folders for name in form.pickled):
            hint = "What is there is the Python version, which is pickled and never read; get the binary version."
            raise DataError(f"{error} {hint}") from None
        raise
    return _records(form, ((str(path), path.name, files.start(path, _most(form, path.name) + 1)) for path in paths))


def _expected(form: Format) -> str:
    return (
        f"the files of the binary version, {', '.join(form.train)} and {form.test}, "
        f"or their folder {form.folder}, or their archive {form.archive}"
    )


def _members(form: Format, archive: Path) -> Iterator[tuple[str, str, bytes]]:
    """Yield the files in an archive: a name for messages, the file's name, its content."""
    wanted, seen = {*form.train, form.test}, set()
    try:
        with tarfile.open(archive, "r:gz") as tar:
            for member in tar:
                name = Path(member.name).name
                if member.isfile() and name in wanted - seen and (content := tar.extractfile(member)) is not None:
                    seen.add(name)
                    yield f"{archive} ({member.name})", name, content.read(_most(form, name) + 1)
    except (tarfile.TarError, EOFError, zlib.error, OSError) as error:
        raise DataError(f"{archive}: damaged archive ({error}); expected one whole .tar.gz. Get it again.") from error
    if missing := sorted(wanted - seen):
        raise DataError(f"{archive}: has no {', no '.join(missing)}; expected {', '.join(sorted(wanted))} in it.")


def _most(form: Format, name: str) -> int:
    """Return the bytes of a file as published."""
    return form.images_a_file[name] * (form.label_bytes + 3 * 32 * 32)


def _records(form: Format, contents: Iterator[tuple[str, str, bytes]]) -> dict[str, np.ndarray]:
    """Split each file into records, and check them."""
    size = form.label_bytes + 3 * 32 * 32
    records, locations = {}, {}
    for location, name, content in contents:
        if len(content) > (most := _most(form, name)):
            raise DataError(
                f"{location}: more than {most:,} bytes; expected at most those of {form.name} as published."
            )
        if len(content) % size or not content:
            raise DataError(
                f"{location}: {len(content):,} bytes; expected a multiple of {size:,}, the size of an image and its "
                f"label ({form.images_a_file[name] * size:,} bytes in {form.name} as published)."
            )
        records[name], locations[name] = np.frombuffer(content, np.uint8).reshape(-1, size), location
        largest = records[name][:, form.label_bytes - 1].max()
        if largest >= form.num_classes:
            raise DataError(f"{location}: has a label {largest}; expected labels from 0 to {form.num_classes - 1}.")
    # Small files are allowed, for trials; one short file among files of the published size was truncated.
    is_whole = {name: len(images) == form.images_a_file[name] for name, images in records.items()}
    if any(is_whole.values()) and not all(is_whole.values()):
        name = next(name for name, whole in is_whole.items() if not whole)
        raise DataError(
            f"{locations[name]}: {len(records[name]):,} images; expected {form.images_a_file[name]:,}, since other "
            "files have the size of the published ones. Get it again."
        )
    return records
