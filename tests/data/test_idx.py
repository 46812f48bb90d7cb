"""MNIST and Fashion-MNIST from IDX files, written here byte by byte."""

import gzip
import struct
import tracemalloc
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from flatwide.data import DataError, files, idx

RANDOM = np.random.default_rng(0)
IMAGES = {"train": RANDOM.integers(0, 256, (12, 28, 28), dtype=np.uint8)}
IMAGES["t10k"] = RANDOM.integers(0, 256, (5, 28, 28), dtype=np.uint8)
LABELS = {"train": np.arange(12) % 10, "t10k": np.arange(5) + 5}


def encoded(array: np.ndarray) -> bytes:
    return struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape) + array.astype(np.uint8).tobytes()


def write(folder: Path, *, dot: bool = False, gzipped: bool = False, images=IMAGES, labels=LABELS) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for part in ("train", "t10k"):
        for kind, arrays, axes in (("images", images, 3), ("labels", labels, 1)):
            name = f"{part}-{kind}{'.' if dot else '-'}idx{axes}-ubyte"
            content = encoded(arrays[part])
            (folder / f"{name}{'.gz' * gzipped}").write_bytes(gzip.compress(content) if gzipped else content)
    return folder


@pytest.mark.parametrize("gzipped", [False, True])
@pytest.mark.parametrize("dot", [False, True])
@pytest.mark.parametrize("load", [idx.mnist, idx.fashion_mnist])
def test_every_spelling_of_the_files_is_read(tmp_path, load, dot, gzipped):
    dataset = load(data_dir=str(write(tmp_path, dot=dot, gzipped=gzipped)))
    for part, split in (("train", dataset.train), ("t10k", dataset.test)):
        assert_array_equal(split.arrays["inputs"], IMAGES[part][..., None])
        assert_array_equal(split.targets, LABELS[part])
        assert split.arrays["inputs"].dtype == np.uint8
        assert split.targets.dtype == np.int32


def test_pixels_are_divided_by_255(tmp_path):
    dataset = idx.mnist(data_dir=str(write(tmp_path)))
    batch = next(dataset.train.batches(4, order=np.arange(12), seed=0, epoch=0, train=True))
    inputs = dataset.prepare(batch, None, train=True)["inputs"]
    assert (inputs.shape[1:], inputs.dtype) == (dataset.example.shape, dataset.example.dtype)
    assert (inputs.shape[1:], inputs.dtype) == ((28, 28, 1), jnp.float32)
    assert_allclose(inputs[..., 0], IMAGES["train"][:4] / 255, rtol=1e-6)


@pytest.mark.parametrize(
    ("load", "folder"),
    [
        (idx.mnist, "mnist"),
        (idx.mnist, "MNIST/raw"),
        (idx.fashion_mnist, "fashion_mnist"),
        (idx.fashion_mnist, "FashionMNIST/raw"),
    ],
)
def test_a_folder_of_its_name_comes_first(tmp_path, load, folder):
    write(tmp_path, labels={"train": LABELS["train"][::-1], "t10k": LABELS["t10k"]})  # another data set's, say
    write(tmp_path / folder)
    assert_array_equal(load(data_dir=str(tmp_path)).train.targets, LABELS["train"])


def test_a_gzipped_file_is_known_by_its_content(tmp_path):
    write(tmp_path)
    path = tmp_path / "train-labels-idx1-ubyte"
    path.write_bytes(gzip.compress(path.read_bytes()))
    assert_array_equal(idx.mnist(data_dir=str(tmp_path)).train.targets, LABELS["train"])


def test_the_fingerprint_is_of_content_not_of_files(tmp_path):
    first = idx.mnist(data_dir=str(write(tmp_path / "a")))
    assert idx.mnist(data_dir=str(write(tmp_path / "b", gzipped=True))).fingerprint == first.fingerprint
    other = {**LABELS, "t10k": LABELS["t10k"][::-1]}
    assert idx.mnist(data_dir=str(write(tmp_path / "c", labels=other))).fingerprint != first.fingerprint


def test_a_missing_folder_is_named(tmp_path):
    with pytest.raises(DataError, match=r"config.data_dir='.*/nowhere': there is no such folder"):
        idx.mnist(data_dir=str(tmp_path / "nowhere"))


def test_missing_files_are_named(tmp_path):
    (write(tmp_path / "mnist") / "t10k-labels-idx1-ubyte").unlink()
    with pytest.raises(DataError) as caught:
        idx.mnist(data_dir=str(tmp_path))
    message = str(caught.value)
    assert f"{tmp_path / 'mnist'} has no t10k-labels-idx1-ubyte; expected the four files of mnist" in message
    assert all(name in message for name in idx.NAMES)


