"""Synthetic data with the shapes of the real sets, for benchmarks: time does not depend on pixel values."""

from pathlib import Path

import numpy as np

# A step on images as the paper's CIFAR runs take it.
IMAGE_STEP = {
    "dataset": f"{Path(__file__).resolve()}:small_images",
    "batch_size": 128,
    "rho": 0.1,
    "learning_rate": 0.1,
    "lr_scheduler": "constant",
    "momentum": 0.9,
    "weight_decay": 5e-4,
}


def mnist_like():
    """Make 60,000 training and 10,000 test images of random pixels."""
    generator = np.random.default_rng(0)
    splits = [generator.integers(0, 256, (count, 28, 28, 1), np.uint8) for count in (60_000, 10_000)]
    return _dataset(splits, generator)


def small_images():
    """Make four batches of colour images that need no preparation."""
    generator = np.random.default_rng(0)
    splits = [generator.standard_normal((count, 32, 32, 3), np.float32) for count in (4 * 128, 128)]
    return _dataset(splits, generator)


def _dataset(splits: list[np.ndarray], generator: np.random.Generator):
    import jax

    from flatwide.data import Resident
    from flatwide.data.pixels import scaling
    from flatwide.types import Dataset

    train, test = (
        Resident({"inputs": images, "targets": generator.integers(0, 10, len(images)).astype(np.int32)})
        for images in splits
    )
    example = jax.ShapeDtypeStruct(splits[0].shape[1:], jax.dtypes.canonicalize_dtype(float))
    return Dataset(
        train=train,
        test=test,
        prepare=scaling(largest=255.0),
        example=example,
        num_outputs=10,
        fingerprint="made",
    )
