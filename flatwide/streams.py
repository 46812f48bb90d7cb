"""One seed, many independent streams of randomness, each named by its use.

Streams: weights, order, noise, split, subset, mask, dropout, augmentation, measurement, offset, games, actions, test
games. A stream never depends on how much another one drew, so adding label noise changes neither the initial weights
nor the order of the data.
"""

import math
import zlib

import jax
import jax.numpy as jnp
import numpy as np

_GENERATOR = "threefry2x32"  # JAX's default, fixed so that no setting of a process changes it


def key(seed, name: str) -> jax.Array:
    """Derive the PRNG key of a named stream; `seed` may be traced.

    Raises: ValueError if a setting makes JAX draw different numbers from the same key than by default.
    """
    if not getattr(jax.config, "jax_threefry_partitionable", True):
        raise ValueError(
            "jax_threefry_partitionable=False: expected True, JAX's default, since False draws different numbers "
            "from every seed. Unset JAX_THREEFRY_PARTITIONABLE, or do not change the setting."
        )
    return jax.random.fold_in(jax.random.key(seed, impl=_GENERATOR), zlib.crc32(name.encode()))


def permutation(key: jax.Array, num_items: int) -> jax.Array:
    """Draw a uniform permutation of 0, 1, ..., num_items - 1, the very one of `jax.random.permutation`.

    JAX sorts pairs of arrays, the random keys and the items, which XLA's CPU backend does by calling a comparison for
    each pair. Here key and position are one 64-bit number, which is sorted several times faster; ties of the keys stay
    in order of position, as in JAX's stable sort.

    Returns: [num_items] int32.
    """
    # Keys of 32 bits may repeat, so the sort is done again with new ones, as often as JAX does it.
    num_rounds = math.ceil(3 * math.log(max(1, num_items)) / math.log(2**32 - 1))
    order = jnp.arange(num_items, dtype=jnp.int32)
    for _ in range(num_rounds):
        key, subkey = jax.random.split(key)
        bits = jax.random.bits(subkey, (num_items,), jnp.uint32)
        with jax.enable_x64(True):
            positions = jax.lax.iota(jnp.uint64, num_items)
            pairs = jax.lax.sort((bits.astype(jnp.uint64) << jnp.uint64(32)) | positions, is_stable=False)
            positions = pairs.astype(jnp.uint32)  # the lower 32 bits
        order = order[positions]
    return order


def generator(seed: int, name: str, *counters: int) -> np.random.Generator:
    """Derive the NumPy generator of a named stream, for draws on the host (splits, label noise, crops).

    Counters, such as an epoch and an example, split a stream into independent ones.
    """
    return np.random.default_rng([seed, zlib.crc32(name.encode()), *counters])
