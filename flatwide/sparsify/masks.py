"""Masks of the weights that pruning keeps.

A mask is computed once, on the host, from concrete weights. Only kernels are pruned (`trees.kernels`).
"""

import functools
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from flatwide import registry, trees
from flatwide.sparsify import densities, pruners
from flatwide.types import Array, PyTree


class LayerCount(NamedTuple):
    """The number of kept weights of a kernel, and of all its weights."""

    kept: int
    total: int


def make_mask(
    params: PyTree,
    *,
    pruner: str,
    sparsity: float,
    layer_density: str | None,
    key: Array,
    gradients: PyTree | None = None,
) -> PyTree | None:
    """Choose the weights to keep: those with the highest scores, exactly round((1 - sparsity) * n) of n.

    The n weights are those of each kernel ("uniform") or of all kernels ("erk", "global"); `densities.kept_of` defines
    how a half is rounded. Among equal scores the earlier weight is kept, so that the mask is deterministic.

    Args:
      params: pytree of concrete arrays.
      pruner: a key of PRUNERS.
      sparsity: fraction of the kernel entries to prune, in [0, 1).
      layer_density: a key of LAYER_DENSITIES; None for the default of the pruner.
      key: PRNG key; used only by "random".
      gradients: used only by "snip", with the structure of `params`; `snip_gradient` computes them.
    Returns: None if nothing is pruned ("none", or sparsity 0), else the structure of `params` with a boolean array of
      the leaf's shape for each kernel and a scalar True for every other leaf. A kernel may keep no weight at all; see
      `layer_counts`.
    Raises: ValueError if a name is unknown, the sparsity is out of range, gradients are missing or a score is not
      finite.
    Cost: about a second for 25 million weights.
    """
    density = _layer_density(pruner, layer_density)
    if pruner == "none" or sparsity == 0:
        return None
    kernels = _kernels(params)
    scores = _scores(pruner, kernels, key, gradients)
    _check_finite(pruner, scores)
    names, shapes = list(kernels), [kernel.shape for kernel in kernels.values()]
    mask: dict[str, Array] = {}
    for pool in densities.pools(shapes, sparsity=sparsity, layer_density=density):
        members = [names[i] for i in pool.kernels]
        kept = keep_highest([scores[name] for name in members], num_kept=pool.num_kept)
        mask |= {name: jnp.asarray(part) for name, part in zip(members, kept, strict=True)}
    whole = jnp.asarray(True)
    return jax.tree.map_with_path(lambda path, _: mask.get(trees.path_name(path), whole), params)


def full_mask(params: PyTree) -> PyTree:
    """Return the mask that keeps every weight, in the structure of `make_mask`; shapes and dtypes suffice."""
    return jax.tree.map(
        lambda leaf, is_kernel: jnp.ones(leaf.shape if is_kernel else (), bool), params, trees.kernels(params)
    )


def keep_highest(scores: list[np.ndarray], *, num_kept: int) -> list[np.ndarray]:
    """Mark exactly `num_kept` entries, those with the highest scores over all arrays.

    Args:
      scores: arrays of finite numbers.
    Returns: boolean arrays of the same shapes. Among equal scores the one with the lowest position is kept, counted
      through the arrays in their order, each row by row.
    """
    flat = np.concatenate([score.ravel() for score in scores]) if scores else np.empty(0)
    kept = np.zeros(flat.size, bool)
    if num_kept > 0:
        # A threshold and its ties instead of a sort: linear in the number of weights.
        threshold = np.partition(flat, flat.size - num_kept)[flat.size - num_kept]
        kept = flat > threshold
        ties = np.flatnonzero(flat == threshold)
        kept[ties[: num_kept - np.count_nonzero(kept)]] = True
    parts = np.split(kept, np.cumsum([score.size for score in scores])[:-1])
    return [part.reshape(score.shape) for part, score in zip(parts, scores, strict=False)]


