"""Stability of activations against counts by hand."""

import jax
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from flatwide.models import activations, lazy
from flatwide.models.mlp import mlp
from flatwide.models.shallow import linear_network
from flatwide.models.vgg import vgg11

stability = jax.jit(activations.stability, static_argnums=0)

FOUR = jax.ShapeDtypeStruct((4,), np.float32)
IMAGE = jax.ShapeDtypeStruct((4, 4, 1), np.float32)


def test_share_of_an_mlp_is_that_of_numpy():
    model = mlp(FOUR, 2, num_neurons=(30, 6))
    before, after = jax.device_get([jax.jit(model.init)(jax.random.key(seed)) for seed in (0, 1)])
    inputs = np.random.default_rng(0).normal(size=(9, 4)).astype(np.float32)

    def signs(params):
        first = inputs @ params["hidden_0"]["kernel"] + params["hidden_0"]["bias"].reshape(1, -1)
        second = np.maximum(first, 0) @ params["hidden_1"]["kernel"] + params["hidden_1"]["bias"].reshape(1, -1)
        return np.asarray(first) > 0, np.asarray(second) > 0

    same = [was == now for was, now in zip(signs(before[0]), signs(after[0]), strict=True)]
    shares = stability(model, before, after, inputs)
    assert_allclose(shares.layers["hidden_0"], same[0].mean(axis=1), rtol=1e-6)
    assert_allclose(shares.layers["hidden_1"], same[1].mean(axis=1), rtol=1e-6)
    assert_allclose(shares.units, np.concatenate(same, axis=1).mean(axis=1), rtol=1e-6)
    assert 0.3 < shares.units.mean() < 0.7  # of unrelated weights


def test_vgg_tells_every_convolution_and_a_turned_one_shows():
    model = vgg11(IMAGE, 2, num_filters=1)
    params, stats = jax.jit(model.init)(jax.random.key(0))
    turned = params | {"conv_1": jax.tree.map(np.negative, params["conv_1"])}
    inputs = np.random.default_rng(0).normal(size=(3, 4, 4, 1)).astype(np.float32)
    shares = stability(model, (params, stats), (turned, stats), inputs)
    assert list(shares.layers) == [f"conv_{i}" for i in range(1, 9)]
    assert_array_equal(shares.layers["conv_1"], np.zeros(3))  # none is exactly 0 before its ReLU
    shapes = jax.eval_shape(model.preactivations, params, stats, inputs)
    assert (shapes["conv_1"].shape, shapes["conv_8"].shape) == ((3, 4, 4, 1), (3, 1, 1, 8))


@pytest.mark.parametrize("wrap", [lazy.linearize, lambda model: lazy.centre(model, scale=2.0)])
def test_a_wrapped_network_tells_those_of_the_one_inside(wrap):
    model = mlp(FOUR, 2, num_neurons=(5,))
    params, stats = wrap(model).init(jax.random.key(0))
    inputs = np.ones((2, 4), np.float32)
    expected = model.preactivations(params, {}, inputs)
    jax.tree.map(assert_array_equal, wrap(model).preactivations(params, stats, inputs), expected)
    same = stability(wrap(model), (params, stats), (params, stats), inputs)
    assert_array_equal(same.units, [1, 1])


def test_networks_that_tell_of_no_relu_are_refused():
    for model in (linear_network(FOUR, 2), mlp(FOUR, 2, num_neurons=())):
        start = jax.jit(model.init)(jax.random.key(0))
        with pytest.raises(ValueError, match=r"The model (does not report its ReLUs|reports no ReLU): expected"):
            stability(model, start, start, np.ones((1, 4), np.float32))
