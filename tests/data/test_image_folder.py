"""ImageNet's layout, on a tree of a dozen small images."""

import shutil
from pathlib import Path

import cv2
import jax
import numpy as np
import pytest
import simplejpeg
from numpy.testing import assert_allclose, assert_array_equal

from flatwide.data import DataError, Streamed, add_label_noise, image_folder, subset

CLASSES = ("ant", "bee", "cat")


def picture(shade: int) -> np.ndarray:
    """One shade, so that any part of it tells which image it is from; wide enough that nothing is upside down."""
    return np.full((40, 60, 3), shade, np.uint8)


def write(path: Path, image: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix.lower() == ".png":
        cv2.imwrite(str(path), image[..., ::-1])
    else:
        path.write_bytes(simplejpeg.encode_jpeg(image, quality=95))


@pytest.fixture
def root(tmp_path) -> Path:
    """Twelve training images of shades 0, 10, …, three a class and suffix, and three for evaluation."""
    for number in range(12):
        suffix = (".JPEG", ".jpg", ".png", ".Jpeg")[number % 4]
        write(tmp_path / "train" / CLASSES[number // 4] / f"{number:02}{suffix}", picture(number * 10))
    for number, name in enumerate(CLASSES):
        write(tmp_path / "val" / name / f"{number}.JPEG", picture(200 + number))
    (tmp_path / "train" / "ant" / "notes.txt").write_text("no image")
    (tmp_path / "train" / "ant" / "._00.JPEG").write_text("what macOS leaves behind")
    (tmp_path / "train" / ".cache").mkdir()
    return tmp_path


def first_batch(split, *, size: int = 12, train: bool = True, seed: int = 0, epoch: int = 0):
    order = np.arange(split.num_examples)
    return next(split.batches(size, order=order, seed=seed, epoch=epoch, train=train))


def shades(batch) -> np.ndarray:
    return batch["inputs"][:, 112, 112, 0]


def test_images_and_classes_are_in_the_order_of_their_names(root):
    dataset = image_folder.imagenet2012(data_dir=str(root))
    assert isinstance(dataset.train, Streamed)
    assert dataset.num_outputs == 3
    batch = first_batch(dataset.train)
    assert batch["inputs"].shape == (12, 224, 224, 3)
    assert batch["inputs"].dtype == np.uint8
    assert_allclose(shades(batch), np.arange(12) * 10, atol=1)
    assert_array_equal(batch["targets"], np.repeat([0, 1, 2], 4))
    assert_allclose(shades(first_batch(dataset.test)), [200, 201, 202], atol=1)


def test_pixels_are_normalized_by_imagenets_numbers(root):
    dataset = image_folder.imagenet2012(data_dir=str(root))
    batch = first_batch(dataset.train)
    inputs = dataset.prepare(batch, jax.random.key(0), train=True)["inputs"]
    assert (inputs.shape[1:], inputs.dtype) == (dataset.example.shape, dataset.example.dtype)
    mean, std = np.array([0.485, 0.456, 0.406]) * 255, np.array([0.229, 0.224, 0.225]) * 255
    assert_allclose(inputs, (batch["inputs"] - mean) / std, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", ["validation", "test"])
@pytest.mark.parametrize("folder", ["imagenet2012", "."])
def test_other_names_of_the_folders(root, tmp_path, name, folder):
    data_dir = tmp_path / "elsewhere"
    (data_dir / folder).mkdir(parents=True)
    (root / "train").rename(data_dir / folder / "train")
    (root / "val").rename(data_dir / folder / name)
    assert image_folder.imagenet2012(data_dir=str(data_dir)).test.num_examples == 3


def random_image(root: Path) -> np.ndarray:
    """Put a textured image into the tree, on which every crop looks different."""
    image = np.random.default_rng(0).integers(0, 256, (300, 400, 3), dtype=np.uint8)
    write(root / "train" / "ant" / "00.JPEG", cv2.blur(image, (5, 5)))
    return image


def test_crops_depend_on_seed_epoch_and_image_only(root):
    random_image(root)
    alone = first_batch(image_folder.imagenet2012(data_dir=str(root), threads=1).train)["inputs"]
    dataset = image_folder.imagenet2012(data_dir=str(root), threads=3)
    assert_array_equal(first_batch(dataset.train)["inputs"], alone)
    part = dataset.train.take(np.array([5, 0]))
    assert_array_equal(first_batch(part)["inputs"], alone[[5, 0]])
    assert (first_batch(dataset.train, epoch=1)["inputs"][0] != alone[0]).any()
    assert (first_batch(dataset.train, seed=1)["inputs"][0] != alone[0]).any()


def test_evaluation_and_no_augmentation_keep_the_centre(root):
    random_image(root)
    dataset = image_folder.imagenet2012(data_dir=str(root))
    centre = first_batch(dataset.train, train=False)["inputs"]
    assert_array_equal(first_batch(dataset.train, train=False, epoch=5)["inputs"], centre)
    plain = image_folder.imagenet2012(data_dir=str(root), augment=False)
    assert_array_equal(first_batch(plain.train, train=True)["inputs"], centre)
    assert (first_batch(dataset.train, train=True)["inputs"][0] != centre[0]).any()


def test_noisy_labels_leave_the_images_where_they_are(root):
    train = image_folder.imagenet2012(data_dir=str(root)).train
    noisy = add_label_noise(train, 1.0, num_classes=3, seed=0)
    batch = first_batch(noisy)
    assert_allclose(shades(batch), np.arange(12) * 10, atol=1)
    assert (batch["targets"] != np.repeat([0, 1, 2], 4)).all()
    part = subset(noisy, 5, seed=0)
    assert_array_equal(part.targets, noisy.targets[np.rint(shades(first_batch(part)) / 10).astype(int)])


def test_the_cache_keeps_what_was_read(root):
    cached, plain = (image_folder.imagenet2012(data_dir=str(root), cache=on).train for on in (True, False))
    before = first_batch(cached)["inputs"]
    for path in (root / "train").glob("*/*.*"):
        path.unlink()
    assert_array_equal(first_batch(cached)["inputs"], before)
    with pytest.raises(DataError, match=r"train/ant/00.JPEG: cannot be read \(No such file or directory\)"):
        first_batch(plain)


def test_the_fingerprint_follows_names_and_sizes(root, tmp_path):
    seen = {image_folder.imagenet2012(data_dir=str(root)).fingerprint}
    assert image_folder.imagenet2012(data_dir=str(root), augment=False, cache=True, threads=2).fingerprint in seen
    path = root / "train" / "bee" / "04.JPEG"
    for change in (
        lambda: path.write_bytes(path.read_bytes() + b"\0"),
        lambda: path.rename(path.with_name("14.JPEG")),
        lambda: path.with_name("14.JPEG").rename(root / "train" / "cat" / "04.JPEG"),
        lambda: write(root / "val" / "cat" / "9.JPEG", picture(9)),
    ):
        change()
        seen.add(image_folder.imagenet2012(data_dir=str(root)).fingerprint)
    assert len(seen) == 5


def test_a_broken_image_is_named_when_it_is_read(root):
    path = root / "train" / "bee" / "05.jpg"
    path.write_bytes(path.read_bytes()[:300])
    train = image_folder.imagenet2012(data_dir=str(root)).train
    batches = train.batches(4, order=np.arange(12), seed=0, epoch=0, train=True)
    next(batches)  # the first four are whole
    with pytest.raises(DataError, match=r"train/bee/05.jpg: broken image"):
        next(batches)


def remove(path: Path) -> None:
    shutil.rmtree(path)


def remove_both(root: Path) -> None:
    for name in ("train", "val"):
        remove(root / name)


def empty(path: Path) -> None:
    remove(path)
    path.mkdir()


def without_classes(path: Path) -> None:
    empty(path)
    write(path / "ILSVRC2012_val_00000001.JPEG", picture(0))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda root: remove(root / "val"), r"config.data_dir='.*': .* has no folder 'val'; expected train/<class>/\*"),
        (remove_both, r"has no folder 'train'; expected train/<class>/\*.JPEG"),
        (remove, "there is no such folder"),
        (lambda root: empty(root / "val"), r"val: has no class folders; expected val/<class>/\*.JPEG"),
        (lambda root: without_classes(root / "val"), "val: has images that are in no class folder; expected val/<clas"),
        (lambda root: (root / "train" / "dog").mkdir(), "train: 1 of 4 class folders have no images, such as 'dog'"),
        (
            lambda root: write(root / "val" / "dog" / "0.png", picture(0)),
            r"train has 3 classes and val 4; expected the same ones. .*: dog",
        ),
        (
            lambda root: (root / "train" / "ant" / "gone.jpg").symlink_to(root / "nowhere.jpg"),
            r"gone.jpg: cannot be read \(No such file or directory\)",
        ),
    ],
)
def test_what_is_wrong_with_a_tree_is_named(root, change, message):
    change(root)
    with pytest.raises(DataError, match=message):
        image_folder.imagenet2012(data_dir=str(root))


def test_an_own_tree_needs_a_folder():
    with pytest.raises(DataError, match=r"config.data_dir=None: expected a folder with train/<class>"):
        image_folder.image_folder()
