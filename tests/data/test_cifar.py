"""CIFAR-10 and CIFAR-100 from small files in their binary format."""

import gzip
import shutil
import tarfile
from pathlib import Path

import jax
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from flatwide.data import DataError, cifar

BATCHES = [f"data_batch_{i}.bin" for i in range(1, 6)]
PER_FILE = 4


def pixel(record: int, channel: int, row: int, column: int) -> int:
    """Return a pixel value that depends on record, channel, row and column."""
    return (record * 7 + channel * 101 + row * 3 + column * 5) % 256


def record(number: int, labels: list[int]) -> bytes:
    planes = [pixel(number, c, y, x) for c in range(3) for y in range(32) for x in range(32)]
    return bytes(labels) + bytes(planes)


def write_cifar10(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for file, name in enumerate([*BATCHES, "test_batch.bin"]):
        numbers = range(file * PER_FILE, (file + 1) * PER_FILE)
        (folder / name).write_bytes(b"".join(record(n, [n % 10]) for n in numbers))
    return folder


def write_cifar100(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "train.bin").write_bytes(b"".join(record(n, [n % 20, n + 90]) for n in range(10)))
    (folder / "test.bin").write_bytes(b"".join(record(n, [1, n]) for n in range(10, 13)))
    return folder


@pytest.mark.parametrize("folder", [".", "cifar-10-batches-bin", "cifar10", "cifar10/cifar-10-batches-bin"])
def test_cifar10_is_found_and_read(tmp_path, folder):
    write_cifar10(tmp_path / folder)
    dataset = cifar.cifar10(data_dir=str(tmp_path))
    train, test = dataset.train, dataset.test
    assert (train.num_examples, test.num_examples, dataset.num_outputs) == (20, 4, 10)
    assert_array_equal(train.targets, np.arange(20) % 10)
    assert_array_equal(test.targets, np.arange(20, 24) % 10)
    assert (train.targets.dtype, train.arrays["inputs"].dtype) == (np.int32, np.uint8)
    for number, channel, row, column in [(0, 0, 0, 0), (7, 1, 30, 2), (19, 2, 31, 31)]:
        assert train.arrays["inputs"][number, row, column, channel] == pixel(number, channel, row, column)
    assert test.arrays["inputs"][3, 5, 6, 2] == pixel(23, 2, 5, 6)


def test_cifar100_learns_the_fine_labels(tmp_path):
    dataset = cifar.cifar100(data_dir=str(write_cifar100(tmp_path / "cifar-100-binary").parent))
    assert_array_equal(dataset.train.targets, np.arange(90, 100))
    assert_array_equal(dataset.test.targets, [10, 11, 12])
    assert dataset.num_outputs == 100
    assert dataset.train.arrays["inputs"][9, 31, 0, 1] == pixel(9, 1, 31, 0)


def archived(tmp_path: Path) -> Path:
    inside = write_cifar10(tmp_path / "build" / "cifar-10-batches-bin")
    (inside / "readme.html").write_text("not read")
    with tarfile.open(tmp_path / "cifar-10-binary.tar.gz", "w:gz") as tar:
        tar.add(inside, arcname=inside.name)
    shutil.rmtree(tmp_path / "build")
    return tmp_path / "cifar-10-binary.tar.gz"


def test_the_archive_itself_is_read(tmp_path):
    archive = archived(tmp_path)
    expected = cifar.cifar10(data_dir=str(write_cifar10(tmp_path / "unpacked")))
    dataset = cifar.cifar10(data_dir=str(archive.parent))
    assert_array_equal(dataset.train.arrays["inputs"], expected.train.arrays["inputs"])
    assert dataset.fingerprint == expected.fingerprint


def test_a_damaged_archive_is_named(tmp_path):
    archive = archived(tmp_path)
    archive.write_bytes(archive.read_bytes()[:2000])
    with pytest.raises(DataError, match=r"cifar-10-binary.tar.gz: damaged archive \(.*\); expected one whole"):
        cifar.cifar10(data_dir=str(tmp_path))


def test_an_archive_without_a_file_is_named(tmp_path):
    with tarfile.open(tmp_path / "cifar-10-binary.tar.gz", "w:gz") as tar:
        tar.add(write_cifar10(tmp_path / "elsewhere") / BATCHES[0], arcname=f"x/{BATCHES[0]}")
    with pytest.raises(DataError, match=r"binary.tar.gz: has no data_batch_2.bin, .*no test_batch.bin; expected"):
        cifar.cifar10(data_dir=str(tmp_path))


def test_missing_files_are_named(tmp_path):
    (write_cifar10(tmp_path) / "data_batch_3.bin").unlink()
    with pytest.raises(DataError) as caught:
        cifar.cifar10(data_dir=str(tmp_path))
    assert f"{tmp_path} has no data_batch_3.bin; expected the files of the binary version" in str(caught.value)
    assert "cifar-10-batches-bin, or their archive cifar-10-binary.tar.gz" in str(caught.value)
    assert "Python version" not in str(caught.value)


@pytest.mark.parametrize("there", ["cifar-10-batches-py", "data_batch_1"])
def test_the_pickled_version_is_recognized(tmp_path, there):
    (tmp_path / there).mkdir()
    with pytest.raises(DataError, match="which is pickled and never read; get the binary version"):
        cifar.cifar10(data_dir=str(tmp_path))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda content: content[:-1],
            r"5.bin: 12,291 bytes; expected a multiple of 3,073.*30,730,000 bytes in cifar10",
        ),
        (lambda content: b"", r"data_batch_5.bin: 0 bytes; expected a multiple of 3,073"),
        (lambda content: record(0, [10]) + content[3073:], r"bin: has a label 10; expected labels from 0 to 9"),
        # A file larger than published is refused before it is read whole.
        (
            lambda content: gzip.compress(bytes(10_001 * 3073)),
            r"5.bin: more than 30,730,000 bytes; expected at most",
        ),
    ],
)
def test_a_damaged_file_is_described(tmp_path, change, message):
    path = write_cifar10(tmp_path) / "data_batch_5.bin"
    path.write_bytes(change(path.read_bytes()))
    with pytest.raises(DataError, match=message):
        cifar.cifar10(data_dir=str(tmp_path))


