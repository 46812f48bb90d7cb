"""Smoothness and PL constants on the segment of one training step: the paper's equations 7 and 8."""

import jax

from flatwide import measure
from flatwide.measurements import steps
from flatwide.measurements.subject import Measured, Subject


def smoothness(subject: Subject, *, key: jax.Array, batch_size: int = 1000) -> Measured:
    """Measure both constants at ten points on the segment of the training step that follows a network.

    Losses and gradients are of all examples, without weight decay. The step is that of the run, with its batch,
    learning rate, SAM and weight decay, but without momentum, which a snapshot does not contain. At the end of a run
    the last step is repeated.

    Args:
      batch_size: examples in memory at once.
    Returns: smoothness, a lower bound, and pl_constant, an upper bound, in loss per squared parameter unit; distance,
      the length of the step in parameter units; only distance if the step changes nothing, because the loss is
      minimized to the last bit. Arrays: smoothness_along, pl_constant_along [10].
    Cost: eleven gradients, and the step.
    """
    del key  # nothing is random
    after = steps.next_params(subject)
    if not steps.moves(subject, after):
        return Measured({"distance": 0.0})
    result = measure.smoothness_and_pl(subject.problem(batch_size), after)
    values = {"smoothness": result.smoothness, "distance": result.distance}
    if result.pl_constant == result.pl_constant:  # NaN if the loss is 0 on the whole segment
        values["pl_constant"] = result.pl_constant
    arrays = {"smoothness_along": result.smoothness_along, "pl_constant_along": result.pl_constant_along}
    return Measured(values, arrays=arrays, cost=len(result.losses) / 2)
