"""Perturbed weights of a trained network: with noise, or rounded to a few bits."""

import jax
import jax.numpy as jnp

from flatwide import trees
from flatwide.measure import inputs
from flatwide.types import Array, PyTree


def noisy_weights(params: PyTree, *, size: float, key: Array, mask: PyTree | None = None) -> PyTree:
    """Add normal noise to every tensor of a network, relative to the tensor's norm.

    Args:
      params: pytree of real numbers.
      size: root mean square of the noise over that of the tensor's kept entries, >= 0.
      key: PRNG key.
      mask: booleans that broadcast to the leaves of params; pruned weights (False) stay zero.
    Returns: a pytree like params.
    Raises: ValueError if size is out of range, or params or mask do not fit.
    Equation: w + size |w| z / sqrt(P), for each tensor w of P kept entries, with z standard normal.
    """
    inputs.check_at_least(0, ", relative to the weights", size=size)
    inputs.check_params(params, mask)
    params = trees.apply_mask(jax.tree.map(jnp.asarray, params), mask)
    kept = jax.tree.map(lambda _: True, params) if mask is None else mask

    def noisy(leaf: Array, keep: Array, drawn: Array) -> Array:
        count = jnp.maximum(jnp.sum(jnp.broadcast_to(keep, leaf.shape)), 1)
        spread = size * jnp.sqrt(jnp.sum(leaf**2) / count)
        return leaf + jnp.where(keep, spread * drawn, 0).astype(leaf.dtype)

    return jax.tree.map(noisy, params, kept, trees.random_normal(inputs.random_key(key), params))


def rounded_weights(params: PyTree, *, bits: int, per_channel: bool = False, axis: int = -1) -> PyTree:
    """Round the kernels of a network to the nearest of evenly spaced numbers, symmetric about zero.

    Args:
      params: pytree of real numbers. Leaves that are not kernels (biases, norm scales, embeddings) are unchanged, as is
        usual in low-bit arithmetic.
      bits: of a weight, >= 2.
      per_channel: whether each output channel has a separate spacing; else each tensor.
      axis: of the output channels: the last for Flax, 0 for PyTorch.
    Returns: a pytree like params; zeros, such as pruned weights, stay zero.
    Raises: ValueError for fewer than 2 bits.
    Equation: s round(w / s) with s = max |w| / (2^(bits - 1) - 1) over the tensor or channel.
    Source: Nagel et al. (2021), A white paper on neural network quantization, arXiv 2106.08295, section 2.
    """
    inputs.check_at_least(2, ", one of them for the sign", bits=bits)

    def rounded(leaf: Array, is_kernel: bool) -> Array:
        if not is_kernel:
            return leaf
        others = tuple(dimension for dimension in range(leaf.ndim) if dimension != axis % leaf.ndim)
        largest = jnp.max(jnp.abs(leaf), axis=others if per_channel else None, keepdims=True)
        spacing = jnp.where(largest > 0, largest, 1) / (2 ** (bits - 1) - 1)
        return jnp.round(leaf / spacing) * spacing

    params = jax.tree.map(jnp.asarray, params)
    return jax.tree.map(rounded, params, trees.kernels(params))