def test_a_file_cut_between_images_is_noticed_beside_whole_ones(tmp_path):
    # A published file cut in half has 5,000 whole images: only its neighbours give it away.
    whole = cifar.CIFAR10._replace(images_a_file=dict.fromkeys((*BATCHES, "test_batch.bin"), PER_FILE))
    path = write_cifar10(tmp_path) / "test_batch.bin"
    cifar.load(whole, data_dir=str(tmp_path))
    path.write_bytes(path.read_bytes()[: 2 * 3073])
    with pytest.raises(DataError, match=r"test_batch.bin: 2 images; expected 4, since other files have the size"):
        cifar.load(whole, data_dir=str(tmp_path))


def test_images_are_normalized_and_augmented_in_training_only(tmp_path):
    dataset = cifar.cifar10(data_dir=str(write_cifar10(tmp_path)))
    plain = cifar.cifar10(data_dir=str(tmp_path), augment=False)
    batch = next(dataset.train.batches(8, order=np.arange(8), seed=0, epoch=0, train=True))
    key = jax.random.key(0)
    tested = dataset.prepare(batch, None, train=False)["inputs"]
    assert (tested.shape[1:], tested.dtype) == (dataset.example.shape, dataset.example.dtype)
    # The authors' constants, in pixels, as their code has them.
    mean, std = np.array([0.4914, 0.4822, 0.4465]) * 255, np.array([0.2023, 0.1994, 0.2010]) * 255
    assert_allclose(tested, (batch["inputs"] - mean) / std, rtol=1e-5, atol=1e-6)
    assert_array_equal(plain.prepare(batch, key, train=True)["inputs"], tested)
    assert (dataset.prepare(batch, key, train=True)["inputs"] != tested).any()
