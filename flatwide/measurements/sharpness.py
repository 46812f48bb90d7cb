"""The rise of the loss over the examples near a network, at the same radius for all runs."""

import jax

from flatwide import measure
from flatwide.measurements.subject import Measured, Subject


def sharpness(
    subject: Subject, *, key: jax.Array, radius: float = 0.05, adaptive_radius: float = 0.5, batch_size: int = 1000
) -> Measured:
    """Measure the rise of the loss within a distance of a network.

    The radius is not the run's rho, so that SGD and SAM are compared at the same radius.

    Args:
      radius: of the ball, in parameter units. adaptive_radius: in units of each weight's size, as for ASAM.
      batch_size: examples in memory at once.
    Returns: in units of loss: worst (a lower bound), and worst_gap, its further rise if the loss were linear; average,
      over a normal distribution of that radius; sam, at the point of SAM's step on all examples; adaptive_worst;
      m_worst, the mean of worst over batches of the run's batch size, each with a separate point.
    Cost: about six hundred gradients at most; two are recorded as one Hessian-vector product.
    """
    keys = jax.random.split(key, 4)
    problem = subject.problem(batch_size)
    in_batches = subject.problem(min(subject.built.config["batch_size"], subject.num_examples))
    rises = {
        "worst": measure.sharpness(problem, rho=radius, key=keys[0]),
        "average": measure.sharpness(problem, rho=radius, kind="average", key=keys[1]),
        "sam": measure.sharpness(problem, rho=radius, kind="sam"),
        "adaptive_worst": measure.sharpness(problem, rho=adaptive_radius, adaptive=True, key=keys[2]),
        "m_worst": measure.sharpness(in_batches, rho=radius, is_by_batch=True, key=keys[3]),
    }
    values = {name: result.value for name, result in rises.items()} | {"worst_gap": rises["worst"].gap}
    errors = {"average": rises["average"].standard_error}
    return Measured(values, errors, cost=sum(result.num_evaluations for result in rises.values()) / 2)
