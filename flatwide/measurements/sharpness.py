"""How far the loss over the examples rises near a network, at one radius for all runs."""

import jax

from flatwide.measure.loss_rise import sharpness as rise
from flatwide.measurements.subject import Measured, Subject


def sharpness(
    subject: Subject, *, key: jax.Array, radius: float = 0.05, adaptive_radius: float = 0.5, batch_size: int = 1000
) -> Measured:
    """Measure how far the loss rises within a distance of a network.

    The radius is not the run's rho, so that SGD and SAM are compared at the same one.

    Args:
      radius: of the ball, in parameter units. adaptive_radius: in units of each weight's size, as for ASAM.
      batch_size: examples in memory at once.
    Returns: in units of loss: worst (from below), and worst_gap, by how much it might still rise if the loss were
      linear; average, over the ball's normal distribution; sam, at the point of SAM's step on all examples;
      adaptive_worst; m_worst, the mean of worst over batches of the run's batch size, each with its own point.
    Cost: some six hundred gradients at most; recorded as Hessian-vector products, each of two.
    """
    options = subject.options(batch_size)
    chunks = {"batch_size": options.pop("batch_size")}
    keys = jax.random.split(key, 4)
    data = (subject.loss_fn, subject.params, subject.examples)
    group = min(subject.built.config["batch_size"], subject.num_examples)
    found = {
        "worst": rise(*data, rho=radius, key=keys[0], **chunks, **options),
        "average": rise(*data, rho=radius, kind="average", key=keys[1], **chunks, **options),
        "sam": rise(*data, rho=radius, kind="sam", **chunks, **options),
        "adaptive_worst": rise(*data, rho=adaptive_radius, adaptive=True, key=keys[2], **chunks, **options),
        "m_worst": rise(*data, rho=radius, microbatch=group, key=keys[3], **options),
    }
    values = {name: one.value for name, one in found.items()} | {"worst_gap": found["worst"].gap}
    errors = {"average": found["average"].standard_error}
    return Measured(values, errors, cost=sum(one.num_evaluations for one in found.values()) / 2)
