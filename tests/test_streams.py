"""Streams of randomness depend on the seed and their name, and on nothing that a process is set to."""

import jax
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from flatwide import streams


def test_a_stream_is_a_function_of_seed_and_name():
    keys = [streams.key(seed, name) for seed, name in ((0, "weights"), (0, "order"), (1, "weights"))]
    assert len({tuple(jax.random.key_data(key).tolist()) for key in keys}) == 3
    assert_array_equal(jax.random.key_data(jax.jit(streams.key, static_argnums=1)(0, "order")), key_data("order"))


def key_data(name):
    return jax.random.key_data(streams.key(0, name))


def test_the_numbers_of_a_stream_are_these():
    # If these change, every result of every seed does: only a new major version may do that.
    assert key_data("weights").tolist() == [295106320, 71624244]
    assert_allclose(jax.random.uniform(streams.key(0, "weights"), (3,)), [0.1350584, 0.7721435, 0.8859966], rtol=1e-6)
    assert_array_equal(streams.generator(0, "order").permutation(5), [3, 4, 1, 0, 2])


@pytest.mark.parametrize("implementation", ["rbg", "unsafe_rbg"])
def test_a_process_set_to_another_generator_draws_the_same(implementation):
    expected = jax.random.uniform(streams.key(3, "dropout"), (4,))
    with jax.default_prng_impl(implementation):
        drawn = jax.random.uniform(streams.key(3, "dropout"), (4,))
        assert not np.array_equal(jax.random.uniform(jax.random.key(3), (4,)), expected)
    assert_array_equal(drawn, expected)


def test_another_way_of_drawing_is_refused():
    with jax.threefry_partitionable(False), pytest.raises(ValueError, match="expected True, JAX's default"):
        streams.key(0, "weights")


@pytest.mark.parametrize("num_items", [0, 1, 2, 1_500, 3_000])  # none, one and two rounds of sorting
def test_a_permutation_is_that_of_jax_bit_by_bit(num_items):
    keys = jax.random.split(streams.key(5, "order"), 3)
    expected = jax.vmap(lambda key: jax.random.permutation(key, num_items))(keys)
    drawn = jax.jit(jax.vmap(lambda key: streams.permutation(key, num_items)))(keys)
    assert drawn.dtype == np.int32
    assert_array_equal(drawn, expected)


def test_equal_keys_stay_in_order_of_position(monkeypatch):
    true = jax.random.bits
    monkeypatch.setattr(jax.random, "bits", lambda *args: true(*args) % 8)
    key, expected = streams.key(5, "order"), np.arange(2_000)
    drawn = streams.permutation(key, 2_000)
    for _ in range(2):
        key, subkey = jax.random.split(key)
        expected = expected[np.argsort(jax.random.bits(subkey, (2_000,), np.uint32), kind="stable")]
    assert_array_equal(drawn, expected)
