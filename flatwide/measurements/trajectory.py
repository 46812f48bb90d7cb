"""The path of training through parameter space, projected onto its principal plane."""

import jax
import numpy as np

from flatwide import measure
from flatwide.measurements.subject import Measured, Subject


def trajectory(
    subject: Subject, *, key: jax.Array, num_points: int = 21, margin: float = 0.2, batch_size: int = 1000
) -> Measured:
    """Measure a run's path on the plane of its two principal components, and the loss on the plane.

    The networks are those of `config.measure_epochs` up to the one that is measured, which is the last.

    Args:
      num_points: of the grid, along an axis.
      margin: how far the grid extends beyond the path, as a fraction of its range.
      batch_size: examples in memory at once.
    Returns: num_networks; for three or more, explained_1 and explained_2, the shares of their variance along the two
      axes; length, of the path from each to the next, and distance, of its ends, in parameter units; largest_offset, of
      a network from the plane. Arrays: epochs [n], coordinates [n, 2], explained_variance [2], surface_x, surface_y
      [num_points], surface_losses [y, x]: the loss at points of the plane.
    Raises: ValueError for the end of a run with fewer than two other snapshots.
    Cost: one forward pass per grid point; memory of all networks on the host.
    """
    del key  # nothing is random
    networks = [(network.epoch, jax.device_get((network.params, network.stats))) for network in subject.path()]
    epochs, states = np.array([epoch for epoch, _ in networks]), [state for _, state in networks]
    if len(states) < 3 and subject.snapshot is None:
        raise ValueError(
            f"config.measure_epochs={subject.built.config['measure_epochs']}: a path needs at least two networks "
            "before the end; train the run with measure_epochs=(0, 1, ...) in another --workdir."
        )
    if len(states) < 3:
        return Measured({"num_networks": len(states)})
    points, extras = [params for params, _ in states], [stats for _, stats in states]
    plane, shares = measure.principal_subspace(points, extras=extras)
    axes = [_grid(column, num_points, margin) for column in plane.coordinates.T]
    losses = measure.surface(
        subject.loss_fn,
        plane,
        axes,
        subject.examples,
        batch_size=batch_size,
        weigh=subject.weigh,
    )
    values = {
        "num_networks": len(states),
        "explained_1": float(shares[0]),
        "explained_2": float(shares[1]),
        "length": sum(_distance(a, b) for a, b in zip(points[1:], points[:-1], strict=True)),
        "distance": _distance(points[-1], points[0]),
        "largest_offset": float(plane.distances.max()),
    }
    arrays = {
        "epochs": epochs,
        "coordinates": plane.coordinates,
        "explained_variance": shares,
        "surface_x": axes[0],
        "surface_y": axes[1],
        "surface_losses": losses.T,
    }
    return Measured(values, arrays=arrays)


def _grid(coordinates: np.ndarray, num_points: int, margin: float) -> np.ndarray:
    reach = margin * np.ptp(coordinates)
    return np.linspace(coordinates.min() - reach, coordinates.max() + reach, num_points)


def _distance(a, b) -> float:
    """Compute the distance between two networks on the host, in 64 bits."""
    leaves = zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
    return float(np.sqrt(sum(np.sum(np.square(np.asarray(x, np.float64) - y)) for x, y in leaves)))
