"""The function of a network with one input and one output: its values, total variation and kinks."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from flatwide import trees
from flatwide.measurements.errors import NotApplicableError
from flatwide.measurements.subject import Measured, Outputs, Subject
from flatwide.types import Array, PyTree


def function(
    subject: Subject, *, key: jax.Array, num_points: int = 2001, margin: float = 0.1, threshold: float = 0.01
) -> Measured:
    """Measure the function of a network with one input and one output.

    Args:
      num_points: of an even grid over the examples' inputs and beyond.
      margin: how far the grid extends beyond them on either side, as a fraction of their range.
      threshold: a kink counts if the slope changes by more than this fraction of its total variation.
    Returns: total_variation of the function, in output units; slope_total_variation, in output per input unit;
      num_kinks, of kinks further apart than the grid spacing; distance, from the initial weights in parameter units.
      Arrays: grid, outputs [num_points]; slopes [num_points - 1], midway between the points; inputs, targets [n] of
      the examples.
    Raises: NotApplicableError for a network with other numbers of inputs or outputs.
    Cost: two passes over the grid.
    """
    del key  # nothing is random
    inputs, built = subject.examples["inputs"], subject.built
    sizes = [leaf.size // leaf.shape[0] for leaf in jax.tree.leaves(inputs)]
    if sizes != [1] or built.data.num_outputs != 1:
        raise NotApplicableError(
            f"config.dataset={built.config['dataset']!r}: expected inputs and outputs of one number, as regression_1d "
            f"has; found {sum(sizes)} inputs and {built.data.num_outputs} outputs."
        )
    points = np.asarray(jax.tree.leaves(inputs)[0], np.float64).ravel()
    reach = margin * np.ptp(points)
    grid = np.linspace(points.min() - reach, points.max() + reach, num_points)
    network = (subject.outputs, jax.tree.structure(inputs), jax.tree.leaves(inputs)[0].shape[1:])
    network += (subject.params, subject.stats)
    outputs, _ = _values_and_slopes(*network, jnp.asarray(grid, float))
    # A kink lies between two midpoints or on one, so each changes the slope between consecutive midpoints once.
    _, slopes = _values_and_slopes(*network, jnp.asarray((grid[1:] + grid[:-1]) / 2, float))
    outputs, slopes = np.asarray(outputs, np.float64), np.asarray(slopes, np.float64)
    changes = np.abs(np.diff(slopes))
    moved = trees.subtract(subject.params, subject.initial.params)
    values = {
        "total_variation": float(np.abs(np.diff(outputs)).sum()),
        "slope_total_variation": float(changes.sum()),
        "num_kinks": int(np.sum(changes > threshold * changes.sum())),
        "distance": float(trees.norm(moved)),
    }
    arrays = {"grid": grid, "outputs": outputs, "slopes": slopes, "inputs": points}
    return Measured(values, arrays=arrays | {"targets": np.asarray(subject.examples["targets"], np.float64).ravel()})


@functools.partial(jax.jit, static_argnums=(0, 1, 2))
def _values_and_slopes(
    outputs: Outputs, structure: Any, shape: tuple[int, ...], params: PyTree, stats: PyTree, points: Array
) -> tuple[Array, Array]:
    def value(points: Array) -> Array:
        inputs = jax.tree.unflatten(structure, [points.reshape(-1, *shape)])
        return outputs(params, {"inputs": inputs}, stats).reshape(-1)

    return jax.jvp(value, (points,), (jnp.ones_like(points),))
