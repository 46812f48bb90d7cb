"""The hub's one loader, on local copies of its layout; no network anywhere."""

import io
import sys
import time
from pathlib import Path

import datasets
import huggingface_hub
import numpy as np
import pytest
from numpy.testing import assert_array_equal
from PIL import Image

from flatwide.data import DataError, cifar, hub, idx, image_folder

RANDOM = np.random.default_rng(0)


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """Keep the library's own cache out of the home folder."""
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    datasets.disable_progress_bars()
    yield
    datasets.enable_progress_bars()


def png(image: np.ndarray) -> dict:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "PNG")
    return {"bytes": buffer.getvalue(), "path": None}


def write(folder: Path, images: dict, labels: dict, *, num_classes: int, columns=("image", "label")) -> Path:
    """Write one Parquet file a split, as repositories of images on the hub have them."""
    (folder / "data").mkdir(parents=True)
    names = [str(number) for number in range(num_classes)]
    features = datasets.Features({columns[0]: datasets.Image(), columns[1]: datasets.ClassLabel(names=names)})
    for split, pictures in images.items():
        rows = {columns[0]: [png(picture) for picture in pictures], columns[1]: labels[split]}
        table = datasets.Dataset.from_dict(rows, features=features)
        table.to_parquet(folder / "data" / f"{split}-00000-of-00001.parquet")
    return folder


def digits_like(folder: Path, *, labels=None) -> tuple[Path, dict, dict]:
    images = {name: RANDOM.integers(0, 256, (n, 28, 28), dtype=np.uint8) for name, n in (("train", 9), ("test", 4))}
    labels = labels or {"train": [3, 1, 4, 1, 5, 9, 2, 6, 5], "test": [0, 9, 8, 7]}
    return write(folder, images, labels, num_classes=10), images, labels


OPTIONS = {"name": "mnist", "files": "the four files"}
GRAY = {"shape": (28, 28, 1), "num_classes": 10, **OPTIONS}


def test_gray_images_become_arrays(tmp_path):
    folder, images, labels = digits_like(tmp_path / "repository")
    train, test = hub.load_images(hub.Images(str(folder)), **GRAY)
    for split, name in ((train, "train"), (test, "test")):
        assert_array_equal(split.arrays["inputs"], images[name][..., None])
        assert_array_equal(split.targets, labels[name])
        assert split.targets.dtype == np.int32


def test_colour_images_from_other_columns_and_splits(tmp_path):
    images = {name: RANDOM.integers(0, 256, (3, 5, 6, 3), dtype=np.uint8) for name in ("train", "validation")}
    labels = {"train": [2, 0, 1], "validation": [1, 1, 0]}
    folder = write(tmp_path / "repository", images, labels, num_classes=3, columns=("img", "fine_label"))
    source = hub.Images(str(folder), inputs="img", targets="fine_label", test="validation")
    train, test = hub.load_images(source, shape=(5, 6, 3), num_classes=3, **OPTIONS)
    assert_array_equal(train.arrays["inputs"], images["train"])
    assert_array_equal(test.arrays["inputs"], images["validation"])
    assert_array_equal(test.targets, labels["validation"])


def test_images_can_stay_encoded(tmp_path):
    folder, images, labels = digits_like(tmp_path / "repository")
    train, test, num_classes = hub.open_images(hub.Images(str(folder)), **OPTIONS)
    assert num_classes == 10
    assert_array_equal(train.targets, labels["train"])
    assert_array_equal(Image.open(io.BytesIO(test.content(2))), images["test"][2])
    assert train.location(4) == f"{str(folder)!r}, split 'train', row 4"
    assert train.digest != test.digest
    assert hub.open_images(hub.Images(str(folder)), **OPTIONS)[0].digest == train.digest


