"""Gradients of a batch in pieces, one in memory at a time."""

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp

from flatwide import trees
from flatwide.types import PyTree


def accumulated(differentiate: Callable, num_pieces: int, weigh: Callable | None) -> Callable:
    """Compute a gradient function in pieces of the batch, for memory only."""

    def one_sweep(params, state, *arguments, **keywords):
        return *differentiate(params, *arguments, **keywords), state

    def summed(params, batch, *rest, **keywords):
        size = _batch_size(batch, "accumulation_steps")
        if size % num_pieces:
            raise ValueError(
                f"accumulation_steps={num_pieces}: expected a divisor of the {size} examples that share a "
                "perturbation; change it, the batch size or the microbatch."
            )
        # Which rows form a piece changes no result here: every k-th row, so that each device holds rows of each piece.
        pieces = _cut(batch, (size // num_pieces, num_pieces), rows_axis=0)
        value, gradient, _ = _mean_over_pieces(one_sweep, params, (), pieces, rest, keywords, axis=1, weigh=weigh)
        return value, gradient

    return summed


def in_microbatches(step: Callable, microbatch: int, weigh: Callable | None) -> Callable:
    """Average a step over microbatches, each with a perturbation of its own."""

    def averaged(params, state, batch, *rest, **keywords):
        size = _batch_size(batch, "microbatch")
        if size % microbatch:
            raise ValueError(f"microbatch={microbatch}: expected a divisor of the batch size {size}; change either.")
        if size == microbatch:
            return step(params, state, batch, *rest, **keywords)
        pieces = _cut(batch, (size // microbatch, microbatch), rows_axis=1)
        return _mean_over_pieces(step, params, state, pieces, rest, keywords, axis=0, weigh=weigh)

    return averaged


def _cut(batch: PyTree, shape: tuple[int, int], *, rows_axis: int) -> PyTree:
    """Arrange the rows of a batch in two axes, with the rows of each piece spread over the devices that hold the batch.

    Only a mesh with explicit axes says at tracing time where the rows lie; otherwise the compiler decides.
    """

    def cut(leaf):
        leaf = jnp.asarray(leaf)
        sharding = jax.typeof(leaf).sharding
        new_shape = (*shape, *leaf.shape[1:])
        if all(axes is None for axes in sharding.spec):
            return leaf.reshape(new_shape)
        over, *others = sharding.spec
        num_devices = math.prod(sharding.mesh.shape[axis] for axis in jax.tree.leaves(over))
        spec = [None, None, *others]
        spec[rows_axis] = over if shape[rows_axis] % num_devices == 0 else None
        spread = jax.sharding.NamedSharding(sharding.mesh, jax.sharding.PartitionSpec(*spec))
        return jax.lax.reshape(leaf, new_shape, out_sharding=spread)

    return jax.tree.map(cut, batch)


def _mean_over_pieces(step, params, state, pieces, rest, keywords, *, axis, weigh):
    """Average values and gradients of a step over the pieces that lie along an axis, one piece in memory at a time."""
    num_pieces = jax.tree.leaves(pieces)[0].shape[axis]

    def one(carry, index):
        state, total = carry
        piece = jax.tree.map(lambda leaf: jax.lax.dynamic_index_in_dim(leaf, index, axis, keepdims=False), pieces)
        own_rest, own_keywords = _fold_keys((rest, keywords), index)
        value, gradient, new_state = step(params, state, piece, *own_rest, **own_keywords)
        weight = jnp.ones(()) if weigh is None else jnp.asarray(weigh(piece), float)
        # `where`, not a product: an empty piece may hold 0/0, and 0 times NaN is NaN.
        total = jax.tree.map(lambda t, g: t + jnp.where(weight > 0, weight * g, 0).astype(t.dtype), total, gradient)
        new_state = jax.tree.map(lambda new, old: jnp.where(weight > 0, new, old), new_state, state)
        return (new_state, total), (value, weight)

    start = (state, jax.tree.map(jnp.zeros_like, params))
    (state, total), (values, weights) = jax.lax.scan(one, start, jnp.arange(num_pieces))
    divisor = jnp.sum(weights)
    divisor = jnp.where(divisor > 0, divisor, 1)

    def mean(path, leaf):
        if not jnp.issubdtype(leaf.dtype, jnp.floating):
            raise ValueError(
                f"aux leaf {trees.path_name(path)!r} of type {leaf.dtype}: expected floating point, for its mean over "
                "the pieces of the batch; convert it to float in the loss function."
            )
        each = weights.reshape(-1, *(1,) * (leaf.ndim - 1))
        return (jnp.sum(jnp.where(each > 0, each * leaf, 0), axis=0) / divisor).astype(leaf.dtype)

    gradient = jax.tree.map(lambda t: (t / divisor).astype(t.dtype), total)
    return jax.tree.map_with_path(mean, values), gradient, state


def _fold_keys(arguments, index):
    """Give a piece PRNG keys of its own; everything else is left as it is."""

    def fold(leaf):
        if not (isinstance(leaf, jax.Array) and jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)):
            return leaf
        folded = jax.vmap(lambda key: jax.random.fold_in(key, index))(leaf.reshape(-1))
        return folded.reshape(leaf.shape)

    return jax.tree.map(fold, arguments)


def _batch_size(batch: PyTree, option: str) -> int:
    """Read the number of examples off the leading axes of a batch."""
    named = {trees.path_name(path): jnp.shape(leaf) for path, leaf in jax.tree.leaves_with_path(batch)}
    if len({shape[:1] for shape in named.values()}) != 1 or () in named.values():
        raise ValueError(
            f"batch with leaves of shapes {named}: expected arrays with one leading axis of examples, which "
            f"{option} cuts; hand other arguments to the loss function after the batch."
        )
    return next(iter(named.values()))[0]
