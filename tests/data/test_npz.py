"""A user's own arrays as a data set: what is read, what it becomes, and what is refused."""

import jax
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from flatwide.data import DataError
from flatwide.data.npz import npz

INPUTS, CLASSES = np.arange(120).reshape(40, 3), np.arange(40) % 3


@pytest.fixture
def save(tmp_path):
    """Save arrays in a file, and give its path."""

    def save(**arrays):
        np.savez(tmp_path / "mine.npz", **arrays)
        return str(tmp_path / "mine.npz")

    return save


def prepared(dataset, split):
    batch = next(split.batches(split.num_examples, order=np.arange(split.num_examples), seed=0, epoch=0, train=False))
    return jax.jit(dataset.prepare, static_argnames="train")(batch, None, train=False)


def test_every_tenth_example_is_a_test_example(save, tmp_path):
    dataset = npz(data_dir=save(inputs=INPUTS, targets=CLASSES))
    is_test = np.arange(40) % 10 == 9
    for split, chosen in ((dataset.train, ~is_test), (dataset.test, is_test)):
        assert_array_equal(prepared(dataset, split)["inputs"], INPUTS[chosen])
        assert_array_equal(prepared(dataset, split)["targets"], CLASSES[chosen])
    assert (dataset.example.shape, dataset.num_outputs, dataset.has_real_targets) == ((3,), 3, False)
    assert npz(data_dir=str(tmp_path)).fingerprint == dataset.fingerprint
    assert npz(data_dir=save(inputs=INPUTS + 1, targets=CLASSES)).fingerprint != dataset.fingerprint


def test_test_arrays_are_the_test_split_and_bytes_are_scaled(save):
    images = np.full((2, 4, 4, 1), 51, np.uint8)
    tests = {"test_inputs": images, "test_targets": np.array([1, 3])}
    dataset = npz(data_dir=save(inputs=np.repeat(images, 10, axis=0), targets=np.arange(20) % 2, **tests, other="x"))
    assert (dataset.train.num_examples, dataset.test.num_examples, dataset.num_outputs) == (20, 2, 4)
    assert_allclose(prepared(dataset, dataset.test)["inputs"], 0.2, rtol=1e-6)  # 51 / 255 in 32 bits


@pytest.mark.parametrize("shape", [(40,), (40, 1), (40, 2)])
def test_floats_are_real_targets(save, shape):
    dataset = npz(data_dir=save(inputs=INPUTS / 7, targets=np.linspace(0, 1, np.prod(shape)).reshape(shape)))
    assert dataset.has_real_targets
    assert dataset.num_outputs == (shape[1] if len(shape) == 2 else 1)
    assert dataset.train.targets.shape == (36, dataset.num_outputs)


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"x": INPUTS}, r"has the arrays x; expected an \.npz file with inputs \[N, \.\.\.\]"),
        ({"inputs": INPUTS, "targets": CLASSES, "test_inputs": INPUTS}, "has the arrays inputs, targets, test_inputs;"),
        ({"inputs": INPUTS[:9], "targets": CLASSES}, "9 inputs and 40 targets; expected as many, and one at least"),
        (
            {"inputs": INPUTS[:9], "targets": CLASSES[:9]},
            "9 inputs; expected 10 at least, every",
        ),
        ({"inputs": np.where(INPUTS == 5, np.nan, 0), "targets": CLASSES}, "inputs has an entry that is not finite"),
        ({"inputs": INPUTS.astype(str), "targets": CLASSES}, r"inputs is <U21\[40, 3\]; expected an"),
        ({"inputs": INPUTS.astype(object), "targets": CLASSES}, r"cannot be read \(Object arrays cannot be loaded"),
        ({"inputs": INPUTS, "targets": CLASSES - 1}, "targets are classes -1 to 1; expected classes from 0"),
        (
            {"inputs": INPUTS, "targets": CLASSES + 1990},
            "class 1992 with 36 training examples; expected classes from 0",
        ),
        ({"inputs": INPUTS, "targets": CLASSES[:, None]}, r"targets is int64\[40, 1\]; expected"),
        (
            {"inputs": INPUTS, "targets": CLASSES, "test_inputs": INPUTS[:, :2], "test_targets": CLASSES},
            "test examples have other shapes or targets",
        ),
    ],
)
def test_what_cannot_be_read_is_told(save, arrays, message):
    with pytest.raises(DataError, match=f"mine.npz: {message}"):
        npz(data_dir=save(**arrays))


def test_a_file_that_is_not_there_or_none_is_told(tmp_path):
    with pytest.raises(DataError, match=r"config\.data_dir=None: expected an \.npz file"):
        npz()
    with pytest.raises(DataError, match=r"\.npz files \[\]; expected one"):
        npz(data_dir=str(tmp_path))
    (tmp_path / "mine.npz").write_bytes(b"\x80\x04N.")  # a pickle
    with pytest.raises(DataError, match=r"cannot be read \(File is not a zip file"):
        npz(data_dir=str(tmp_path))
