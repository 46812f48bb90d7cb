"""Calls of Python functions on the host from a compiled program."""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax.experimental import io_callback
from jax.experimental.buffer_callback import buffer_callback

from flatwide.types import PyTree


def call(function: Callable[..., PyTree], like: PyTree, *arguments: PyTree, is_pure: bool = True) -> PyTree:
    """Call a function on the host, which reads the arguments without a copy.

    Args:
      function: of pytrees of buffers that NumPy (`np.asarray`) and PyTorch (`torch.from_dlpack`) view without a copy;
        it must not write to them or keep references to them. Returns a pytree of NumPy arrays.
      like: a pytree of arrays or of `jax.ShapeDtypeStruct` with the structure, shapes and dtypes of the result.
      arguments: pytrees of arrays.
      is_pure: whether calls with equal arguments return equal results; if not, each call is made exactly once.
    Returns: the function's pytree, as arrays of the compiled program.
    """
    shapes = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), like)
    if jax.default_backend() != "cpu":
        if not is_pure:
            return io_callback(function, shapes, *arguments, ordered=True)
        return jax.pure_callback(function, shapes, *arguments, vmap_method="sequential")

    # `pure_callback` copies its arguments on the threads of the program that waits for it, which deadlocks if there is
    # only one thread; and it truncates 64 bits to 32 in a separate thread, which does not see `enable_x64`.
    def fill(context: Any, outputs: PyTree, *buffers: PyTree) -> None:
        del context
        jax.tree.map(_write, outputs, function(*buffers))

    return buffer_callback(fill, shapes, has_side_effect=not is_pure, vmap_method="sequential")(*arguments)


def _write(output: Any, value: np.ndarray) -> None:
    np.asarray(output)[...] = value
