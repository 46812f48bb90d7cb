"""The loss on the plane of the two directions of largest curvature."""

import jax
import numpy as np

from flatwide import measure
from flatwide.measurements.subject import Measured, Subject


def sharpest_plane(
    subject: Subject, *, key: jax.Array, reach: float = 0.1, num_points: int = 21, batch_size: int = 1000
) -> Measured:
    """Measure the loss around a network along the two leading eigenvectors of its Hessian.

    Args:
      reach: extent to either side, in parameter units.
      num_points: of the grid, along an axis; odd, so that the network is a grid point.
      batch_size: examples in memory at once.
    Returns: mean_rise and largest_rise, of the loss over the plane above that of the network, in units of loss.
      Arrays: plane_x, plane_y [num_points], plane_losses [y, x], eigenvalues [2], in loss per squared parameter unit.
      Near the network the rise is (eigenvalues[0] x^2 + eigenvalues[1] y^2) / 2 above a minimum.
    Raises: ValueError if num_points is even.
    Cost: num_points^2 forward passes, and tens of Hessian-vector products, as recorded.
    """
    if num_points % 2 == 0:
        raise ValueError(f"num_points={num_points}: expected an odd number, so that the network lies on the grid.")
    operator = subject.hessian(batch_size)
    top = measure.top_eigenvalues(operator, 2, key=key, which="largest")
    directions = [jax.tree.map(lambda leaf, at=at: leaf[at], top.vectors) for at in range(2)]
    plane = measure.spanned_by(subject.params, directions, extra=subject.stats)
    axis = np.linspace(-reach, reach, num_points)
    options = {"batch_size": batch_size, "weigh": subject.weigh}
    losses = measure.surface(subject.loss_fn, plane, [axis, axis], subject.examples, **options)
    rises = losses.astype(np.float64) - losses[num_points // 2, num_points // 2]
    return Measured(
        values={"mean_rise": float(np.mean(rises)), "largest_rise": float(np.max(rises))},
        arrays={"plane_x": axis, "plane_y": axis, "plane_losses": losses.T, "eigenvalues": top.values},
        cost=top.cost,
    )
