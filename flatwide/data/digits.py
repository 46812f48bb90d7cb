"""Handwritten digits, 8 x 8 pixels, that ship inside scikit-learn: the one data set that needs no download."""

import importlib.util
import io
from pathlib import Path

import numpy as np

from flatwide.data import files, pixels
from flatwide.data.splits import Resident, dataset
from flatwide.types import Dataset

NUM_CLASSES = 10
LARGEST = 16  # a pixel counts the dark ones among 4 x 4 of the scan
EVERY = 5  # the fifth, tenth, ... example of each class is a test example


def digits() -> Dataset:
    """Load the 1,797 digits, of which the fifth part of each class, the same at every seed, is the test split.

    Raises: DataError if scikit-learn's file of digits is not there.
    Source: Alpaydin and Kaynak (1998), Optical Recognition of Handwritten Digits, its test part.
    """
    table = np.loadtxt(io.BytesIO(files.read(_path())), delimiter=",", dtype=np.uint8)
    images, labels = table[:, :-1].reshape(-1, 8, 8, 1), table[:, -1].astype(np.int32)
    is_test = np.zeros(len(labels), bool)
    for label in range(NUM_CLASSES):  # without a random draw, which a later NumPy could make differently
        is_test[np.flatnonzero(labels == label)[EVERY - 1 :: EVERY]] = True
    train, test = (Resident({"inputs": images[rows], "targets": labels[rows]}) for rows in (~is_test, is_test))
    return dataset(train, test, prepare=pixels.scaling(largest=LARGEST), num_outputs=NUM_CLASSES)


def _path() -> Path:
    # Its file only: importing scikit-learn takes a second.
    spec = importlib.util.find_spec("sklearn")
    if spec is None or spec.origin is None:
        raise files.DataError("config.dataset='digits': scikit-learn, whose wheel holds the digits, is not installed.")
    return Path(spec.origin).parent / "datasets" / "data" / "digits.csv.gz"
