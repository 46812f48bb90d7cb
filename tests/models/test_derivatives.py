"""Second derivatives through convolutions and wrappers, against dense Hessians of XLA's own convolution in float64."""

import jax
import jax.flatten_util
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose

from flatwide import objectives, workloads
from flatwide.models import convolution, lazy
from flatwide.models.resnet import resnet18
from flatwide.models.vgg import vgg11
from flatwide.workloads import Workload

NUM_EXAMPLES = 2


@pytest.fixture(autouse=True)
def double_precision():
    with jax.enable_x64(True):
        yield


def plain_convolve(inputs, kernel, *, strides, padding):
    return jax.lax.conv_general_dilated(inputs, kernel, strides, padding, dimension_numbers=("NHWC", "HWIO", "NHWC"))


def case(name, wrapped):
    """Make a loss of flat weights in a subspace: all weights of the ResNet, 12 directions of the 2,300 of VGG-11."""
    example = jax.ShapeDtypeStruct((5, 5, 2), np.float64)
    if name == "VGG11":
        model = vgg11(example, 2, num_filters=1)
    else:
        model = resnet18(example, 2, num_filters=1, num_blocks=(1, 1))
    model = lazy.centre(model, scale=2.0) if wrapped else model
    params, stats = model.init(jax.random.key(0))
    flat, unflatten = jax.flatten_util.ravel_pytree(params)
    generator = np.random.default_rng(1)
    flat = flat + 0.3 * generator.normal(size=flat.size)  # norm scales and biases too
    directions = generator.normal(size=(12, flat.size)) if name == "VGG11" else np.eye(flat.size)
    batch = {
        "inputs": jnp.asarray(generator.normal(size=(NUM_EXAMPLES, *example.shape))),
        "targets": jnp.array([0, 1]),
    }
    workload = Workload(lambda batch, key, *, train: batch, model, objectives.squared(2))

    def loss(point, batch):
        params = unflatten(flat + point @ directions)
        return workloads.loss(workload, params, batch, stats=stats, train=False, key=None)[0]

    return loss, jnp.zeros(len(directions)), batch


@pytest.mark.parametrize(
    ("name", "wrapped"),
    [
        pytest.param("ResNet18", False, marks=pytest.mark.slow),
        pytest.param("VGG11", False, marks=pytest.mark.slow),
        pytest.param("ResNet18", True, marks=pytest.mark.slow),
    ],
)
def test_products_with_hessians_are_those_of_the_dense_ones(name, wrapped, monkeypatch):
    loss, zero, batch = case(name, wrapped)
    with monkeypatch.context() as patch:
        patch.setattr(convolution, "convolve", plain_convolve)
        examples = jax.tree.map(lambda leaf: leaf[:, None], batch)
        dense = jax.jit(lambda: jax.lax.map(lambda example: jax.hessian(loss)(zero, example), examples))()
    vectors = np.random.default_rng(2).normal(size=(NUM_EXAMPLES, zero.size))
    assert np.abs(dense).max() > 1e-3

    def product(vector, batch):
        return jax.jvp(lambda point: jax.grad(loss)(point, batch), (zero,), (vector,))[1]

    # Of the mean loss: one vector, a batch of vectors, and through linearize.
    expected = vectors @ np.mean(dense, axis=0)
    products = jax.jit(jax.vmap(product, in_axes=(0, None)))(vectors, batch)
    assert_allclose(products, expected, rtol=1e-9, atol=1e-11)
    assert_allclose(jax.jit(product)(vectors[0], batch), expected[0], rtol=1e-9, atol=1e-11)

    @jax.jit
    def linear(vectors):
        return jax.vmap(jax.linearize(lambda point: jax.grad(loss)(point, batch), zero)[1])(vectors)

    assert_allclose(linear(vectors), expected, rtol=1e-9, atol=1e-11)

    # Of each example's own loss, each with a vector of its own.
    products = jax.jit(jax.vmap(product))(vectors, examples)
    assert_allclose(products, np.einsum("ip,ipq->iq", vectors, dense), rtol=1e-9, atol=1e-11)
