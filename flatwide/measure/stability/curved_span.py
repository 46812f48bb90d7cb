"""The Hessians of single examples on their common span: small matrices, if its dimension is small."""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

from flatwide import trees
from flatwide.measure import batching
from flatwide.measure.inputs import Problem
from flatwide.measure.spectrum.lanczos import check_finite
from flatwide.types import Array, PyTree

_SPARE = 8  # sketched directions beyond the rank; 5 to 10 suffice (Halko, Martinsson and Tropp, 2011, section 1.3)


class Span(NamedTuple):
    """Hessians on their common span.

    hessians: [n, r, r] in an orthonormal basis, float64.
    cost: in Hessian-vector products over the data set.
    """

    hessians: np.ndarray
    cost: float


def flat_tolerance(dtype: np.dtype) -> float:
    """Return the curvature, relative to the largest, below which a direction counts as flat in a dtype."""
    # 100 rounding errors are those of a network's products. Below 1e-7 a stable step changes x by about
    # 2e-7 of it at most, which no verdict can tell from flat.
    return max(100 * float(np.finfo(dtype).eps), 1e-7)


def curved_span(problem: Problem, *, key: Array, max_dimension: int) -> Span | None:
    """Compute the matrices of the Hessians H_i of examples on the span of their ranges.

    Args:
      max_dimension: the largest number of directions r for which matrices are computed.
    Returns: Span; None if the span is larger. Neglected curvatures are below `flat_tolerance` times the largest.
    Equation: sketch vectors sum_i g_i H_i z, with g and z standard normal, span the ranges of all H_i.
    Cost: about 2 r Hessian-vector products over the data; at most 2 max_dimension if None is returned.
    """
    flat, num = ravel_pytree(problem.params)[0], batching.num_examples(problem.data)
    ones = trees.apply_mask(jax.tree.map(jnp.ones_like, problem.params), problem.mask)
    kept = np.flatnonzero(ravel_pytree(ones)[0])
    if len(kept) <= max_dimension:
        basis, cost = jnp.zeros((len(kept), flat.size), flat.dtype).at[np.arange(len(kept)), kept].set(1), 0
    else:
        basis, cost = _sketched(problem, key, max_dimension, len(kept))
        if basis is None:
            return None
    if not len(basis):
        return Span(np.zeros((num, 0, 0)), cost)
    chunk = int(np.clip(batching.CHUNK_BYTES // (4 * basis.nbytes), 1, num))
    hessians = np.asarray(_written(problem, basis, chunk), np.float64)
    check_finite(hessians)
    return Span((hessians + hessians.transpose(0, 2, 1)) / 2, cost + len(basis))


def _sketched(problem: Problem, key: Array, max_dimension: int, num_kept: int) -> tuple[Array | None, int]:
    """Find an orthonormal basis of the span, [r, P], by a sketch that doubles until it has spare directions."""
    if not max_dimension:
        return None, 0
    dtype = np.dtype(jax.tree.leaves(problem.params)[0].dtype)
    rows, size = [], min(32, max_dimension + _SPARE)
    while True:
        for _ in range(size - len(rows)):
            key, weigh, draw = jax.random.split(key, 3)
            rows.append(np.asarray(_sketch(problem, weigh, draw), np.float64))
        check_finite(rows[-1])
        # A normal sketch of r rows has the rank of the sketched matrix, up to r, with probability 1; spare rows show
        # that the rank has stopped growing (Halko, Martinsson and Tropp, 2011).
        sizes, right = np.linalg.svd(np.stack(rows), full_matrices=False)[1:]
        rank = int(np.sum(sizes > flat_tolerance(dtype) * sizes[0]))
        if rank <= min(len(rows) - _SPARE, max_dimension) or (len(rows) >= num_kept and rank <= max_dimension):
            return jnp.asarray(right[:rank], dtype), len(rows)
        if len(rows) == max_dimension + _SPARE:
            return None, len(rows)
        size = min(2 * len(rows), max_dimension + _SPARE)


@jax.jit
def _sketch(problem: Problem, weigh: Array, draw: Array) -> Array:
    """Multiply a random vector by a random combination of the Hessians."""
    num, dtype = batching.num_examples(problem.data), jax.tree.leaves(problem.params)[0].dtype
    # Hessians that cancel in the mean belong to the span too: with random weights they cancel with probability 0.
    signs = jax.random.normal(weigh, (num,), dtype)
    vector = trees.apply_mask(trees.random_normal(draw, problem.params), problem.mask)

    def loss(params: PyTree) -> Array:
        return jnp.vdot(signs, jax.vmap(problem.loss, (None, 0))(params, problem.data)) / num**0.5

    product = jax.jvp(jax.grad(loss), (problem.params,), (vector,))[1]
    return ravel_pytree(trees.apply_mask(product, problem.mask))[0]


@functools.partial(jax.jit, static_argnames="chunk")
def _written(problem: Problem, basis: Array, chunk: int) -> Array:
    unflatten = ravel_pytree(problem.params)[1]

    def matrix(example: PyTree) -> Array:
        curve = problem.curve(example)
        return basis @ jax.vmap(lambda row: ravel_pytree(curve(unflatten(row)))[0])(basis).T

    return jax.lax.map(matrix, problem.data, batch_size=chunk)
