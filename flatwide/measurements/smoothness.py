"""Smoothness and PL constants on the way of one training step: the paper's equations 7 and 8."""

import jax

from flatwide import measure
from flatwide.measurements import steps
from flatwide.measurements.subject import Measured, Subject


def smoothness(subject: Subject, *, key: jax.Array, batch_size: int = 1000) -> Measured:
    """Measure both constants at ten points of the way of the training step that follows a network.

    Losses and gradients are of all examples, without weight decay. The step is the run's own, with its batch, learning
    rate, SAM and weight decay, but with no momentum, which a snapshot does not hold. At the end of a run it is the last
    step once more.

    Args:
      batch_size: examples in memory at once.
    Returns: smoothness, from below, and pl_constant, from above, in loss per squared parameter unit; distance, the
      length of the step in parameter units, alone where the step moves nothing, since the loss is minimized to the last
      bit. Arrays: smoothness_along, pl_constant_along [10].
    Cost: eleven gradients, and the step.
    """
    del key  # nothing is drawn
    after = steps.next_params(subject)
    if not steps.moves(subject, after):
        return Measured({"distance": 0.0})
    found = measure.smoothness_and_pl(
        subject.loss_fn, subject.params, after, subject.examples, **subject.options(batch_size)
    )
    values = {"smoothness": found.smoothness, "distance": found.distance}
    if found.pl_constant == found.pl_constant:  # NaN where the loss is 0 all along
        values["pl_constant"] = found.pl_constant
    arrays = {"smoothness_along": found.smoothness_along, "pl_constant_along": found.pl_constant_along}
    return Measured(values, arrays=arrays, cost=len(found.losses) / 2)
