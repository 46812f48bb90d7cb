"""The LSTM: its counts, its arithmetic in NumPy, and padding that changes nothing."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from flatwide import trees
from flatwide.models.lstm import drop_words, lstm
from flatwide.models.mlp import mlp
from flatwide.types import Categories

NUM_WORDS, LENGTHS = 12, (5, 1, 3)
TOKENS = np.array([[2, 3, 9, 1, 4], [5, 0, 0, 0, 0], [6, 2, 2, 0, 0]], np.int32)
SST2_WORDS = 13_519 + 2  # that occur three times in GLUE's training phrases; padding and unknown


def build(hidden_size=4, **fields):
    return lstm(Categories((5,), NUM_WORDS), 3, hidden_size=hidden_size, **fields)


def drawn(model):
    """Draw weights none of which is zero."""
    params, stats = jax.jit(model.init)(jax.random.key(0))
    leaves, structure = jax.tree.flatten(params)
    keys = jax.random.split(jax.random.key(1), len(leaves))
    moved = [w + 0.5 * jax.random.normal(k, w.shape, w.dtype) for w, k in zip(leaves, keys, strict=True)]
    return jax.tree.unflatten(structure, moved), stats


# The paper's own numbers are 0.527, 1.1, 2.5, 5.8, 10.0 and 15.1 million: its head is not known.
@pytest.mark.parametrize(
    ("hidden_size", "count", "share_of_the_papers"),
    [
        (32, 522_421, 0.991),
        (64, 1_102_395, 1.002),
        (128, 2_379_894, 0.952),
        (256, 5_460_204, 0.941),
        (384, 9_240_930, 0.924),
        (512, 13_722_072, 0.909),
    ],
)
def test_counts(hidden_size, count, share_of_the_papers):
    model = lstm(Categories((52,), SST2_WORDS), 2, hidden_size=hidden_size)
    assert trees.size(jax.eval_shape(model.init, jax.random.key(0))[0]) == count
    h, e = hidden_size, int(300 / 256 * hidden_size)
    assert count == SST2_WORDS * e + 8 * h * (e + h + 1) + 4 * h**2 + 2 * h + 2 * h
    papers = {32: 0.527e6, 64: 1.1e6, 128: 2.5e6, 256: 5.8e6, 384: 10.0e6, 512: 15.1e6}
    assert round(count / papers[hidden_size], 3) == share_of_the_papers


def numpy_outputs(params, tokens):
    """Classify one text word by word."""

    def sigmoid(x):
        return 1 / (1 + np.exp(-x))

    def states(cell, words):
        state = memory = np.zeros(cell["kernel"].shape[0])
        states_of_words = []
        for word in words:
            gates = params["words"]["embedding"][word] @ cell["input"]["kernel"] + cell["input"]["bias"]
            enter, keep, new, leave = np.split(gates + state @ cell["kernel"], 4)
            memory = sigmoid(keep) * memory + sigmoid(enter) * np.tanh(new)
            state = sigmoid(leave) * np.tanh(memory)
            states_of_words.append(state)
        return states_of_words

    forward, backward = states(params["forward"], tokens), states(params["backward"], tokens[::-1])[::-1]
    encoded = np.concatenate([forward, backward], axis=1)
    scores = np.exp(np.tanh(encoded @ params["keys"]["kernel"]) @ params["energy"]["kernel"])
    context = (scores / scores.sum() * encoded).sum(axis=0)
    hidden = np.tanh(context @ params["hidden"]["kernel"] + params["hidden"]["bias"])
    return hidden @ params["output"]["kernel"]


def test_outputs_agree_with_numpy_and_padding_changes_none(float64):
    model = build()
    params, stats = drawn(model)
    apply = jax.jit(lambda tokens: model.apply(params, stats, tokens, train=False, key=None)[0])
    together, plain = apply(TOKENS), jax.tree.map(np.asarray, params)
    assert together.dtype == np.float64
    for row, length in enumerate(LENGTHS):
        assert_allclose(together[row], numpy_outputs(plain, TOKENS[row, :length]), rtol=1e-11)


def test_padding_has_no_gradient_and_changes_none(float64):
    model = build(dropout=0.0)
    params, stats = drawn(model)

    @jax.jit
    def gradient(tokens):
        return jax.grad(lambda p: jnp.sum(model.apply(p, stats, tokens, train=True, key=None)[0] ** 2))(params)

    together = gradient(TOKENS)
    alone = [gradient(TOKENS[row : row + 1, :length]) for row, length in enumerate(LENGTHS)]
    jax.tree.map(lambda a, *b: assert_allclose(a, sum(b), rtol=1e-9, atol=1e-14), together, *alone)
    used = np.unique(TOKENS[TOKENS != 0])
    assert_array_equal(np.flatnonzero(np.any(together["words"]["embedding"] != 0, axis=1)), used)


def test_dropout_depends_on_the_key_and_not_on_padding():
    model = build()
    params, stats = drawn(model)

    @jax.jit
    def trained(key, tokens):
        return model.apply(params, stats, tokens, train=True, key=key)[0]

    first, second = trained(jax.random.key(0), TOKENS), trained(jax.random.key(1), TOKENS)
    assert_array_equal(first, trained(jax.random.key(0), TOKENS))
    assert_allclose(trained(jax.random.key(0), np.pad(TOKENS, ((0, 0), (0, 2)))), first, rtol=1e-4, atol=1e-5)
    assert np.abs(first - second).max() > 0.01
    with pytest.raises(ValueError, match=r"key=None: expected a PRNG key, .* or config\.dropout=0\."):
        jax.eval_shape(lambda: model.apply(params, stats, TOKENS, train=True, key=None))


def test_a_tenth_of_the_words_become_unknown():
    tokens = jnp.full((60, 500), 7).at[:, 400:].set(0)
    dropped = np.asarray(drop_words(tokens, jax.random.key(0)))
    assert_array_equal(dropped[:, 400:], 0)  # padding stays what it is
    assert set(np.unique(dropped[:, :400])) == {1, 7}
    share, deviation = (dropped[:, :400] == 1).mean(), (0.1 * 0.9 / 24_000) ** 0.5
    assert abs(share - 0.1) < 4 * deviation


def test_kernels_are_told_from_embeddings_and_biases():
    kernels = trees.kernels(jax.eval_shape(build().init, jax.random.key(0))[0])
    names = {trees.path_name(path) for path, is_kernel in jax.tree.leaves_with_path(kernels) if is_kernel}
    directions = {f"{way}/{name}" for way in ("forward", "backward") for name in ("kernel", "input/kernel")}
    assert names == directions | {"keys/kernel", "energy/kernel", "hidden/kernel", "output/kernel"}


def test_the_states_kernels_start_orthogonal():
    params, _ = jax.jit(build().init)(jax.random.key(0))
    for gate in np.split(np.asarray(params["backward"]["kernel"]), 4, axis=1):
        assert_allclose(gate @ gate.T, np.eye(4), atol=1e-6)


def test_what_it_cannot_be_built_for_is_said():
    with pytest.raises(ValueError, match=r"config\.hidden_size=0: expected an integer >= 1"):
        build(0)
    with pytest.raises(ValueError, match=r"config\.model='LSTM' reads texts, a row of words .* \(8, 8, 1\)"):
        lstm(jax.ShapeDtypeStruct((8, 8, 1), np.float32), 10)
    with pytest.raises(ValueError, match=r"config\.model='MLP' reads numbers; this data set gives categories"):
        mlp(Categories((5,), NUM_WORDS), 10)
