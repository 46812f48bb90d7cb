"""The Hessian of the mean loss over the examples: both ends of its spectrum, its trace and its norm."""

import jax

from flatwide import measure
from flatwide.measurements.subject import Measured, Subject


def curvature(subject: Subject, *, key: jax.Array, num_top: int = 5, batch_size: int = 1000) -> Measured:
    """Measure how sharply the loss bends around a network.

    Args:
      num_top: largest eigenvalues that are computed; fewer where fewer weights are kept.
      batch_size: examples in memory at once.
    Returns: top_eigenvalue, eigenvalue_2, … in descending order, smallest_eigenvalue, all in loss per squared parameter
      unit and over the kept weights; largest_residual: each of them is at most so far from an eigenvalue; trace and
      frobenius_norm in the same unit, estimates with standard errors.
    Cost: one or two hundred Hessian-vector products, as recorded.
    """
    operator = subject.hessian(batch_size)
    top_key, smallest_key, probe_key = jax.random.split(key, 3)
    top = measure.top_eigenvalues(operator, min(num_top, operator.size), key=top_key, which="largest")
    smallest = measure.top_eigenvalues(operator, 1, key=smallest_key, which="smallest")
    names = ["top_eigenvalue", *(f"eigenvalue_{place}" for place in range(2, len(top.values) + 1))]
    values = dict(zip(names, map(float, top.values), strict=True))
    values["smallest_eigenvalue"] = float(smallest.values[0])
    values["largest_residual"] = float(max(*top.residuals, *smallest.residuals))
    trace, norm = measure.trace_and_norm(operator, key=probe_key)
    values |= {"trace": trace.value, "frobenius_norm": norm.value}
    errors = {"trace": trace.standard_error, "frobenius_norm": norm.standard_error}
    return Measured(values, errors, cost=top.cost + smallest.cost + trace.cost)
