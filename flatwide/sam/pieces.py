"""Gradients of a batch in pieces, with one piece in memory at a time."""

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp

from flatwide import trees
from flatwide.types import PyTree


def accumulated(differentiate: Callable, num_pieces: int, weigh: Callable | None) -> Callable:
    """Build a function that computes a gradient in pieces of the batch, to save memory."""

    def step(params, state, *arguments, **keywords):
        return *differentiate(params, *arguments, **keywords), state

    def summed(params, batch, *rest, **keywords):
        size = _batch_size(batch, "accumulation_steps")
        if size % num_pieces:
            raise ValueError(
                f"accumulation_steps={num_pieces}: expected a divisor of the {size} examples that share a "
                "perturbation; change it, the batch size or the microbatch."
            )
        # The choice of rows changes no result here: take every k-th one, so that each device holds rows of each piece.
        pieces = _cut(batch, (size // num_pieces, num_pieces), rows_axis=0)
        value, gradient, _ = _mean_over_pieces(step, params, (), pieces, rest, keywords, axis=1, weigh=weigh)
        return value, gradient

    return summed


def in_microbatches(
    step: Callable, microbatch: int, weigh: Callable | None, sharding: jax.sharding.NamedSharding | None = None
) -> Callable:
    """Build the average of a step over microbatches, each with its own perturbation.

    Args:
      sharding: of the batch, over the devices that take whole microbatches; None lets the compiler divide the work.
    """

    def averaged(params, state, batch, *rest, **keywords):
        size = _batch_size(batch, "microbatch")
        if size % microbatch:
            raise ValueError(f"microbatch={microbatch}: expected a divisor of the batch size {size}; change either.")
        if size == microbatch:
            return step(params, state, batch, *rest, **keywords)
        pieces = _cut(batch, (size // microbatch, microbatch), rows_axis=1)
        # A state passes from each microbatch to the next, so they cannot run in parallel.
        is_parallel = sharding and goes_to_devices(size // microbatch, sharding.num_devices, ascent_state=state)
        over = sharding if is_parallel else None
        return _mean_over_pieces(step, params, state, pieces, rest, keywords, axis=0, weigh=weigh, sharding=over)

    return averaged


def goes_to_devices(num_microbatches: int, num_devices: int, *, ascent_state: PyTree) -> bool:
    """Whether each device can take whole microbatches: their number divides, and the rule has no state."""
    return num_microbatches % num_devices == 0 and not jax.tree.leaves(ascent_state)


def _cut(batch: PyTree, shape: tuple[int, int], *, rows_axis: int) -> PyTree:
    """Arrange the rows of a batch in two axes, with the rows of each piece split over the devices of the batch."""

    def cut(leaf):
        leaf = jnp.asarray(leaf)
        sharding = jax.typeof(leaf).sharding
        new_shape = (*shape, *leaf.shape[1:])
        # Only a mesh with explicit axes has a sharding at tracing time; otherwise the compiler decides.
        if all(axes is None for axes in sharding.spec):
            return leaf.reshape(new_shape)
        over, *others = sharding.spec
        num_devices = math.prod(sharding.mesh.shape[axis] for axis in jax.tree.leaves(over))
        spec = [None, None, *others]
        spec[rows_axis] = over if shape[rows_axis] % num_devices == 0 else None
        spread = jax.sharding.NamedSharding(sharding.mesh, jax.sharding.PartitionSpec(*spec))
        return jax.lax.reshape(leaf, new_shape, out_sharding=spread)

    return jax.tree.map(cut, batch)


def _mean_over_pieces(step, params, state, pieces, rest, keywords, *, axis, weigh, sharding=None):
    """Average a step over the pieces along an axis; with a sharding, each device takes its own, in their order."""

    def sweep(params, state, pieces, rest, keywords, first=0):
        def add_piece(carry, index):
            state, total = carry
            piece = jax.tree.map(lambda leaf: jax.lax.dynamic_index_in_dim(leaf, index, axis, keepdims=False), pieces)
            folded_rest, folded_keywords = _fold_keys((rest, keywords), first + index)
            value, gradient, new_state = step(params, state, piece, *folded_rest, **folded_keywords)
            weight = jnp.ones(()) if weigh is None else jnp.asarray(weigh(piece), float)
            # `where`, not a product: an empty piece may hold 0/0, and 0 times NaN is NaN.
            total = jax.tree.map(lambda t, g: t + jnp.where(weight > 0, weight * g, 0).astype(t.dtype), total, gradient)
            new_state = jax.tree.map(lambda new, old: jnp.where(weight > 0, new, old), new_state, state)
            return (new_state, total), (value, weight)

        start = (state, jax.tree.map(jnp.zeros_like, params))
        return jax.lax.scan(add_piece, start, jnp.arange(jax.tree.leaves(pieces)[0].shape[axis]))

    if sharding is not None:
        sweep = _on_each_device(sweep, sharding)
    (state, total), (values, weights) = sweep(params, state, pieces, rest, keywords)
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


def _on_each_device(sweep: Callable, sharding: jax.sharding.NamedSharding) -> Callable:
    """Run a sweep over the local pieces of each device, and sum the gradients."""
    whole, split = jax.sharding.PartitionSpec(), sharding.spec
    axis = split[0]

    def local_sweep(params, state, pieces, rest, keywords):
        first = jax.lax.axis_index(axis) * jax.tree.leaves(pieces)[0].shape[0]
        (state, total), by_piece = sweep(params, state, pieces, rest, keywords, first)
        return (state, jax.lax.psum(total, axis)), by_piece

    specs = {"in_specs": (whole, whole, split, whole, whole), "out_specs": (whole, split)}
    return jax.shard_map(local_sweep, mesh=sharding.mesh, check_vma=False, **specs)


def _fold_keys(arguments, index):
    """Fold the number of a piece into PRNG keys; return all other arguments unchanged."""

    def fold(leaf):
        if not (isinstance(leaf, jax.Array) and jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)):
            return leaf
        folded = jax.vmap(lambda key: jax.random.fold_in(key, index))(leaf.reshape(-1))
        return folded.reshape(leaf.shape)

    return jax.tree.map(fold, arguments)


def _batch_size(batch: PyTree, option: str) -> int:
    """Return the number of examples, the leading axis of all leaves of a batch."""
    named = {trees.path_name(path): jnp.shape(leaf) for path, leaf in jax.tree.leaves_with_path(batch)}
    if len({shape[:1] for shape in named.values()}) != 1 or () in named.values():
        raise ValueError(
            f"batch with leaves of shapes {named}: expected arrays with one leading axis of examples, which "
            f"{option} divides; pass other arguments to the loss function after the batch."
        )
    return next(iter(named.values()))[0]
