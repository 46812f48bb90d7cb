"""Smoothness and PL constants, which determine how fast gradient descent and SAM converge, from gradients on a path."""

import functools
import math
from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from flatwide import trees
from flatwide.measure import batching, inputs
from flatwide.measure.inputs import Problem
from flatwide.measure.spectrum.lanczos import check_finite
from flatwide.types import Array, PyTree

FRACTIONS = tuple(k / 10 for k in range(1, 11))  # those of Shin et al. (2025), equations 7 and 8


class SmoothnessAndPL(NamedTuple):
    """Estimates of the smoothness and PL constants on the segment between two sets of parameters.

    smoothness: beta, in loss per squared unit of parameter: a lower bound.
    pl_constant: alpha, same unit: an upper bound; NaN if the loss is at its minimum on the whole segment.
    distance: |next_params - params|, in units of parameter.
    fractions: [n] of the segment, where the following arrays were measured.
    smoothness_along, pl_constant_along: [n] the values whose maximum and minimum are the two constants.
    losses, gradient_norms: [n + 1], the first at the start.
    """

    smoothness: float
    pl_constant: float
    distance: float
    fractions: np.ndarray
    smoothness_along: np.ndarray
    pl_constant_along: np.ndarray
    losses: np.ndarray
    gradient_norms: np.ndarray


def smoothness_and_pl(
    problem: Problem, next_params: PyTree, *, fractions: Sequence[float] = FRACTIONS, minimum: float = 0.0
) -> SmoothnessAndPL:
    """Estimate the constants of smoothness and of the PL inequality between two sets of parameters.

    Args:
      problem: of batches, at x_k; with one batch of the data, the constants are those of that batch.
      next_params: x_k+1; both such as before and after a step, or at the ends of two epochs.
      fractions: [n] of the segment, each in (0, 1].
      minimum: f(x*); 0 if the network can fit all examples. If it is too low, pl_constant is too low.
    Returns: SmoothnessAndPL.
    Raises: ValueError for equal params, params that do not fit, fractions out of range, or a loss or gradient that is
      not finite.
    Equation: with d = x_k+1 - x_k, beta = max over gamma of |grad f(x_k + gamma d) - grad f(x_k)| / |gamma d|, and
      alpha = min over gamma of |grad f(x_k + gamma d)|^2 / (f(x_k + gamma d) - f(x*)); no factor 2 in the inequality.
    Cost: n + 1 gradients; memory of two.
    Source: Shin et al. (2025), equations 7 and 8; Zhang et al. (2020), Why gradient clipping accelerates training.
    """
    next_params = inputs.numbers(next_params, problem.mask, problem.loss_fn)[0]
    inputs.check_like(next_params, problem.params, "next_params")
    parts = np.asarray(fractions, np.float64)
    if parts.ndim != 1 or not len(parts) or not (np.all(parts > 0) and np.all(parts <= 1)):
        raise ValueError(f"fractions={tuple(fractions)}: expected numbers in (0, 1], such as {FRACTIONS}.")
    distance = float(trees.norm(trees.subtract(next_params, problem.params)))
    if not distance > 0:
        raise ValueError("next_params: expected values different from params; the segment between them has length 0.")
    at = jnp.asarray(np.concatenate([[0.0], parts]), float)
    losses, norms, changes = (np.asarray(column, np.float64) for column in _along(problem, next_params, at))
    if not np.all(np.isfinite([losses, norms, changes])):
        raise ValueError(
            "the loss or its gradient is not finite between params and next_params: expected finite numbers; look for "
            "overflow in the loss or non-finite numbers in the data."
        )
    # A Lipschitz constant is at least any difference quotient: the largest of these is a lower bound of beta.
    smoothness_along = changes[1:] / (parts * distance)
    above = losses[1:] - minimum
    pl_along = np.divide(norms[1:] ** 2, above, out=np.full_like(above, np.nan), where=above > 0)
    lowest = float(np.nanmin(pl_along)) if np.any(above > 0) else math.nan
    return SmoothnessAndPL(
        smoothness=float(np.max(smoothness_along)),
        pl_constant=lowest,
        distance=distance,
        fractions=parts,
        smoothness_along=smoothness_along,
        pl_constant_along=pl_along,
        losses=losses,
        gradient_norms=norms,
    )


@jax.jit
def _along(problem: Problem, next_params: PyTree, fractions: Array) -> tuple[Array, Array, Array]:
    way = trees.subtract(next_params, problem.params)

    def at(first: PyTree, fraction: Array) -> tuple[PyTree, tuple[Array, Array, Array]]:
        here = trees.add(problem.params, trees.scale(fraction, way))
        loss, gradient = problem.mean(lambda batch: jax.value_and_grad(problem.loss)(here, batch))
        gradient = trees.apply_mask(gradient, problem.mask)
        first = jax.tree.map(lambda old, new: jnp.where(fraction == 0, new, old), first, gradient)
        change = trees.norm(trees.subtract(gradient, first))
        return first, (loss, trees.norm(gradient), change)

    return jax.lax.scan(at, jax.tree.map(jnp.zeros_like, problem.params), fractions)[1]


def largest_example_smoothness(
    problem: Problem, *, key: Array, num_steps: int = 20, batch_size: int = 64
) -> tuple[float, np.ndarray]:
    """Estimate the largest curvature of any single example: the beta of the theorems, at these parameters.

    Args:
      problem: of single examples. key: PRNG key of the starting vectors.
      num_steps: of the power iteration, >= 1.
      batch_size: examples that are iterated in parallel; memory is that of as many Hessian-vector products.
    Returns: the largest over examples, and [N] the largest |eigenvalue| of each example's Hessian, both lower bounds;
      in loss per squared unit of parameter.
    Raises: ValueError if num_steps < 1 or a product is not finite.
    Equation: max over i of |H_i v_i|, v_i after power steps v <- H_i v / |H_i v|.
    Cost: num_steps + 1 Hessian-vector products over the data set.
    Source: Shin et al. (2025), theorem 6.6, for its use.
    """
    inputs.check_at_least(1, num_steps=num_steps)
    key, chunks = inputs.random_key(key), batching.collect(problem.examples, batch_size=batch_size)
    groups = [_example_curvatures(replace(problem, data=group), key, num_steps) for group in chunks.groups]
    values = np.concatenate([np.asarray(group, np.float64).reshape(-1) for group in groups])
    check_finite(values)
    return float(values.max()), values


@functools.partial(jax.jit, static_argnames="num_steps")
def _example_curvatures(problem: Problem, key: Array, num_steps: int) -> Array:
    start = trees.apply_mask(trees.random_normal(key, problem.params), problem.mask)

    def curvature(example: PyTree) -> Array:
        def step(_, state: tuple[PyTree, Array]) -> tuple[PyTree, Array]:
            vector, length = state
            unit = trees.scale(1 / jnp.where(length > 0, length, 1), vector)
            product = jax.jvp(lambda at: jax.grad(problem.loss)(at, example), (problem.params,), (unit,))[1]
            product = trees.apply_mask(product, problem.mask)
            return product, trees.norm(product)

        return jax.lax.fori_loop(0, num_steps + 1, step, (start, trees.norm(start)))[1]

    # |H v| <= |H| for every unit v: the last length is a lower bound, and power steps only increase it.
    return jax.lax.map(jax.vmap(curvature), problem.data)
