"""The embedded digits, against scikit-learn's own reader."""

import importlib.util
import subprocess
import sys

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from flatwide.data import DataError
from flatwide.data.digits import digits


def test_the_same_digits_as_scikit_learn_reads():
    from sklearn.datasets import load_digits

    scikit_learn_digits = load_digits()
    rows = np.column_stack([scikit_learn_digits.data.astype(np.uint8), scikit_learn_digits.target])
    splits = [
        np.column_stack([split.arrays["inputs"].reshape(-1, 64), split.targets])
        for split in (digits().train, digits().test)
    ]
    assert_array_equal(np.unique(np.concatenate(splits), axis=0), np.unique(rows, axis=0))
    assert sum(map(len, splits)) == len(rows) == 1797


def test_every_fifth_example_of_a_class_is_a_test_example():
    dataset = digits()
    in_train, in_test = np.bincount(dataset.train.targets), np.bincount(dataset.test.targets)
    assert_array_equal(in_test, (in_train + in_test) // 5)
    # The first five zeros of the file are its rows 0, 10, 20, 30 and 36.
    from sklearn.datasets import load_digits

    assert_array_equal(np.flatnonzero(load_digits().target == 0)[4], 36)
    first_zero = np.flatnonzero(dataset.test.targets == 0)[0]
    assert_array_equal(dataset.test.arrays["inputs"][first_zero, :, :, 0], load_digits().images[36])


def test_images_and_their_scale():
    dataset = digits()
    assert dataset.example.shape == (8, 8, 1)
    assert dataset.num_outputs == 10
    images = dataset.train.arrays["inputs"]
    assert images.dtype == np.uint8
    assert images.max() == 16
    inputs = dataset.prepare({"inputs": images, "targets": dataset.train.targets}, None, train=True)["inputs"]
    assert inputs.dtype == dataset.example.dtype
    assert_array_equal(inputs, images / 16)  # exact in binary


def test_fingerprint_is_that_of_the_content():
    assert digits().fingerprint == digits().fingerprint
    assert len(digits().fingerprint) == 64


def test_scikit_learn_is_not_imported():
    script = "import sys\nfrom flatwide.data.digits import digits\ndigits()\nprint('sklearn' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


def test_without_scikit_learn_the_message_says_so(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(DataError, match=r"config.dataset='digits': scikit-learn, .* is not installed"):
        digits()
