"""The loss barrier on the straight line between a network and its counterpart that was trained at rho 0."""

import jax
import numpy as np

from flatwide import measure
from flatwide.measurements.subject import Measured, Subject


def barrier(subject: Subject, *, key: jax.Array, num_points: int = 21, batch_size: int = 1000) -> Measured:
    """Measure the barrier to the network of the same epoch, config and seed at rho 0.

    Batch-norm averages are interpolated like the weights, so with batch norm barriers are higher than with recomputed
    averages.

    Args:
      num_points: on the line, and again around its highest point.
      batch_size: examples in memory at once.
    Returns: barrier, the largest excess of the loss over linear interpolation between the ends, in units of loss;
      position, of that point, from 0 (rho 0) to 1; distance, in parameter units. Nothing if the run at rho 0 diverged,
      and 0 for that run itself. Arrays: line_positions, line_losses, sorted by position.
    Raises: WaitingError if the run at rho 0 is not finished; ValueError if it has no snapshot of the epoch.
    Cost: one forward pass per point.
    """
    del key  # nothing is random
    base = subject.base()
    if base is None:
        return Measured({})
    if base.built is subject.built:
        return Measured({"barrier": 0.0, "position": 0.0, "distance": 0.0})
    result = measure.barrier(
        subject.loss_fn,
        base.params,
        subject.params,
        subject.examples,
        num_points=num_points,
        extras=(base.stats, subject.stats),
        batch_size=batch_size,
        weigh=subject.weigh,
    )
    values = {"barrier": result.value, "position": result.position, "distance": result.distance}
    return Measured(values, arrays={"line_positions": result.positions, "line_losses": np.asarray(result.losses)})