def snip_gradient(loss_fn: Callable[[PyTree, Any], Array], params: PyTree, batches: Iterable[Any]) -> PyTree:
    """Compute the gradient for the scores of SNIP, averaged over batches.

    Args:
      loss_fn: (params, batch) -> scalar, the mean over the batch's examples.
      batches: one or more pytrees of arrays, with equal weights. Other inputs that change from call to call, such as
        keys, belong here too, so that the function is compiled only once.
    Returns: the mean gradient, in the structure of `params`.
    Raises: ValueError if there is no batch.
    Cost: one gradient per batch; memory of one more.
    """
    gradient = _compiled_gradient(loss_fn)
    total, num_batches = None, 0
    for batch in batches:
        batch_gradient = gradient(params, batch)
        total = batch_gradient if total is None else trees.add(total, batch_gradient)
        num_batches += 1
    if total is None:
        raise ValueError("config.snip_batches=0: expected at least one batch, to compute SNIP's gradient.")
    return trees.scale(1 / num_batches, total)


@functools.lru_cache(maxsize=8)
def _compiled_gradient(loss_fn: Callable[[PyTree, Any], Array]) -> Callable[[PyTree, Any], PyTree]:
    return jax.jit(jax.grad(loss_fn))


def layer_counts(mask: PyTree | None) -> dict[str, LayerCount]:
    """Count the kept weights of each kernel, by the kernel's name; a count of 0 disconnects the network there."""
    leaves = {trees.path_name(path): leaf for path, leaf in jax.tree.leaves_with_path(mask) if leaf.ndim > 0}
    return {name: LayerCount(int(np.count_nonzero(leaf)), leaf.size) for name, leaf in leaves.items()}


def num_nonzero_params(params: PyTree, mask: PyTree | None) -> int:
    """Count the trainable parameters: the kept kernel entries, and all entries of biases and norms.

    Args:
      params: pytree of arrays, or of shapes and dtypes.
      mask: from `make_mask`.
    """
    return trees.size(params) - sum(count.total - count.kept for count in layer_counts(mask).values())


def num_kept(params: PyTree, *, pruner: str, sparsity: float, layer_density: str | None) -> int:
    """Compute the result of `num_nonzero_params` without weights and a mask.

    Args:
      params: pytree of shapes and dtypes; the other arguments are those of `make_mask`.
    """
    density = _layer_density(pruner, layer_density)
    if pruner == "none" or sparsity == 0:
        return trees.size(params)
    kernels = _kernels(params)
    pools = densities.pools([leaf.shape for leaf in kernels.values()], sparsity=sparsity, layer_density=density)
    return trees.size(params) - trees.size(kernels) + sum(pool.num_kept for pool in pools)


def _layer_density(pruner: str, layer_density: str | None) -> str:
    if pruner not in pruners.PRUNERS:
        raise ValueError(registry.unknown("config.pruner", pruner, pruners.PRUNERS))
    return layer_density or pruners.PRUNERS[pruner].layer_density or "uniform"


def _kernels(params: PyTree) -> dict[str, Array]:
    """Collect the kernels by name, in the order of the parameters."""
    is_kernel = jax.tree.leaves(trees.kernels(params))
    leaves = jax.tree.leaves_with_path(params)
    return {trees.path_name(path): leaf for (path, leaf), pruned in zip(leaves, is_kernel, strict=True) if pruned}


def _scores(pruner: str, kernels: dict[str, Array], key: Array, gradients: PyTree | None) -> dict[str, np.ndarray]:
    if pruner == "random":
        return pruners.random_scores(kernels, key=key)
    if pruner == "magnitude":
        return pruners.magnitude_scores(kernels)
    if gradients is None:
        raise ValueError("pruner='snip' needs gradients: pass gradients=snip_gradient(loss_fn, params, batches).")
    return pruners.snip_scores(kernels, _kernels(gradients))


def _check_finite(pruner: str, scores: dict[str, np.ndarray]) -> None:
    for name, score in scores.items():
        num_bad = score.size - np.count_nonzero(np.isfinite(score))
        if num_bad:
            raise ValueError(
                f"config.pruner={pruner!r}: {num_bad} of {score.size} scores of {name} are not finite, so they cannot "
                "be ranked; check for inputs or initial weights that are NaN, infinite or too large."
            )
