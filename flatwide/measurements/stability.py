"""Linear stability of a minimum under the steps of the run that found it: the paper's theorem 6.3."""

import math
from typing import Any

import jax

from flatwide import measure
from flatwide.measure import inputs
from flatwide.measure.stability.linear_dynamics import simulated_growth
from flatwide.measure.stability.stability_condition import consequences_of, matrix_free_condition
from flatwide.measurements import steps
from flatwide.measurements.gradient import gradient
from flatwide.measurements.subject import Measured, Subject


def stability(
    subject: Subject,
    *,
    key: jax.Array,
    max_exact: int = 128,
    num_particles: int = 64,
    num_steps: int = 200,
    tolerance: float = 1e-2,
    batch_size: int = 1000,
) -> Measured:
    """Measure the growth of distances from a network under the run's steps, linearized there.

    The learning rate is that of the run's step here, rho that of the unnormalized rule with the same step; the theory
    covers neither momentum nor weight decay. If the parameterization gives leaves different learning rates, everything
    is measured in the coordinates in which all have the same one (`steps.in_plain_coordinates`). With more than
    max_exact kept weights the growth is simulated, with a quarter of the toolkit's particles and half of its steps:
    about a minute of one core for an MLP of 50,000 weights and 1,000 examples. Directions that grow slowly may be
    missed, so the simulated growth tends to be too low.

    Args:
      max_exact: kept weights up to which everything is computed from matrices.
      num_particles, num_steps: of the simulation.
      tolerance: of the condition, if it is not computed from matrices: at a hundredth, condition_learning_rate is tens
        of percent too high, and a thousandth takes several times as long.
      batch_size: examples in memory at once, for the top eigenvalue.
    Returns: learning_rate and rho of the step; growth_factor of E|x|^2 per step in the directions in which some
      example's loss has curvature, growth_low and growth_high (95 %); is_stable, 1 or 0, omitted if undecided;
      is_exact, 0 if simulated; largest_stable_learning_rate and largest_stable_rho if exact; condition_value and
      condition_margin of the paper's sufficient condition, condition_learning_rate, the largest that it allows, for
      batches of the run's size if exact, else of one example; bound_top_eigenvalue, bound_s_2, bound_s_3, bound_s_4,
      which it implies; top_eigenvalue; edge_of_stability, the top eigenvalue above which full-batch SAM with the run's
      rule is unstable. Values that are not finite are omitted, and all but the learning rate if a batch has no
      gradient.
    Raises: NotApplicableError for SAM variants other than normalized and unnormalized, or a base optimizer other than
      SGD.
    Cost: about a hundred Hessian-vector products, and 2 num_particles num_steps of a batch, as recorded.
    """
    rate, rho = steps.learning_rate(subject), steps.unnormalized_rho(subject)
    if not math.isfinite(rho):
        return Measured({"learning_rate": rate})
    stability_key, top_key = jax.random.split(key)
    edge, subject = _edge(subject, rate, key), steps.in_plain_coordinates(subject)
    top = measure.top_eigenvalues(subject.hessian(batch_size), 1, key=top_key, which="largest")
    values = {
        "learning_rate": rate,
        "rho": rho,
        "top_eigenvalue": float(top.values[0]),
        "edge_of_stability": edge,
    }
    bounds = consequences_of(values["top_eigenvalue"], (0.0, 0.0, 0.0), learning_rate=rate, rho=rho)
    values |= {f"bound_{consequence.name}": consequence.bound for consequence in bounds}
    problem = subject.example_problem()
    step: dict[str, Any] = {"learning_rate": rate, "rho": rho, "batch_size": steps.batch_size(subject)}
    if inputs.num_kept(subject.params, subject.mask) <= max_exact:
        exact = measure.linear_stability(problem, key=stability_key, max_dimension=max_exact, **step)
        values |= {
            **_growth(exact.curved_growth, *exact.growth_interval),
            "is_exact": float(exact.is_exact),
            "largest_stable_learning_rate": exact.largest_learning_rate,
            "largest_stable_rho": exact.largest_rho,
        }
        condition, cost = exact.condition, exact.cost
    else:
        growth_key, condition_key = jax.random.split(stability_key)
        growth = simulated_growth(problem, key=growth_key, num_particles=num_particles, num_steps=num_steps, **step)
        condition, cost = matrix_free_condition(
            problem, learning_rate=rate, rho=rho, key=condition_key, tolerance=tolerance
        )
        values |= {**_growth(growth.value, growth.low, growth.high), "is_exact": 0.0}
        cost += 2 * growth.num_draws / subject.num_examples
    values |= {
        "condition_value": condition.value,
        "condition_margin": condition.margin,
        "condition_learning_rate": condition.largest_learning_rate,
    }
    finite = {name: float(value) for name, value in values.items() if math.isfinite(value)}
    return Measured(finite, cost=cost + top.cost + 0.5)


def _growth(value: float, low: float, high: float) -> dict[str, float]:
    limit = 1 + 1e-5  # rounding of the Hessians
    is_stable = 1.0 if high <= limit else 0.0 if low > limit else math.nan
    return {"growth_factor": value, "growth_low": low, "growth_high": high, "is_stable": is_stable}


def _edge(subject: Subject, rate: float, key: jax.Array) -> float:
    rho = steps.sam_rho(subject)
    is_normalized = rho > 0 and subject.built.config["sam_variant"] == "normalized"
    norm = gradient(subject, key=key).values["gradient_norm"] if is_normalized else None
    return float(measure.edge_of_stability(norm, learning_rate=rate, rho=rho * steps.ascent_factor(subject)))
