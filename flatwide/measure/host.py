"""Call Python on the host from a compiled program, with numbers of any width."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from flatwide.types import Array, PyTree

_WIDE = (
    8  # bytes of a number that JAX cuts to half in a callback: it runs in a thread of its own, which knows of no x64
)


def call(function: Callable[..., PyTree], like: PyTree, *arguments: PyTree) -> PyTree:
    """Call a function on the host.

    Args:
      function: of the arguments with leaves as `read` takes them; gives a pytree of NumPy arrays.
      like: what it gives, as pytree of arrays or of `jax.ShapeDtypeStruct`.
      arguments: pytrees of arrays. On a CPU they are handed over without a copy.
    """
    shapes = jax.tree.map(lambda leaf: _halved(leaf) if _is_wide(leaf.dtype) else _same(leaf), like)

    def halved(*arguments: PyTree) -> PyTree:
        found = function(*arguments)
        return jax.tree.map(lambda leaf: leaf[..., None].view(np.uint32) if _is_wide(leaf.dtype) else leaf, found)

    sent = jax.tree.map(lambda leaf: _bits(leaf) if _is_wide(leaf.dtype) else leaf, arguments)
    found = jax.pure_callback(halved, shapes, *sent, vmap_method="sequential")
    return jax.tree.map(
        lambda leaf, to: jax.lax.bitcast_convert_type(leaf, to.dtype) if _is_wide(to.dtype) else leaf, found, like
    )


def read(leaf: Array, dtype: np.dtype) -> np.ndarray:
    """View a leaf that the host function is given, of an argument of some type, as it was."""
    array = np.asarray(leaf)
    return array.view(dtype)[..., 0] if _is_wide(dtype) else array


def _is_wide(dtype: np.dtype) -> bool:
    return np.dtype(dtype).itemsize == _WIDE


def _bits(leaf: Array) -> Array:
    return jax.lax.bitcast_convert_type(leaf, jnp.uint32)


def _same(leaf: PyTree) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype)


def _halved(leaf: PyTree) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct((*leaf.shape, 2), jnp.uint32)
