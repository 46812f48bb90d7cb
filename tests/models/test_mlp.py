"""The multilayer perceptron against plain NumPy in float64, and what it must be at any width."""

import math

import jax
import numpy as np
import pytest
from numpy.testing import assert_allclose

from flatwide.models.mlp import mlp

DIGITS = jax.ShapeDtypeStruct((8, 8, 1), np.float32)


def forward(params, inputs):
    """Compute an MLP's outputs in NumPy."""
    hidden = inputs.reshape(len(inputs), -1)
    for i in range(len(params) - 1):
        layer = params[f"hidden_{i}"]
        hidden = np.maximum(hidden @ layer["kernel"] + layer["bias"], 0)
    return hidden @ params["output"]["kernel"] + params["output"]["bias"]


def random_params(model, seed):
    """Draw all parameters anew, biases too, in the shapes of the model."""
    generator = np.random.default_rng(seed)
    shapes = jax.eval_shape(model.init, jax.random.key(0))[0]
    return jax.tree.map(lambda leaf: generator.normal(size=leaf.shape), shapes)


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("num_neurons", [(), (1,), (7,), (30, 10), (5, 4, 3)])
def test_outputs_agree_with_numpy(num_neurons):
    model = mlp(DIGITS, 10, num_neurons=num_neurons)
    params = random_params(model, seed=1)
    inputs = np.random.default_rng(2).normal(size=(6, 8, 8, 1))
    outputs, stats = jax.jit(model.apply, static_argnames="train")(params, {}, inputs, train=True, key=None)
    assert outputs.dtype == np.float64
    assert_allclose(outputs, forward(params, inputs), rtol=1e-12, atol=1e-12)
    assert stats == {}


def test_kernels_are_lecun_normal_and_biases_zero():
    params, _ = jax.jit(mlp(DIGITS, 10, num_neurons=(500,)).init)(jax.random.key(0))
    for layer, fan_in in (("hidden_0", 64), ("output", 500)):
        kernel = np.asarray(params[layer]["kernel"])
        # The relative error of a standard deviation of n numbers is 1 / sqrt(2 n), less for a truncated normal.
        assert abs(kernel.std() * math.sqrt(fan_in) - 1) < 4 / math.sqrt(2 * kernel.size)
        assert abs(kernel.mean()) < 4 * kernel.std() / math.sqrt(kernel.size)
        assert not params[layer]["bias"].any()


def test_kernel_scale_multiplies_the_initial_kernels():
    plain, scaled = (
        jax.jit(mlp(DIGITS, 10, num_neurons=(5,), kernel_scale=scale).init)(jax.random.key(0))[0]
        for scale in (1.0, 0.1)
    )
    jax.tree.map(lambda leaf, scaled_leaf: assert_allclose(scaled_leaf, 0.1 * leaf, rtol=1e-5), plain, scaled)
    assert np.any(plain["hidden_0"]["kernel"])


# Counts of the paper: Table 3 for the widths (MNIST), Figure 17 for the depths.


@pytest.mark.parametrize("num_neurons", [(0,), (30, -1), (300.0,), (True,), 300, ("30",)])
def test_a_size_that_is_no_size_is_an_error(num_neurons):
    with pytest.raises(ValueError) as caught:
        mlp(DIGITS, 10, num_neurons=num_neurons)
    assert (
        str(caught.value) == f"config.num_neurons={num_neurons!r}: expected a tuple of integers >= 1, such as (2, 2)."
    )
