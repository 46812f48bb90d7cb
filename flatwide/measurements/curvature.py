"""The Hessian of the mean loss over the examples: both ends of its spectrum, its trace and its norm."""

import math

import jax

from flatwide import measure
from flatwide.measurements.subject import Measured, Subject


def curvature(subject: Subject, *, key: jax.Array, num_top: int = 5, batch_size: int = 1000) -> Measured:
    """Measure how sharply the loss bends around a network.

    Args:
      num_top: largest eigenvalues that are computed; fewer where fewer weights are kept.
      batch_size: examples in memory at once.
    Returns: top_eigenvalue, eigenvalue_2, … in descending order, smallest_eigenvalue, all in loss per squared parameter
      unit and over the kept weights, the last 0 where it cannot be told from zero; largest_residual: each of them is at
      most so far from an eigenvalue; top_hidden_gap, smallest_hidden_gap: an eigenvalue that is left out is above the
      last of the largest, or below the smallest, by at most so much, at a certainty of 1 - 1e-4; is_saddle: 1 where a
      direction of negative curvature was found, 0 where no eigenvalue is below -smallest_hidden_gap, left out where
      neither is known; trace and frobenius_norm in the same unit, estimates with standard errors.
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
    # Where nothing was ruled out a gap has no number.
    values = {name: value for name, value in values.items() if math.isfinite(value)}
    errors = {"trace": trace.standard_error, "frobenius_norm": norm.standard_error}
    return Measured(values=values, errors=errors, cost=top.cost + smallest.cost + trace.cost)
