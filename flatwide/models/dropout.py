"""Dropout, with masks that depend on an entry's position in its example, or on its position in an array.

`dropout` hashes within the operation that uses the mask, and padding does not change what is dropped. `keep` fills an
array, for a mask that is used more than once: it takes less time, but the masks depend on the length of the batch.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.random import threefry_2x32

from flatwide.types import Array

_ROTATIONS = ((13, 15, 26, 6), (17, 29, 16, 24))
_PARITY = 0x1BD11BDA
_DRAWS = 4  # numbers of 16 bits from one hash of 64
_STEPS = 1 << 16


def dropout(inputs: Array, *, rate: float, key: Array, example: Array, item: Array) -> Array:
    """Set a random share of the entries to zero, and scale the others up so that means stay.

    The mask of an entry is a function of the key, its example, its item and its column, so padding changes none.
    The generator is written out here because JAX runs its own as loops on a CPU, which took as long as the layers.

    Args:
      inputs: [R, D].
      rate: in [0, 1), rounded to a multiple of 1/65536.
      key: PRNG key of any kind.
      example, item: [R] integers: which example of the batch a row belongs to, and which of its items it is.
    Returns: [R, D].
    Cost: one hash of 64 bits for four entries.
    Source: Salmon et al. (2011), Parallel random numbers: as easy as 1, 2, 3 (Threefry 2x32 with 20 rounds).
    """
    dropped = round(rate * _STEPS)
    if dropped == 0:
        return inputs
    size = inputs.shape[-1]
    width = -(-size // _DRAWS)
    first = example.astype(jnp.uint32)[:, None]
    second = item.astype(jnp.uint32)[:, None] * jnp.uint32(width) + jnp.arange(width, dtype=jnp.uint32)[None]
    words = threefry(jax.random.bits(key, (2,), jnp.uint32), jnp.broadcast_to(first, second.shape), second)
    low = jnp.uint32(_STEPS - 1)
    is_kept = [half >= dropped for word in words for half in (word & low, word >> jnp.uint32(16))]
    scale = _STEPS / (_STEPS - dropped)
    return jnp.where(jnp.concatenate(is_kept, axis=-1)[:, :size], inputs * scale, 0).astype(inputs.dtype)


def keep(key: Array, size: tuple[int, ...], *, rate: float) -> Array:
    """Draw which entries of an array are kept, True with probability 1 - rate to 1 in 2^17.

    Four entries share the 64 bits of a block of the generator, which a draw of `jax.random.bernoulli` takes for itself.
    """
    count = int(np.prod(size))
    bits = threefry_2x32(jax.random.key_data(key), jnp.arange(-(-count // _DRAWS) * 2, dtype=jnp.uint32))
    parts = jax.lax.bitcast_convert_type(bits, jnp.uint16).reshape(-1)[:count]
    return (parts >= np.uint16(round(rate * _STEPS))).reshape(size)


def apply_mask(values: Array, mask: Array, *, rate: float) -> Array:
    """Set what is not kept to zero, and scale the rest up so that means stay."""
    return jnp.where(mask, values * (1 / (1 - rate)), 0).astype(values.dtype)


def threefry(key: Array, first: Array, second: Array) -> tuple[Array, Array]:
    """Hash pairs of 32-bit counters to pairs of random 32-bit words.

    Args:
      key: [2] uint32.
      first, second: uint32 arrays of one shape.
    """
    keys = (key[0], key[1], key[0] ^ key[1] ^ jnp.uint32(_PARITY))
    first, second = first + keys[0], second + keys[1]
    for block in range(5):
        for rotation in _ROTATIONS[block % 2]:
            first = first + second
            second = (second << jnp.uint32(rotation)) | (second >> jnp.uint32(32 - rotation))
            second = second ^ first
        first = first + keys[(block + 1) % 3]
        second = second + keys[(block + 2) % 3] + jnp.uint32(block + 1)
    return first, second
