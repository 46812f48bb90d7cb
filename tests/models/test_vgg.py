"""VGG-11 against plain NumPy loops in float64, its parameters, and what it does with small images."""

import jax
import numpy as np
import pytest
from numpy.testing import assert_allclose

from flatwide.models.vgg import vgg11

GROUPS = ((1,), (2,), (3, 4), (5, 6), (7, 8))  # the numbers of the convolutions between pools


def image(*shape):
    return jax.ShapeDtypeStruct(shape, np.float32)


def convolve(images, kernel, bias):
    padded = np.pad(images, ((0, 0), (1, 1), (1, 1), (0, 0)))
    views = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), axis=(1, 2))  # [B, H, W, C, 3, 3]
    return np.einsum("bhwcij,ijcf->bhwf", views, kernel) + bias


def pool(images):
    _, height, width, _ = images.shape
    rows, columns = max(height // 2, 1), max(width // 2, 1)
    down, across = min(height, 2), min(width, 2)
    images = images[:, : rows * down, : columns * across]
    return images.reshape(images.shape[0], rows, down, columns, across, images.shape[3]).max(axis=(2, 4))


def forward(params, images):
    for group in GROUPS:
        for number in group:
            images = np.maximum(convolve(images, **params[f"conv_{number}"]), 0)
        images = pool(images)
    return images.mean(axis=(1, 2)) @ params["output"]["kernel"] + params["output"]["bias"]


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("shape", [(32, 32, 3), (9, 70, 1)])
def test_outputs_agree_with_numpy(shape):
    model = vgg11(image(*shape), 3, num_filters=1)
    shapes = jax.eval_shape(model.init, jax.random.key(0))[0]
    generator = np.random.default_rng(0)
    params = jax.tree.map(lambda leaf: generator.normal(size=leaf.shape) / np.sqrt(np.prod(leaf.shape[:-1])), shapes)
    inputs = generator.normal(size=(2, *shape))
    outputs, stats = jax.jit(model.apply, static_argnames="train")(params, {}, inputs, train=True, key=None)
    expected = forward(params, inputs)
    assert np.abs(expected).min() > 1e-6
    assert_allclose(outputs, expected, rtol=1e-9)
    assert stats == {}


def test_kernels_are_he_normal_and_biases_zero():
    model, fast = vgg11(image(8, 8, 1), 10, num_filters=2), {"xla_backend_optimization_level": 0}
    params, _ = jax.jit(model.init, compiler_options=fast)(jax.random.key(0))
    kernel = np.asarray(params["conv_8"]["kernel"])
    assert abs(kernel.std() * np.sqrt(9 * 16 / 2) - 1) < 4 / np.sqrt(2 * kernel.size)
    assert not any(np.any(layer["bias"]) for layer in params.values())
