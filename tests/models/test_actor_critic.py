"""The network that plays: its sizes, and its outputs against NumPy in float64."""

import jax
import numpy as np
import pytest
from numpy.testing import assert_allclose

from flatwide import trees
from flatwide.models.actor_critic import actor_critic

ATARI, MINATAR = (84, 84, 4), (10, 10, 4)


def screen(*shape):
    return jax.ShapeDtypeStruct(shape, np.float32)


# Atari's as derived from the layers; the paper rounds them to 0.4, 1.7, 3.8 and 6.7 million.
@pytest.mark.parametrize(
    ("shape", "num_outputs", "num_filters", "expected"),
    [
        (ATARI, 4, 16, 424_533),
        (ATARI, 4, 32, 1_686_693),
        (ATARI, 4, 48, 3_786_485),
        (ATARI, 4, 64, 6_723_909),
        (MINATAR, 3, 2, 2_206),
        (MINATAR, 3, 4, 8_504),
        (MINATAR, 3, 8, 33_388),
        (MINATAR, 3, 16, 132_308),
        (MINATAR, 3, 32, 526_756),
    ],
)
def test_number_of_parameters(shape, num_outputs, num_filters, expected):
    model = actor_critic(screen(*shape), num_outputs, num_filters=num_filters)
    assert trees.size(jax.eval_shape(model.init, jax.random.key(0))[0]) == expected


def forward(params, images, strides):
    hidden = images
    for number, stride in enumerate(strides, start=1):
        kernel, bias = params[f"conv_{number}"]["kernel"], params[f"conv_{number}"]["bias"]
        views = np.lib.stride_tricks.sliding_window_view(hidden, kernel.shape[:2], axis=(1, 2))[:, ::stride, ::stride]
        hidden = np.maximum(np.einsum("bhwcij,ijcf->bhwf", views, kernel) + bias, 0)
    hidden = hidden.reshape(len(images), -1)
    hidden = np.maximum(hidden @ params["hidden"]["kernel"] + params["hidden"]["bias"], 0)
    policy, value = (hidden @ params[name]["kernel"] + params[name]["bias"] for name in ("policy", "value"))
    return policy, value[:, 0]


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize(("shape", "strides"), [((36, 40, 2), (4, 2, 1)), ((6, 5, 3), (1,))])
def test_outputs_agree_with_numpy(shape, strides):
    model = actor_critic(screen(*shape), 3, num_filters=1)
    shapes = jax.eval_shape(model.init, jax.random.key(0))[0]
    random = np.random.default_rng(0)
    params = jax.tree.map(lambda leaf: random.normal(size=leaf.shape) / np.sqrt(np.prod(leaf.shape[:-1])), shapes)
    inputs = random.normal(size=(2, *shape))
    outputs, stats = jax.jit(model.apply, static_argnames="train")(params, {}, inputs, train=True, key=None)
    logits, values = forward(params, inputs, strides)
    assert stats == {}
    assert_allclose(outputs["logits"], logits, rtol=1e-10)
    assert_allclose(outputs["values"], values, rtol=1e-10)


def test_its_relus_are_known():
    model = actor_critic(screen(*MINATAR), 3, num_filters=1)
    params, stats = jax.eval_shape(model.init, jax.random.key(0))
    assert model.preactivations is not None
    preactivations = jax.eval_shape(
        model.preactivations, params, stats, jax.ShapeDtypeStruct((2, *MINATAR), np.float32)
    )
    assert {name: leaf.shape for name, leaf in preactivations.items()} == {"conv_1": (2, 8, 8, 1), "hidden": (2, 8)}


@pytest.mark.parametrize(
    ("shape", "num_filters", "message"),
    [
        ((10, 10), 4, "reads images"),
        ((2, 10, 4), 4, "at least 3 x 3; this data set gives 2 x 10"),
        (MINATAR, 0, "config.num_filters=0: expected an integer >= 1"),
    ],
)
def test_what_it_cannot_read(shape, num_filters, message):
    with pytest.raises(ValueError, match=message):
        actor_critic(screen(*shape), 3, num_filters=num_filters)