def rewrite(path: Path, change) -> None:
    """Replace a file's content by a function of it."""
    path.write_bytes(change(path.read_bytes()))


IMAGES_FILE, LABELS_FILE = "train-images-idx3-ubyte", "train-labels-idx1-ubyte"


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        (IMAGES_FILE, lambda c: c[:-1], "9,423 bytes (uncompressed); expected 9,424 for the shape 12 x 28 x 28"),
        (IMAGES_FILE, lambda c: c + b"\0", "more bytes (uncompressed); expected 9,424"),
        (IMAGES_FILE, lambda c: c[:10], "10 bytes; expected a header of 16"),
        (IMAGES_FILE, lambda c: b"", "starts with bytes (none); expected 00 00 08 03"),
        (IMAGES_FILE, lambda c: b"<htm" + c[4:], "starts with bytes 3c 68 74 6d; expected 00 00 08 03"),
        (IMAGES_FILE, lambda c: b"\0\0\x0d\x03" + c[4:], "00 00 0d 03; expected 00 00 08 03"),
        (LABELS_FILE, lambda c: encoded(IMAGES["train"]), "00 00 08 03; expected 00 00 08 01"),
        (IMAGES_FILE, lambda c: encoded(IMAGES["train"][:, :27]), "images of 27 x 28 pixels; expected 28 x 28"),
        (IMAGES_FILE, lambda c: encoded(IMAGES["train"][:0]), "has no images"),
        (LABELS_FILE, lambda c: encoded(LABELS["train"][:11]), "11 labels; expected 12, as many as"),
        (LABELS_FILE, lambda c: encoded(LABELS["train"] + 1), "has a label 10; expected labels from 0 to 9"),
    ],
)
def test_damage_is_described(tmp_path, name, change, message):
    rewrite(write(tmp_path) / name, change)
    with pytest.raises(DataError) as caught:
        idx.mnist(data_dir=str(tmp_path))
    assert str(caught.value).startswith(f"{tmp_path / name}: ")
    assert message in str(caught.value)


CUT, CHANGED, WRONG_LENGTH = (lambda c: c[:-9]), (lambda c: c[:40] + b"\xff" + c[41:]), (lambda c: c[:-4] + bytes(4))


@pytest.mark.parametrize("change", [CUT, CHANGED, WRONG_LENGTH])
def test_a_damaged_gzip_file_is_named(tmp_path, change):
    rewrite(write(tmp_path, gzipped=True) / f"{IMAGES_FILE}.gz", change)
    with pytest.raises(DataError, match=rf"{IMAGES_FILE}.gz: damaged gzip file \(.*\); expected a whole one"):
        idx.mnist(data_dir=str(tmp_path))


def test_an_unreadable_file_is_named(tmp_path, monkeypatch):
    def refuse(path, mode):
        raise PermissionError(13, "Permission denied")

    write(tmp_path)
    monkeypatch.setattr(files, "open", refuse, raising=False)
    with pytest.raises(DataError, match=rf"{IMAGES_FILE}: cannot be read \(Permission denied\)"):
        idx.mnist(data_dir=str(tmp_path))


def test_no_more_is_unpacked_than_the_header_promises(tmp_path):
    folder = write(tmp_path / "mnist", gzipped=True)
    path = folder / f"{IMAGES_FILE}.gz"
    bomb = gzip.compress(encoded(IMAGES["train"])) + gzip.compress(bytes(2**28), 9)
    path.write_bytes(bomb)
    tracemalloc.start()
    with pytest.raises(DataError, match=r"more bytes \(uncompressed\); expected 9,424 for the shape 12 x 28 x 28"):
        idx.mnist(data_dir=str(tmp_path))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 2**24
    path.write_bytes(struct.pack(">BBBB3I", 0, 0, 8, 3, 2**32 - 1, 28, 28))
    with pytest.raises(DataError, match=r"its header says 4294967295 x 28 x 28, 3,367 GB and more than the memory"):
        idx.mnist(data_dir=str(tmp_path))


def test_a_file_without_a_promise_stops_at_a_quarter_of_the_memory(tmp_path, monkeypatch):
    monkeypatch.setattr(files.machine, "memory", lambda: 4 * 10**6)
    path = tmp_path / "table.csv.gz"
    path.write_bytes(gzip.compress(bytes(10**6)))
    assert files.read(path) == bytes(10**6)
    path.write_bytes(gzip.compress(bytes(2**26), 9))
    with pytest.raises(DataError, match=r"table.csv.gz: more than 0.0 GB \(uncompressed\), a quarter of this"):
        files.read(path)
