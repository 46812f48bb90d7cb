"""Particle simulation of the linearized steps x+ = J_B x, for the growth of E|x|^2 where matrices are too large."""

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

from flatwide import trees
from flatwide.measure import batching, inputs, operators
from flatwide.measure.inputs import Problem
from flatwide.types import Array, PyTree

_BLOCKS = 10  # blocks of steps, whose spread gives the error: 20 steps or more each by default
_STARTS = 8  # random vectors, multiplied by H, that span the initial particles; a choice: burn-in forgets them


class Growth(NamedTuple):
    """The factor by which E|x|^2 grows in each step.

    value: estimate; standard_error: of the particles' noise; low, high: 95 % interval, by Student's t.
    num_draws: number of examples in all steps, two products each.
    """

    value: float
    standard_error: float
    low: float
    high: float
    num_draws: int


@dataclass(frozen=True)
class _MeanLoss:
    """The mean over a batch of a loss of single examples; equal for equal losses, so that programs are shared."""

    loss_fn: Callable

    def __call__(self, params: PyTree, batch: PyTree, *extra: PyTree) -> Array:
        return jnp.mean(jax.vmap(lambda example: self.loss_fn(params, example, *extra))(batch))


def in_batches(problem: Problem) -> Problem:
    """Return the problem of the mean over all examples, in one batch, of a problem of single examples."""
    return replace(problem, loss_fn=_MeanLoss(problem.loss_fn), data=batching.collect(problem.data))


def simulated_growth(
    problem: Problem,
    *,
    learning_rate: float,
    rho: float,
    batch_size: int,
    key: Array,
    with_replacement: bool = False,
    num_particles: int = 256,
    num_steps: int = 400,
) -> Growth:
    """Estimate the growth of E|x|^2 under SAM's steps, linearized at params, in the curved directions of the loss.

    Every particle has a direction x of unit norm and draws a separate batch each step; the particles are then resampled
    in proportion to |J_B x|^2. So they concentrate on the paths that dominate E|x|^2, however rare, and the mean of
    |J_B x|^2 is the growth. The first half of the steps is discarded as burn-in; weakly curved directions take longer
    to converge.

    Args:
      problem: of single examples. learning_rate, rho, batch_size, key, with_replacement: as for `linear_stability`.
      num_particles: N >= 2; the estimate has a bias of the order 1 / N besides its error. num_steps: at least 40.
    Raises: ValueError if an option is out of range.
    Equation: x+ = x - eta (H_B x + rho H_B H_B x).
    Cost: 2 N num_steps Hessian-vector products of a batch, and 8 over the data. Memory: 2 N vectors like params.
    Source: Del Moral (2004), Feynman-Kac Formulae, for the particle method.
    """
    from scipy.special import stdtrit  # scipy.stats has the same and takes a second to import

    inputs.check_at_least(2, num_particles=num_particles)
    inputs.check_at_least(40, ", the first half of which is discarded", num_steps=num_steps)
    start_key, mix_key, key = jax.random.split(key, 3)
    basis = _curved(operators.hessian_operator(in_batches(problem)), jax.random.split(start_key, _STARTS))
    # In the range of H: a flat direction never shrinks, and would mask the curved ones.
    particles = jax.random.normal(mix_key, (num_particles, _STARTS), basis.dtype) @ basis
    num_bytes = 8 * batch_size * trees.size(problem.params) * basis.dtype.itemsize
    by_step = _simulate(
        problem,
        particles,
        jnp.asarray([learning_rate, rho], basis.dtype),
        key,
        batch_size=batch_size,
        with_replacement=with_replacement,
        num_steps=num_steps,
        chunk=int(np.clip(batching.CHUNK_BYTES // num_bytes, 1, num_particles)),
    )
    later = np.asarray(by_step, np.float64)[num_steps // 2 :]
    # Successive steps share their particles; means of long blocks are nearly independent, and Student's t of ten has 9
    # degrees of freedom.
    blocks = np.array([block.mean() for block in np.array_split(later, _BLOCKS)])
    value, error = float(later.mean()), float(blocks.std(ddof=1) / math.sqrt(_BLOCKS))
    reach = float(stdtrit(_BLOCKS - 1, 0.975)) * error
    return Growth(
        value=value,
        standard_error=error,
        low=value - reach,
        high=value + reach,
        num_draws=num_particles * num_steps * batch_size,
    )


@jax.jit
def _curved(hessian: operators.Operator, keys: Array) -> Array:
    """Multiply random vectors by the Hessian: [number of keys, P]."""
    product = hessian.open()
    return jax.lax.map(lambda key: ravel_pytree(product(operators.random_normal(hessian, key)))[0], keys)


@functools.partial(jax.jit, static_argnames=("batch_size", "with_replacement", "num_steps", "chunk"))
def _simulate(
    problem: Problem,
    particles: Array,
    steps: Array,
    key: Array,
    *,
    batch_size: int,
    with_replacement: bool,
    num_steps: int,
    chunk: int,
) -> Array:
    mean_loss, num = replace(problem, loss_fn=_MeanLoss(problem.loss_fn)), batching.num_examples(problem.data)
    unflatten = ravel_pytree(problem.params)[1]

    def batch_of(key: Array) -> PyTree:
        if with_replacement or batch_size == 1:
            indices = jax.random.randint(key, (batch_size,), 0, num)
        else:
            indices = jax.random.choice(key, num, (batch_size,), replace=False)
        return jax.tree.map(lambda leaf: leaf[indices], problem.data)

    def step(operands: tuple[Array, Array]) -> Array:
        particle, key = operands
        curve = mean_loss.curve(batch_of(key))

        def product(flat: Array) -> Array:
            return ravel_pytree(curve(trees.apply_mask(unflatten(flat), problem.mask)))[0]

        once = product(particle)
        return particle - steps[0] * (once + steps[1] * product(once))

    def population(particles: Array, key: Array) -> tuple[Array, Array]:
        lengths = jnp.linalg.norm(particles, axis=1, keepdims=True)
        particles = particles / jnp.where(lengths > 0, lengths, 1)
        move_key, draw_key = jax.random.split(key)
        moved = jax.lax.map(step, (particles, jax.random.split(move_key, len(particles))), batch_size=chunk)
        weights = jnp.sum(moved * moved, axis=1)
        # Systematic resampling: one random offset, so that a particle of w mean weights is drawn w times, within 1.
        reached = jnp.cumsum(weights)
        marks = (jnp.arange(len(weights)) + jax.random.uniform(draw_key)) / len(weights) * reached[-1]
        indices = jnp.clip(jnp.searchsorted(reached, marks), 0, len(weights) - 1)
        return moved[indices], jnp.mean(weights)

    return jax.lax.scan(population, particles, jax.random.split(key, num_steps))[1]
