"""The Hessian of the mean loss over the examples: both ends of its spectrum, its trace and its norm."""

import math

import jax

from flatwide import measure
from flatwide.measurements.subject import Measured, Subject


def curvature(subject: Subject, *, key: jax.Array, num_top: int = 5, batch_size: int = 1000) -> Measured:
    """Measure the curvature of the loss at a network.

    Args:
      num_top: number of largest eigenvalues; fewer if fewer weights are kept.
      batch_size: examples in memory at once.
    Returns: top_eigenvalue, eigenvalue_2, … in descending order, smallest_eigenvalue, all in loss per squared parameter
      unit and over the kept weights, the last 0 if it is indistinguishable from zero; largest_residual, the largest
      distance of any of them from an eigenvalue; top_hidden_gap, smallest_hidden_gap: a missed eigenvalue is above the
      last of the largest, or below the smallest, by at most this much, at a certainty of 1 - 1e-4; is_saddle: 1 if a
      direction of negative curvature was found, 0 if no eigenvalue is below -smallest_hidden_gap, omitted if neither
      is known; trace and frobenius_norm in the same unit, estimates with standard errors.
    Cost: one to three hundred Hessian-vector products, as recorded.
    """
    operator = subject.hessian(batch_size)
    top_key, smallest_key, probe_key = jax.random.split(key, 3)
    top = measure.top_eigenvalues(operator, min(num_top, operator.size), key=top_key, which="largest")
    smallest = measure.negative_curvature(operator, key=smallest_key)
    names = ["top_eigenvalue", *(f"eigenvalue_{number}" for number in range(2, len(top.values) + 1))]
    values = dict(zip(names, map(float, top.values), strict=True))
    values["smallest_eigenvalue"] = smallest.value
    values["largest_residual"] = float(max(*top.residuals, smallest.residual))
    values |= {"top_hidden_gap": top.hidden_gap, "smallest_hidden_gap": smallest.hidden_gap}
    if smallest.verdict != "cannot tell":
        values["is_saddle"] = float(smallest.verdict == "saddle")
    trace, norm = measure.trace_and_norm(operator, key=probe_key)
    values |= {"trace": trace.value, "frobenius_norm": norm.value}
    # If nothing was ruled out, a gap is not finite.
    values = {name: value for name, value in values.items() if math.isfinite(value)}
    errors = {"trace": trace.standard_error, "frobenius_norm": norm.standard_error}
    return Measured(values=values, errors=errors, cost=top.cost + smallest.cost + trace.cost)