def test_a_folder_of_image_files_is_a_repository_too(tmp_path):
    images = RANDOM.integers(0, 256, (4, 9, 9, 3), dtype=np.uint8)
    for number, image in enumerate(images):
        path = tmp_path / "repository" / ("train", "test")[number % 2] / ("ant", "bee")[number // 2] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(path)
    source = hub.Images(str(tmp_path / "repository"))
    train, test = hub.load_images(source, shape=(9, 9, 3), num_classes=2, **OPTIONS)
    assert_array_equal(train.arrays["inputs"], images[[0, 2]])
    assert_array_equal(test.targets, [0, 1])
    encoded, _, num_classes = hub.open_images(source, **OPTIONS)
    assert num_classes == 2
    assert_array_equal(Image.open(io.BytesIO(encoded.content(1))), images[2])


def test_the_known_data_sets_come_from_there_without_data_dir(tmp_path, monkeypatch):
    folder, images, labels = digits_like(tmp_path / "gray")
    monkeypatch.setattr(idx, "MNIST", idx.MNIST._replace(repository=str(folder)))
    dataset = idx.mnist()
    assert_array_equal(dataset.train.arrays["inputs"][..., 0], images["train"])
    assert_array_equal(dataset.test.targets, labels["test"])

    colours = {name: RANDOM.integers(0, 256, (2, 32, 32, 3), dtype=np.uint8) for name in ("train", "test")}
    pair = {"train": [7, 1], "test": [9, 0]}
    folder = write(tmp_path / "colour", colours, pair, num_classes=10, columns=("img", "label"))
    source = cifar.CIFAR10.source._replace(repository=str(folder))
    dataset = cifar.load(cifar.CIFAR10._replace(source=source))
    assert_array_equal(dataset.train.arrays["inputs"], colours["train"])
    assert_array_equal(dataset.test.targets, [9, 0])


def test_imagenet_streams_from_there(tmp_path, monkeypatch):
    pictures = {name: RANDOM.integers(0, 256, (3, 256, 300, 3), dtype=np.uint8) for name in ("train", "validation")}
    labels = {"train": [0, 2, 1], "validation": [1, 2, 0]}
    folder = write(tmp_path / "repository", pictures, labels, num_classes=3)
    monkeypatch.setattr(image_folder, "IMAGENET", image_folder.IMAGENET._replace(repository=str(folder)))
    dataset = image_folder.imagenet2012()
    assert dataset.num_outputs == 3
    batch = next(dataset.test.batches(3, order=np.array([2, 0, 1]), seed=0, epoch=0, train=False))
    assert_array_equal(batch["inputs"], pictures["validation"][[2, 0, 1], 16:240, 38:262])
    assert_array_equal(batch["targets"], [0, 1, 2])


# What can go wrong.


def failure(call, *arguments, **options) -> str:
    with pytest.raises(DataError) as caught:
        call(*arguments, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_no_network_says_which_files_to_put_where():
    message = failure(idx.mnist)
    assert message.startswith("config.dataset='mnist': config.data_dir is not set, and 'ylecun/mnist' cannot be had")
    assert "no network, or HF_HUB_OFFLINE is set" in message
    assert all(name in message for name in idx.NAMES)
    assert message.endswith("into a folder, and set config.data_dir to that folder.")
    assert "test_batch.bin" in failure(cifar.cifar10)
    assert "train/<class>/*.JPEG and val/<class>/*.JPEG" in failure(image_folder.imagenet2012)


def test_an_unreachable_hub_is_noticed_within_seconds(monkeypatch):
    # Nothing listens on port 9. Left alone, the library tries for 23 seconds.
    for switch in (datasets.config, huggingface_hub.constants):
        monkeypatch.setattr(switch, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", "http://127.0.0.1:9")
    start = time.monotonic()
    assert "no network" in failure(idx.fashion_mnist)
    assert time.monotonic() - start < 10
    assert not datasets.config.HF_HUB_OFFLINE  # as it was
    assert not huggingface_hub.constants.HF_HUB_OFFLINE


def test_a_missing_library_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "datasets", None)
    message = failure(idx.mnist)
    assert "'ylecun/mnist' is on the Hugging Face hub: reading from there needs pip install 'flatwide[hub]'" in message
    assert "train-images-idx3-ubyte" in message


@pytest.mark.parametrize(
    ("labels", "source", "shape", "message"),
    [
        (None, {"inputs": "img"}, (28, 28, 1), "split 'train': has no column img; its columns are image, label."),
        (None, {"test": "validation"}, (28, 28, 1), 'Unknown split "validation"'),
        (None, {"inputs": "label", "targets": "label"}, (28, 28, 1), "the column 'label' holds ClassLabel"),
        (None, {"targets": "image"}, (28, 28, 1), "the column 'image' holds Image"),
        (None, {}, (32, 32, 1), "split 'train', row 0: an image of 28 x 28 x 1; expected 32 x 32 x 1."),
        ([-1] * 4, {}, (28, 28, 1), "split 'test': labels from -1 to -1; expected classes in [0, 10)"),  # hidden ones
    ],
)
def test_what_does_not_fit_is_named(tmp_path, labels, source, shape, message):
    folder, _, _ = digits_like(tmp_path / "repository", labels=labels and {"train": [0] * 9, "test": labels})
    source = hub.Images(str(folder), **source)
    assert message in failure(hub.load_images, source, shape=shape, num_classes=10, **OPTIONS)


def test_a_damaged_table_is_named(tmp_path):
    folder, _, _ = digits_like(tmp_path / "repository")
    path = folder / "data" / "train-00000-of-00001.parquet"
    path.write_bytes(path.read_bytes()[:50])
    assert str(folder) in failure(hub.load_images, hub.Images(str(folder)), **GRAY)
