"""One seed, many independent streams of randomness, each named by its use.

Streams: weights, order, noise, split, subset, mask, dropout, augmentation, measurement, games, actions, test games. A
stream never depends on how much another one drew, so adding label noise changes neither the initial weights nor the
order of the data.
"""

import zlib

import jax
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


def generator(seed: int, name: str, *counters: int) -> np.random.Generator:
    """Derive the NumPy generator of a named stream, for draws on the host (splits, label noise, crops).

    Counters, such as an epoch and an example, split a stream into independent ones.
    """
    return np.random.default_rng([seed, zlib.crc32(name.encode()), *counters])
