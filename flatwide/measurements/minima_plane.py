"""The loss on the plane through two networks that were trained at rho 0 and one that was trained with SAM."""

import jax
import numpy as np

from flatwide import measure
from flatwide.config import effective_rho
from flatwide.measurements.errors import NotApplicableError
from flatwide.measurements.subject import Measured, Subject

_LINE_POINTS = 21  # as in the measurement `barrier`, and as many again around the highest point


def minima_plane(
    subject: Subject, *, key: jax.Array, num_points: int = 31, margin: float = 0.2, batch_size: int = 1000
) -> Measured:
    """Measure the loss on the plane through a network trained with SAM and two of the same config at rho 0.

    One of the two has the seed of this run, and so its initial weights; the other has the previous seed, or 1 if the
    seed of this run is 0. The first axis points from the former to the network of SAM, the second is orthogonal to it,
    and both are in parameter units. Batch-norm averages are combined with the same coefficients as the weights.

    Args:
      num_points: of the grid, along an axis.
      margin: how far the square grid extends beyond the marked points, as a fraction of their range.
      batch_size: examples in memory at once.
    Returns: distance, between SAM's network and that at rho 0 of its seed, base_distance, between the two at rho 0,
      start_distance, from the initial weights to the latter of its seed, and start_offset, from them to the plane, all
      in parameter units; base_barrier, the rise of the loss on the line between the two at rho 0, in units of loss;
      num_evaluations of the loss. Nothing if a run at rho 0 diverged. Arrays: plane_x, plane_y [num_points],
      plane_losses [y, x], coordinates [4, 2] and offsets [4] from the plane: the network at rho 0 of this seed, that of
      the other seed, SAM's, and the initial weights.
    Raises: WaitingError if a run at rho 0 is not finished; ValueError if one has no snapshot of the epoch;
      NotApplicableError for a run at rho 0, and for networks that lie on one line.
    Cost: num_points^2 + 42 forward passes; memory of four networks on the host.
    """
    del key  # nothing is random
    config = subject.built.config
    if effective_rho(config) == 0:
        raise NotApplicableError("config.rho=0: the plane is defined by a network that was trained with SAM.")
    base, other = subject.base(), subject.base(seed=config["seed"] - 1 if config["seed"] > 0 else 1)
    if base is None or other is None:
        return Measured({})
    networks = [jax.device_get((network.params, network.stats)) for network in (base, subject, other)]
    params, extras = zip(*networks, strict=True)
    options = {"batch_size": batch_size, "weigh": subject.weigh}
    try:
        plane = measure.plane_through(*params, extras=extras)
    except ValueError as error:  # such as at the start of training, where both arms have the same weights
        raise NotApplicableError(f"the networks at rho 0 and that of SAM: {error}") from error
    start, offset = plane.project(subject.initial.params)
    marked = np.stack([plane.coordinates[0], plane.coordinates[2], plane.coordinates[1], start])
    axes = _square(marked, num_points, margin)
    losses = measure.surface(subject.loss_fn, plane, axes, subject.examples, **options)
    ends = {"start": params[0], "end": params[2], "extras": (extras[0], extras[2])}
    between = measure.barrier(
        subject.loss_fn, **ends, batches=subject.examples, num_points=_LINE_POINTS, num_refinements=1, **options
    )
    values = {
        "base_barrier": between.value,
        "distance": float(np.linalg.norm(marked[2] - marked[0])),
        "base_distance": float(np.linalg.norm(marked[1] - marked[0])),
        "start_distance": float(np.hypot(np.linalg.norm(start), offset)),
        "start_offset": offset,
        "num_evaluations": losses.size + 2 * _LINE_POINTS,
    }
    arrays = {"plane_x": axes[0], "plane_y": axes[1], "plane_losses": losses.T, "coordinates": marked}
    return Measured(values, arrays=arrays | {"offsets": np.array([0.0, 0.0, 0.0, offset])})


def _square(points: np.ndarray, num_points: int, margin: float) -> list[np.ndarray]:
    """Return the axes of a square grid around points [n, 2], so that distances have one scale in all directions."""
    middle = (points.max(axis=0) + points.min(axis=0)) / 2
    reach = (0.5 + margin) * np.ptp(points, axis=0).max()
    return [np.linspace(centre - reach, centre + reach, num_points) for centre in middle]
