"""The tagging Transformer: its counts, its arithmetic in NumPy, and padding that changes nothing."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from flatwide import trees
from flatwide.models.transformer import tagging_transformer
from flatwide.types import Categories

LENGTHS = (5, 1, 3)
TOKENS = np.array([[2, 3, 9, 1, 4], [5, 0, 0, 0, 0], [6, 2, 2, 0, 0]], np.int32)


def build(hidden_size=8, num_layers=2, dropout=None, **fields):
    example = Categories((5,), 10)
    return tagging_transformer(example, 3, hidden_size=hidden_size, num_layers=num_layers, dropout=dropout, **fields)


def drawn(model):
    """Draw weights none of which is at its first value of 0 or 1."""
    params, stats = jax.jit(model.init)(jax.random.key(0))
    leaves, structure = jax.tree.flatten(params)
    keys = jax.random.split(jax.random.key(1), len(leaves))
    moved = [w + 0.3 * jax.random.normal(k, w.shape, w.dtype) for w, k in zip(leaves, keys, strict=True)]
    return jax.tree.unflatten(structure, moved), stats


# Words and tags of the treebank are not known by themselves, only that together they are 34,051 to 34,076: with fewer
# or more, one of the five counts would not round to the paper's.
@pytest.mark.parametrize(("hidden_size", "millions"), [(128, 5.5), (256, 13.5), (384, 23.7), (512, 36.3), (640, 51.3)])
@pytest.mark.parametrize("num_tags", [17, 860])
def test_counts_are_the_papers(hidden_size, millions, num_tags):
    model = tagging_transformer(Categories((256,), 34_060 - num_tags), num_tags, hidden_size=hidden_size)
    count = trees.size(jax.eval_shape(model.init, jax.random.key(0))[0])
    assert round(count / 1e6, 1) == millions
    block = 12 * hidden_size**2 + 9 * hidden_size
    assert count == 6 * block + 34_060 * hidden_size + 2 * hidden_size + num_tags


def numpy_outputs(params, tokens, num_heads):
    """Tag one sentence word by word and head by head."""

    def norm(norm_params, x):
        return (x - x.mean()) / np.sqrt(x.var() + 1e-6) * norm_params["scale"] + norm_params["bias"]

    size = params["words"]["embedding"].shape[1]
    angles = np.arange(len(tokens))[:, None] / 10_000 ** (np.arange(0, size, 2) / size)
    x = params["words"]["embedding"][tokens] + np.stack([np.sin(angles), np.cos(angles)], axis=2).reshape(-1, size)
    for number in range(1, sum(name.startswith("block") for name in params) + 1):
        block = params[f"block_{number}"]
        parts = np.array([norm(block["attention_norm"], word) @ block["query_key_value"]["kernel"] for word in x])
        query, key, value = np.split(parts, 3, axis=1)
        attended = np.zeros_like(x)
        for head in np.split(np.arange(size), num_heads):
            for word in range(len(tokens)):
                shares = np.exp(key[:, head] @ query[word, head] / np.sqrt(len(head)))
                attended[word, head] = shares @ value[:, head] / shares.sum()
        x = x + attended @ block["attention_output"]["kernel"]
        for word in range(len(tokens)):
            inner = norm(block["hidden_norm"], x[word]) @ block["hidden"]["kernel"] + block["hidden"]["bias"]
            inner = np.where(inner > 0, inner, np.expm1(inner))
            x[word] += inner @ block["hidden_output"]["kernel"] + block["hidden_output"]["bias"]
    return (
        np.array([norm(params["output_norm"], word) for word in x]) @ params["output"]["kernel"]
        + (params["output"]["bias"])
    )


@pytest.mark.parametrize(("hidden_size", "num_heads"), [(8, 1), (128, 2)])
def test_outputs_agree_with_numpy_and_padding_changes_none(float64, hidden_size, num_heads):
    model = build(hidden_size)
    params, stats = drawn(model)
    apply = jax.jit(lambda tokens: model.apply(params, stats, tokens, train=False, key=None)[0])
    together, plain = apply(TOKENS), jax.tree.map(np.asarray, params)
    for row, length in enumerate(LENGTHS):
        expected = numpy_outputs(plain, TOKENS[row, :length], num_heads)
        assert_allclose(together[row, :length], expected, rtol=1e-9, atol=1e-11)


def test_blocks_without_a_loop_have_the_same_derivatives_in_both_modes(float64, assert_derivatives_are_those_of_a_loop):
    model = build(dropout=0.5)
    (params, _), along = drawn(model), drawn(model)[0]

    def outputs_of(params):
        return model.apply(params, {}, TOKENS, train=True, key=jax.random.key(0))[0]

    assert_derivatives_are_those_of_a_loop(outputs_of, params, along)


def test_padding_has_no_gradient(float64):
    model = build(dropout=0.0)
    params, stats = drawn(model)

    def loss(params):
        outputs, _ = model.apply(params, stats, TOKENS, train=True, key=None)
        return jnp.sum(jnp.where((TOKENS != 0)[..., None], outputs**2, 0))

    gradient = jax.jit(jax.grad(loss))(params)["words"]["embedding"]
    used = np.unique(TOKENS[TOKENS != 0])
    assert_array_equal(np.flatnonzero(np.any(gradient != 0, axis=1)), used)


def test_dropout_is_of_training_only_and_depends_on_the_key():
    model = build()
    params, stats = drawn(model)

    @jax.jit
    def trained(key):
        return model.apply(params, stats, TOKENS, train=True, key=key)[0]

    first, second = trained(jax.random.key(0)), trained(jax.random.key(1))
    assert_array_equal(first, trained(jax.random.key(0)))
    assert np.abs(first - second).max() > 0.1
    with pytest.raises(ValueError, match=r"key=None: expected a PRNG key, .* or config\.dropout=0\."):
        model.apply(params, stats, TOKENS, train=True, key=None)


def test_what_it_cannot_be_built_for_is_said():
    with pytest.raises(
        ValueError, match=r"config\.hidden_size=200: expected a multiple of its 3 heads, .* such as 192"
    ):
        build(200)
    with pytest.raises(ValueError, match=r"config\.num_layers=0: expected an integer >= 1"):
        build(num_layers=0)
    with pytest.raises(ValueError, match=r"config\.model='TaggingTransformer' reads texts"):
        tagging_transformer(jax.ShapeDtypeStruct((8, 8, 1), np.float32), 10)
