"""The Hessians of single examples on their common span: small matrices, if its dimension is small."""

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

from flatwide import trees
from flatwide.measure import operators
from flatwide.measure.spectrum.lanczos import check_finite
from flatwide.types import Array, PyTree

_SPARE = 8  # sketched directions beyond the rank, which show that the rank is complete
_CHUNK_BYTES = 2**28


class Span(NamedTuple):
    """Hessians on their common span.

    hessians: [n, r, r] in an orthonormal basis, float64.
    cost: in Hessian-vector products over the data set.
    """

    hessians: np.ndarray
    cost: float


def flat_tolerance(dtype: np.dtype) -> float:
    """Return the curvature, relative to the largest, below which a direction counts as flat in a dtype."""
    return max(100 * float(np.finfo(dtype).eps), 1e-7)


def curved_span(
    per_example_loss: Callable,
    params: PyTree,
    data: PyTree,
    *,
    key: Array,
    max_dimension: int,
    mask: PyTree | None = None,
    extra: PyTree | None = None,
) -> Span | None:
    """Compute the matrices of the Hessians H_i on the span of their ranges.

    Args:
      per_example_loss, params, data, key, mask, extra: as for `linear_stability`.
      max_dimension: the largest number of directions r for which matrices are computed.
    Returns: Span; None if the span is larger. Neglected curvatures are below `flat_tolerance` times the largest.
    Equation: sketch vectors sum_i g_i H_i z, with g and z standard normal, span the ranges of all H_i.
    Cost: about 2 r Hessian-vector products over the data; at most 2 max_dimension if None is returned.
    """
    others = () if extra is None else (extra,)
    params = trees.apply_mask(params, mask)
    flat = ravel_pytree(params)[0]
    kept = np.flatnonzero(_kept(params, mask))
    if len(kept) <= max_dimension:
        basis, cost = jnp.zeros((len(kept), flat.size), flat.dtype).at[np.arange(len(kept)), kept].set(1), 0
    else:
        basis, cost = _sketched(per_example_loss, params, data, others, mask, key, max_dimension, len(kept))
        if basis is None:
            return None
    if not len(basis):
        return Span(np.zeros((len(jax.tree.leaves(data)[0]), 0, 0)), cost)
    chunk = int(np.clip(_CHUNK_BYTES // (4 * basis.nbytes), 1, len(jax.tree.leaves(data)[0])))
    hessians = np.asarray(_written(per_example_loss, chunk, params, data, others, mask, basis), np.float64)
    check_finite(hessians)
    return Span((hessians + hessians.transpose(0, 2, 1)) / 2, cost + len(basis))


def _kept(params: PyTree, mask: PyTree | None) -> np.ndarray:
    ones = jax.tree.map(jnp.ones_like, params)
    return np.asarray(ravel_pytree(trees.apply_mask(ones, mask))[0]) != 0


def _sketched(
    per_example_loss: Callable,
    params: PyTree,
    data: PyTree,
    extra: tuple,
    mask: PyTree | None,
    key: Array,
    max_dimension: int,
    num_kept: int,
) -> tuple[Array | None, int]:
    """Find an orthonormal basis of the span, [r, P], by a sketch that doubles until it has spare directions."""
    if not max_dimension:
        return None, 0
    template = operators.operator(_unchanged, params, mask=mask)
    rows, size = [], min(32, max_dimension + _SPARE)
    while True:
        for _ in range(size - len(rows)):
            key, weigh, draw = jax.random.split(key, 3)
            vector = operators.random_normal(template, draw)
            rows.append(np.asarray(_sketch(per_example_loss, params, data, extra, mask, vector, weigh), np.float64))
        check_finite(rows[-1])
        # A normal sketch of r rows has the rank of the sketched matrix, up to r, with probability 1; spare rows show
        # that the rank has stopped growing (Halko, Martinsson and Tropp, 2011).
        sizes, right = np.linalg.svd(np.stack(rows), full_matrices=False)[1:]
        dtype = np.dtype(jax.tree.leaves(params)[0].dtype)
        rank = int(np.sum(sizes > flat_tolerance(dtype) * sizes[0]))
        if rank <= min(len(rows) - _SPARE, max_dimension) or (len(rows) >= num_kept and rank <= max_dimension):
            return jnp.asarray(right[:rank], dtype), len(rows)
        if len(rows) == max_dimension + _SPARE:
            return None, len(rows)
        size = min(2 * len(rows), max_dimension + _SPARE)


def _unchanged(vector: PyTree) -> PyTree:
    return vector


@functools.partial(jax.jit, static_argnums=0)
def _sketch(
    per_example_loss: Callable,
    params: PyTree,
    data: PyTree,
    extra: tuple,
    mask: PyTree | None,
    vector: PyTree,
    key: Array,
) -> Array:
    """Multiply one vector by a random combination of the Hessians."""
    num = len(jax.tree.leaves(data)[0])
    # Hessians that cancel in the mean belong to the span too: with random weights they cancel with probability 0.
    signs = jax.random.normal(key, (num,), ravel_pytree(params)[0].dtype)

    def loss(params: PyTree) -> Array:
        losses = jax.vmap(lambda example: per_example_loss(params, example, *extra))(data)
        return jnp.vdot(signs, losses) / num**0.5

    product = jax.jvp(jax.grad(loss), (params,), (vector,))[1]
    return ravel_pytree(trees.apply_mask(product, mask))[0]


@functools.partial(jax.jit, static_argnums=(0, 1))
def _written(
    per_example_loss: Callable,
    chunk: int,
    params: PyTree,
    data: PyTree,
    extra: tuple,
    mask: PyTree | None,
    basis: Array,
) -> Array:
    unflatten = ravel_pytree(params)[1]

    def matrix(example: PyTree) -> Array:
        curve = jax.linearize(lambda at: jax.grad(per_example_loss)(at, example, *extra), params)[1]
        products = jax.vmap(lambda row: ravel_pytree(curve(unflatten(row)))[0])(basis)
        return basis @ products.T

    return jax.lax.map(matrix, data, batch_size=chunk)
