"""Algebra on pytrees of parameters."""

import math
from collections.abc import Sequence
from fnmatch import fnmatchcase

import jax
import jax.numpy as jnp

from flatwide.types import Array, PyTree

_NEVER_KERNELS = ("bias", "scale", "embedding")


def path_name(path) -> str:
    """Return the path of a leaf as `a/b/kernel`."""
    return jax.tree_util.keystr(path, simple=True, separator="/")


def matching(names: Sequence[str], patterns: str | Sequence[str]) -> tuple[str, ...]:
    """List the names that match one of some shell patterns.

    Raises: ValueError for a pattern that matches no name.
    """
    listed = [patterns] if isinstance(patterns, str) else list(patterns)
    for pattern in listed:
        if not any(fnmatchcase(name, pattern) for name in names):
            raise ValueError(f"pattern {pattern!r} matches no leaf of params; known: {', '.join(names)}.")
    return tuple(name for name in names if any(fnmatchcase(name, pattern) for pattern in listed))


def kernels(params: PyTree) -> PyTree:
    """Mark the leaves that are kernels: matrices and filters, the weights that are pruned and that ASAM scales.

    Args:
      params: pytree of arrays (or of shapes and dtypes).
    Returns: the same structure with True for each leaf of two or more axes that is not named bias, scale or embedding.
    """

    def is_kernel(path, leaf) -> bool:
        return len(leaf.shape) >= 2 and path_name(path).rsplit("/")[-1] not in _NEVER_KERNELS

    return jax.tree.map_with_path(is_kernel, params)


def size(params: PyTree) -> int:
    """Count the entries of all leaves."""
    return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(params))


def num_bytes(tree: PyTree) -> int:
    """Return the bytes of the arrays of a tree; shapes and dtypes are enough."""
    return sum(math.prod(leaf.shape) * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree))


def add(a: PyTree, b: PyTree) -> PyTree:
    """Add two trees leaf by leaf."""
    return jax.tree.map(jnp.add, a, b)


def subtract(a: PyTree, b: PyTree) -> PyTree:
    """Subtract the second tree from the first leaf by leaf."""
    return jax.tree.map(jnp.subtract, a, b)


def random_normal(key: Array, like: PyTree) -> PyTree:
    """Draw independent standard normal entries in the shapes and dtypes of a tree."""
    leaves, structure = jax.tree.flatten(like)
    keys = jax.random.split(key, len(leaves))
    drawn = [jax.random.normal(k, leaf.shape, leaf.dtype) for k, leaf in zip(keys, leaves, strict=True)]
    return jax.tree.unflatten(structure, drawn)


def scale(factor: float | Array, a: PyTree) -> PyTree:
    """Multiply every leaf by one scalar, each in its own dtype."""
    return jax.tree.map(lambda leaf: (factor * leaf).astype(leaf.dtype), a)


def inner(a: Array, b: Array) -> Array:
    """Compute the sum of conj(a) b over all entries of two arrays of one shape.

    The bits are those of `jnp.vdot`, which flattens first, and so would gather an array that is split over devices.
    """
    axes = tuple(range(jnp.ndim(a)))
    return jax.lax.dot_general(jnp.conj(a), b, ((axes, axes), ((), ())))


def norm(a: PyTree) -> Array:
    """Compute the l2 norm over all entries; its gradient at zero is zero, not NaN."""
    square = sum(inner(leaf, leaf).real for leaf in jax.tree.leaves(a))
    is_zero = square == 0  # so that the norm of NaN is NaN
    return jnp.where(is_zero, 0, jnp.sqrt(jnp.where(is_zero, 1, square)))


def apply_mask(params: PyTree, mask: PyTree | None) -> PyTree:
    """Set pruned weights to zero; their gradient is zero too.

    Args:
      params: pytree of arrays.
      mask: None for no pruning, or the same structure with booleans that broadcast to each leaf (True keeps a weight).
    """
    if mask is None:
        return params
    return jax.tree.map(lambda leaf, mask_leaf: jnp.where(mask_leaf, leaf, jnp.zeros_like(leaf)), params, mask)
