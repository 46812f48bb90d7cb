"""Dropout: JAX's generator as oracle, the share that is dropped, and masks of places and of arrays."""

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.random import threefry_2x32
from numpy.testing import assert_allclose, assert_array_equal

from flatwide.models.dropout import dropout, keep, threefry


def test_the_generator_is_that_of_jax():
    key, counters = jnp.array([7, 2**32 - 5], jnp.uint32), jnp.arange(12, dtype=jnp.uint32) * jnp.uint32(400_000_007)
    words = jax.jit(threefry)(key, counters[:6], counters[6:])
    assert_array_equal(jnp.concatenate(words), threefry_2x32(key, counters))


def test_a_share_is_dropped_and_the_mean_stays():
    rows = jnp.arange(4000)
    drop = jax.jit(
        lambda rows: dropout(jnp.ones((4000, 10)), rate=0.1, key=jax.random.key(0), example=rows // 7, item=rows % 7)
    )
    dropped = np.asarray(drop(rows))
    kept = dropped > 0
    assert_allclose(dropped[kept], 1 / 0.9, rtol=1e-4)  # the rate is rounded to 16 bits
    assert abs(kept.mean() - 0.9) < 4 * (0.1 * 0.9 / dropped.size) ** 0.5
    # Neighbours in a row, in an example, and in the batch are independent.
    for shifted in (kept[:, 1:], kept[1:], kept[7:]):
        paired = kept[: len(shifted), : shifted.shape[1]]
        assert abs(np.corrcoef(paired.ravel(), shifted.ravel())[0, 1]) < 4 / shifted.size**0.5


def test_the_mask_follows_example_and_item_wherever_the_row_is():
    @jax.jit
    def drop(example, item, seed):
        rows = jnp.ones((len(example), 6))
        return dropout(rows, rate=0.5, key=jax.random.key(seed), example=example, item=item)

    examples, items = np.array([0, 0, 1, 2, 9]), np.array([0, 1, 0, 3, 0])
    dropped, order = np.asarray(drop(examples, items, 0)), [3, 4, 2, 1, 0]
    assert_array_equal(dropped[order], drop(examples[order], items[order], 0))
    assert (dropped != drop(examples, items, 1)).any()


def test_nothing_is_dropped_at_rate_zero():
    rows = jnp.ones((2, 3))
    assert dropout(rows, rate=0.0, key=jax.random.key(0), example=jnp.arange(2), item=jnp.arange(2)) is rows


def test_a_mask_keeps_the_share_that_it_should():
    rate, count = 0.3, 400_002
    kept = np.asarray(keep(jax.random.key(3), (2, count // 2), rate=rate))
    deviation = (rate * (1 - rate) / count) ** 0.5
    assert abs(kept.mean() - (1 - rate)) < 4 * deviation
    # Neighbours come from the same block of random bits.
    for shift in (1, 2, 3):
        flat = kept.reshape(-1)
        assert abs(np.mean(flat[shift:] & flat[:-shift]) - (1 - rate) ** 2) < 4 * deviation
    assert not np.array_equal(kept, keep(jax.random.key(4), kept.shape, rate=rate))
