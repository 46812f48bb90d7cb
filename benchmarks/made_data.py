"""Made data with the shapes of the real sets, for benchmarks: time does not depend on what the pixels show."""

import numpy as np

from flatwide.data import Resident
from flatwide.data.pixels import scaling
from flatwide.types import Dataset


def mnist_like() -> Dataset:
    """Make 60,000 training and 10,000 test images of random pixels."""
    import jax

    generator = np.random.default_rng(0)

    def split(count):
        return Resident(
            {
                "inputs": generator.integers(0, 256, (count, 28, 28, 1), np.uint8),
                "targets": generator.integers(0, 10, count).astype(np.int32),
            }
        )

    example = jax.ShapeDtypeStruct((28, 28, 1), jax.dtypes.canonicalize_dtype(float))
    return Dataset(split(60_000), split(10_000), scaling(largest=255.0), example, 10, "made")
