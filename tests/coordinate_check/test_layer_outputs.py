"""The operations of each leaf, against a network written out."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose

from flatwide.coordinate_check.layer_outputs import layer_outputs


@pytest.fixture
def layers(float64):
    random = np.random.default_rng(0)
    sizes = {"words": (7, 4), "a": (4, 4), "b": (4, 4), "bias": (4,), "turn": (4, 4), "last": (4, 2)}
    return {name: jnp.asarray(random.normal(size=size)) for name, size in sizes.items()}


def network(params, tokens):
    """An embedding, two stacked layers in a loop with a cast, a transposed layer that is used twice, and a bias."""
    hidden = params["words"][tokens]

    def layer(hidden, kernel):
        return jnp.tanh(hidden @ kernel), None

    hidden, _ = jax.lax.scan(layer, hidden, jnp.stack([params["a"], params["b"]]).astype(hidden.dtype))
    for _ in range(2):
        hidden = jax.nn.relu(hidden @ (2 * params["turn"]).T + params["bias"][None])
    return {"outputs": hidden @ params["last"]}


def test_each_leaf_is_moved_alone_in_its_operations_with_data(layers):
    tokens = jnp.array([0, 3, 3])
    moved = jax.tree.map(lambda leaf: leaf + 0.1, layers)
    operations, outputs = jax.jit(lambda a, b, x: layer_outputs(network, a, b, x))(layers, moved, tokens)
    words = layers["words"][tokens]
    first = jnp.tanh(words @ layers["a"])
    turn = [jnp.tanh(first @ layers["b"])]
    turn.append(jax.nn.relu(turn[0] @ (2 * layers["turn"]).T + layers["bias"][None]))
    last = jax.nn.relu(turn[1] @ (2 * layers["turn"]).T + layers["bias"][None])
    products = [x @ (2 * layers["turn"]).T for x in turn]
    expected = {
        "words": [(words, words + 0.1)],
        "a": [(words @ layers["a"], words @ moved["a"])],
        "b": [(first @ layers["b"], first @ moved["b"])],
        "turn": [(y, x @ (2 * moved["turn"]).T) for x, y in zip(turn, products, strict=True)],
        "bias": [(y + layers["bias"][None], y + moved["bias"][None]) for y in products],
        "last": [(last @ layers["last"], last @ moved["last"])],
    }
    assert operations.keys() == expected.keys()
    for name, pairs in expected.items():
        for operation, (value, other) in zip(operations[name], pairs, strict=True):
            assert_allclose(operation.value, value, rtol=1e-12)
            assert_allclose(operation.moved, other, rtol=1e-12)
    is_product = {name: of_leaf[0].is_product for name, of_leaf in operations.items()}
    assert is_product == {name: name != "bias" for name in expected}
    assert_allclose(outputs["outputs"], expected["last"][0][0], rtol=1e-12)


def test_leaves_that_are_combined_before_they_meet_data_share_a_name(layers):
    operations, _ = layer_outputs(lambda params, x: x @ (params["a"] + params["b"]), layers, layers, jnp.ones((3, 4)))
    assert list(operations) == ["a + b"]
