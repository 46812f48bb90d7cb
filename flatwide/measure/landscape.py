"""A loss, or another function of a network, along lines and on planes in parameter space."""

import functools
from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from flatwide.measure import batching, inputs
from flatwide.measure.subspace import Subspace, displaced, line_through
from flatwide.types import Array, PyTree


def surface(
    measure_fn: Callable,
    subspace: Subspace,
    axes: Sequence[np.ndarray],
    batches: PyTree | None = None,
    *,
    extra_fn: Callable | None = None,
    batch_size: int | None = None,
    weigh: Callable[[PyTree], float] | None = None,
) -> PyTree:
    """Evaluate functions of a network at the points of a grid in parameter space.

    Args:
      measure_fn: (params, batch) -> pytree of scalars, means over the batch, such as {"loss": ..., "accuracy": ...}; a
        loss function is one. (params, batch, extra) for a subspace with `extra`.
      subspace: of K dimensions, such as a line or plane.
      axes: K arrays, the coordinates of the grid along each direction.
      batches, batch_size, weigh: as for `problem`.
      extra_fn: (params, batch, extra) -> extra of the batch, such as its means and variances of activations: their mean
        over all batches replaces the interpolated `extra` at each point, at the cost of one more pass.
    Returns: the pytree of measure_fn with arrays of shape [len(axes[0]), ..., len(axes[K - 1])]; NaN or inf where the
      network overflows.
    Raises: ValueError if axes do not fit, there is no data, or extra_fn is given without extra.
    Cost: one pass over the data per point, in one compiled program.
    """
    axes = [np.asarray(axis, np.float64) for axis in axes]
    if len(axes) != len(subspace.directions) or any(axis.ndim != 1 or not len(axis) for axis in axes):
        raise ValueError(
            f"axes of shapes {[axis.shape for axis in axes]}: expected {len(subspace.directions)} arrays of one axis, "
            "one for each direction."
        )
    grid = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1)
    measure_fn, data = inputs.with_data(measure_fn, batches, batch_size, weigh)
    values = _at_points(measure_fn, subspace, grid.reshape(-1, len(axes)), data, extra_fn)
    return jax.tree.map(lambda leaf: leaf.reshape(grid.shape[:-1]), values)


class Barrier(NamedTuple):
    """How far the loss rises between two networks.

    value: the largest excess of the loss on the line over linear interpolation of the losses at its ends; >= 0, in
      units of loss.
    position: the position of the maximum, from 0 (start) to 1 (end).
    positions, losses: [n] all that were evaluated, sorted by position.
    distance: |end - start|, in parameter units.
    """

    value: float
    position: float
    positions: np.ndarray
    losses: np.ndarray
    distance: float


def barrier(
    loss_fn: Callable,
    start: PyTree,
    end: PyTree,
    batches: PyTree | None = None,
    *,
    num_points: int = 21,
    num_refinements: int = 1,
    extras: tuple[PyTree, PyTree] | None = None,
    extra_fn: Callable | None = None,
    batch_size: int | None = None,
    weigh: Callable[[PyTree], float] | None = None,
) -> Barrier:
    """Compute the barrier of the loss on the straight line between two networks.

    Args:
      loss_fn, batches, batch_size, weigh: as for `problem`.
      start, end: parameters of the same structure and shapes.
      num_points: of the grid on the line, ends included, >= 3; a bump narrower than its spacing can be missed.
      num_refinements: number of refinements, each a grid of num_points between the neighbours of the highest point,
        which locates the maximum (num_points - 1) / 2 times more precisely.
      extras, extra_fn: as for `line_through` and `surface`.
    Returns: Barrier; its value is inf if the loss overflows on the line.
    Raises: ValueError for an option out of range, or parameters that do not fit or are not finite.
    Equation: max over t of L((1 - t) start + t end) - (1 - t) L(start) - t L(end).
    Cost: num_points (num_refinements + 1) passes over the data.
    Source: Frankle et al. (2020), Linear mode connectivity and the lottery ticket hypothesis.
    """
    inputs.check_at_least(3, num_points=num_points)
    inputs.check_at_least(0, num_refinements=num_refinements)
    for params in (start, end):
        inputs.check_params(params, None)
    line = line_through(start, end, extras=extras)
    loss_fn, data = inputs.with_data(loss_fn, batches, batch_size, weigh)
    positions, losses = np.zeros(0), np.zeros(0)
    low, high = 0.0, 1.0
    for _ in range(num_refinements + 1):
        grid = np.linspace(low, high, num_points)
        new_losses = _at_points(loss_fn, line, grid[:, None], data, extra_fn)
        positions, indices = np.unique(np.concatenate([positions, grid]), return_index=True)
        losses = np.concatenate([losses, new_losses])[indices]
        with np.errstate(invalid="ignore"):
            excess = losses - (1 - positions) * losses[0] - positions * losses[-1]
        excess = np.where(np.isnan(excess), np.inf, excess)  # an overflowing loss counts as a barrier
        top = int(np.argmax(excess))
        low, high = positions[max(top - 1, 0)], positions[min(top + 1, len(positions) - 1)]
    distance = float(
        np.sqrt(sum(np.sum(np.square(d, dtype=np.float64)) for d in jax.tree.leaves(line.directions[0][0])))
    )
    return Barrier(
        value=float(excess[top]), position=float(positions[top]), positions=positions, losses=losses, distance=distance
    )


def _at_points(
    measure_fn: Callable,
    subspace: Subspace,
    coordinates: np.ndarray,
    data: batching.Batches | batching.Streamed,
    extra_fn: Callable | None,
) -> PyTree:
    """Evaluate measure_fn at points [n, K]: arrays [n] on the host."""
    if extra_fn is not None and len(subspace.origin) < 2:
        raise ValueError("extra_fn: expected a subspace with extra, which it replaces; make the subspace with extras.")
    points = jnp.asarray(coordinates, float)
    return jax.tree.map(np.asarray, _measured(measure_fn, extra_fn, subspace.origin, subspace.directions, points, data))


@functools.partial(jax.jit, static_argnames=("measure_fn", "extra_fn"))
def _measured(
    measure_fn: Callable,
    extra_fn: Callable | None,
    origin: tuple,
    directions: tuple[tuple, ...],
    coordinates: Array,
    data: batching.Batches | batching.Streamed,
) -> PyTree:
    def at(coordinates: Array) -> PyTree:
        params, *rest = displaced(origin, directions, coordinates)
        if extra_fn is not None:
            recompute_extra, interpolated = extra_fn, rest
            rest = [batching.mean(lambda batch: recompute_extra(params, batch, *interpolated), data)]
        return batching.mean(lambda batch: measure_fn(params, batch, *rest), data)

    return jax.lax.map(at, coordinates)
