"""The networks of the small tasks against NumPy, and the scales that they start from."""

import itertools

import jax
import jax.flatten_util
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from flatwide import experiment, trees
from flatwide.models.shallow import linear_network, one_hidden_layer, two_layer_frozen_head


def example(size):
    return jax.ShapeDtypeStruct((size,), np.float32)


def inputs(size):
    return np.random.default_rng(0).normal(size=(7, size))


def is_normal(array, scale):
    """Whether mean and deviation are within 4 standard errors of N(0, scale^2)."""
    array = np.asarray(array, np.float64)
    error = scale / np.sqrt(array.size)
    return abs(array.mean()) < 4 * error and abs(array.std() - scale) < 4 * error / np.sqrt(2)


@pytest.mark.usefixtures("float64")
def test_one_hidden_layer():
    model = one_hidden_layer(example(1), 1, num_neurons=(4000,))
    params, stats = jax.device_get(jax.jit(model.init)(jax.random.key(0)))
    hidden, output = params["hidden_0"], params["output"]["kernel"]
    assert stats == {}
    assert trees.size(params) == 3 * 4000
    assert_array_equal(np.unique(hidden["kernel"]), [-2.5, 2.5])
    assert abs(np.mean(hidden["kernel"] > 0) - 0.5) < 4 * 0.5 / np.sqrt(4000)
    assert is_normal(hidden["bias"], 2.5)
    assert is_normal(output, 4)
    expected = np.maximum(inputs(1) @ hidden["kernel"] + np.asarray(hidden["bias"]), 0) @ output
    assert_allclose(model.apply(params, stats, inputs(1), train=True, key=None)[0], expected, rtol=1e-10)


@pytest.mark.usefixtures("float64")
def test_two_layer_frozen_head():
    model = two_layer_frozen_head(example(4), 1, num_neurons=(4000,))
    params, stats = jax.device_get(jax.jit(model.init)(jax.random.key(0)))
    kernel, bias, head = params["hidden_0"]["kernel"], stats["hidden_0"]["bias"], stats["output"]["kernel"]
    assert trees.size(params) == 4 * 4000
    assert is_normal(kernel, 1 / np.sqrt(4000))
    assert is_normal(bias, 1 / np.sqrt(4000))
    assert is_normal(head, 1)
    expected = np.maximum(inputs(4) @ kernel + np.asarray(bias), 0) @ head
    outputs, after = model.apply(params, stats, inputs(4), train=True, key=None)
    assert_allclose(outputs, expected, rtol=1e-10, atol=1e-12)
    jax.tree.map(assert_array_equal, after, stats)


def test_a_frozen_head_stays_through_training():
    fields = {"dataset": "two_layer_teacher", "loss": "squared", "model": "TwoLayerFrozenHead", "num_neurons": (6,)}
    built = experiment.build(fields | {"batch_size": 50, "weight_decay": 0.1, "learning_rate": 1e-3})
    state = built.init()
    before = jax.device_get(state)
    for step in range(2):
        state, _ = built.train_step(state, built.batch(step))
    jax.tree.map(assert_array_equal, state.stats, before.stats)
    assert not np.array_equal(state.params["hidden_0"]["kernel"], before.params["hidden_0"]["kernel"])


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("num_neurons", [(), (4,)])
def test_linear_network_is_a_product_of_matrices(num_neurons):
    model = linear_network(example(6), 10, num_neurons=num_neurons)
    params, stats = jax.device_get(jax.jit(model.init)(jax.random.key(0)))
    ends = [6, *num_neurons, 10]
    assert trees.size(params) == sum(a * b for a, b in itertools.pairwise(ends))
    product = np.eye(6)
    for name in [*(f"hidden_{i}" for i in range(len(num_neurons))), "output"]:
        product = product @ params[name]["kernel"]
    outputs = model.apply(params, stats, inputs(6), train=False, key=None)[0]
    assert_allclose(outputs, inputs(6) @ product, rtol=1e-10, atol=1e-12)
    assert np.linalg.matrix_rank(product) == min(6, *num_neurons, 10)


@pytest.mark.parametrize("build", [one_hidden_layer, two_layer_frozen_head])
def test_more_than_one_size_is_an_error(build):
    with pytest.raises(ValueError, match=r"config.num_neurons=\(300, 100\) with config.model='\w+': expected one size"):
        build(example(1), 1, num_neurons=(300, 100))
    with pytest.raises(ValueError, match=r"config.num_neurons=\(\): expected a tuple of one or more integers >= 1"):
        build(example(1), 1, num_neurons=())
