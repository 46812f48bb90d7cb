"""How far the loss rises on the straight line between a network and its counterpart that was trained at rho 0."""

import jax
import numpy as np

from flatwide import measure
from flatwide.measurements.subject import Measured, Subject


def barrier(subject: Subject, *, key: jax.Array, num_points: int = 21, batch_size: int = 1000) -> Measured:
    """Measure the barrier to the network of the same epoch of the same config, seed among it, at rho 0.

    Batch-norm averages are interpolated as the weights are, so with batch norm barriers come out higher than with
    averages taken anew.

    Args:
      num_points: on the line, and again around its highest.
      batch_size: examples in memory at once.
    Returns: barrier, the largest excess of the loss over the straight line between the ends, in units of loss;
      position, where, from 0 (rho 0) to 1; distance, in parameter units. Nothing where the run at rho 0 diverged, and
      for that run itself 0 throughout. Arrays: line_positions, line_losses, both in order.
    Raises: WaitingError if the run at rho 0 is not finished; ValueError if it did not keep the epoch.
    Cost: a forward pass a point.
    """
    del key  # nothing is drawn
    base = subject.base()
    if base is None:
        return Measured({})
    if base.built is subject.built:
        return Measured({"barrier": 0.0, "position": 0.0, "distance": 0.0})
    found = measure.barrier(
        subject.loss_fn,
        base.params,
        subject.params,
        subject.examples,
        num_points=num_points,
        extras=(base.stats, subject.stats),
        batch_size=min(batch_size, subject.num_examples),
        weigh=subject.weigh,
    )
    values = {"barrier": found.value, "position": found.position, "distance": found.distance}
    return Measured(values, arrays={"line_positions": found.positions, "line_losses": np.asarray(found.losses)})
