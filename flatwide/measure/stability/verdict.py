"""Linear stability of SGD and SAM at a minimum: whether E|x|^2 stays bounded under the steps linearized there."""

import math
from typing import Any, Literal, NamedTuple

import jax
import numpy as np

from flatwide.measure import inputs, operators
from flatwide.measure.batching import num_examples
from flatwide.measure.inputs import Problem
from flatwide.measure.spectrum.ends import ends
from flatwide.measure.stability import mean_square
from flatwide.measure.stability.curved_span import curved_span, flat_tolerance
from flatwide.measure.stability.edge_of_stability import check_steps
from flatwide.measure.stability.linear_dynamics import in_batches, simulated_growth
from flatwide.measure.stability.moments import hessian_moments
from flatwide.measure.stability.stability_condition import (
    Condition,
    Consequence,
    condition_of,
    consequences_of,
    consequences_of_matrices,
    matrix_free_condition,
    mean_powers,
)
from flatwide.types import Array

_LARGEST_PRODUCT = 2e9  # floating point operations of a product with T, up to a second of a core; it takes hundreds


class Stability(NamedTuple):
    """Linear stability of unnormalized SAM with random batches.

    verdict: "stable" if E|x|^2 stays bounded (definition 6.2 of the paper): learning_rate is at most the largest stable
      one, or, if that is not known, curved_growth is at most 1, both up to the tolerance; "unstable"; or "undecided" if
      the simulation's interval contains both.
    growth: asymptotic factor by which E|x|^2 grows in each step, at least 1 if there are flat directions.
    curved_growth: the same in the curved directions, in which some example's loss has curvature; 0 if there are none.
    growth_interval: low and high 95 % limits of curved_growth; both equal curved_growth if it is exact.
    margin: 1 - curved_growth.
    is_exact: computed from matrices (curved_growth to 1e-4 above 27 curved directions); else simulated.
    num_curved: number of curved directions; None if they are too many to be counted.
    largest_learning_rate: last stable eta at this rho; infinite if all are stable, nan if none is or it is not known.
    largest_rho: last stable rho at this learning rate, likewise; also nan if the growth is simulated.
    condition: the paper's matrix condition, sufficient only; for batches of `condition.batch_size`.
    gap: largest_learning_rate / condition.largest_learning_rate - 1, by which the condition is too strict.
    consequences: the bounds that the paper states for a and s_2, s_3, s_4, for batches of one example.
    smallest_eigenvalue: of the mean Hessian, on its curved directions if they are known; negative where params are not
      at a minimum. In loss per squared unit of parameter.
    notes: caveats for the interpretation of the numbers.
    cost: in Hessian-vector products over the data set.
    """

    verdict: Literal["stable", "unstable", "undecided"]
    growth: float
    curved_growth: float
    growth_interval: tuple[float, float]
    margin: float
    is_exact: bool
    num_curved: int | None
    largest_learning_rate: float
    largest_rho: float
    condition: Condition
    gap: float
    consequences: tuple[Consequence, ...]
    smallest_eigenvalue: float
    notes: tuple[str, ...]
    cost: float


def stability_of_matrices(
    hessians: np.ndarray,
    *,
    learning_rate: float,
    rho: float,
    batch_size: int = 1,
    with_replacement: bool = False,
    tolerance: float = 1e-8,
) -> Stability:
    """Compute the linear stability of unnormalized SAM on n quadratics, exactly.

    Args:
      hessians: H_i, [n, P, P], symmetric; read as float64.
      learning_rate, rho, batch_size, with_replacement: as for `linear_stability`.
      tolerance: of the growth in the verdict.
    Returns: Stability.
    Raises: ValueError if a shape or an option is out of range, or a matrix is not finite or not symmetric.
    Equation: with J_B = I - eta H_B - eta rho H_B^2 and H_B the mean over a batch, growth is the spectral radius of
      C -> E J_B C J_B. Thresholds solve for growth 1; every batch size is exact, by the moments of H_B.
    Cost: about a hundred products of 4 n r^3 floating point operations, r curved directions; n times more for
      1 < B < n.
    Source: paper, section 6.1; Ma and Ying (2021), On linear stability of SGD and input-smoothness of neural networks.
    """
    hessians = np.asarray(hessians, np.float64)
    if hessians.ndim != 3 or hessians.shape[1] != hessians.shape[2] or 0 in hessians.shape:
        raise ValueError(f"hessians of shape {hessians.shape}: expected [n, P, P], one square matrix an example.")
    if not np.all(np.isfinite(hessians)):
        raise ValueError("hessians: expected finite numbers.")
    size = np.max(np.abs(hessians))
    if np.max(np.abs(hessians - hessians.transpose(0, 2, 1))) > 1e-6 * size:  # ten rounding errors of 32 bits
        raise ValueError("hessians: expected symmetric matrices; take (H + H') / 2 if they should be.")
    _check(len(hessians), learning_rate, rho, batch_size, with_replacement)
    batches: dict[str, Any] = {"batch_size": batch_size, "with_replacement": with_replacement}
    limit = flat_tolerance(np.dtype(np.float64))
    options = {"tolerance": tolerance, "num_rows": hessians.shape[1]}
    return _exact(hessians, limit, learning_rate=learning_rate, rho=rho, **batches, **options)


def linear_stability(
    problem: Problem,
    *,
    learning_rate: float,
    rho: float,
    key: Array,
    batch_size: int = 1,
    with_replacement: bool = False,
    tolerance: float = 1e-5,
    max_dimension: int = 128,
    num_particles: int = 256,
    num_steps: int = 400,
) -> Stability:
    """Measure the linear stability of unnormalized SAM, x+ = x - eta g_B(x + rho g_B(x)), at a minimum.

    If there are at most `max_dimension` curved directions, in which some example's loss has curvature (few parameters,
    or few examples times outputs), the Hessians are computed as matrices on these, and growth and thresholds are exact.
    Otherwise the growth is simulated, the condition comes from products with vectors, and the exact thresholds are not
    known. Momentum, weight decay and normalized SAM are outside this theory; for the last, see `effective_rho`.

    Args:
      problem: of n single examples, at a minimum where every example is fitted: the gradients are not checked, and if
        they are not 0 the linear steps are not SAM's.
      learning_rate: eta > 0; rho: rho >= 0, 0 for SGD.
      key: PRNG key of the starting vectors and of the simulation; the same key gives the same result.
      batch_size: B <= n distinct examples, drawn independently in each step (the shuffled order of an epoch is not
        modelled); any number with replacement.
      with_replacement: draw the examples of a batch independently of each other.
      tolerance: of the growth in the verdict; above the rounding error of the Hessians.
      max_dimension: the largest number of curved directions for which matrices are used; 0 always simulates.
      num_particles, num_steps: of the simulation.
    Returns: Stability.
    Raises: ValueError if an option is out of range.
    Equation: as `stability_of_matrices`, with H_i the Hessian of example i.
    Cost: exact: about 2 r Hessian-vector products over the data for r directions, and `stability_of_matrices`.
      Simulated: 2 num_particles num_steps products of a batch, and about a thousand over the data for the condition.
    Source: paper, theorem 6.3.
    """
    num = num_examples(problem.examples)
    _check(num, learning_rate, rho, batch_size, with_replacement)
    inputs.check_at_least(0, "; 0 always simulates", max_dimension=max_dimension)
    keys = jax.random.split(inputs.random_key(key), 5)
    num_rows = inputs.num_kept(problem.params, problem.mask)
    steps = {"learning_rate": learning_rate, "rho": rho}
    batches: dict[str, Any] = {"batch_size": batch_size, "with_replacement": with_replacement}
    span = curved_span(problem, key=keys[0], max_dimension=max_dimension)
    products = num if batch_size == 1 else num**2
    if span is not None and 4.0 * products * span.hessians.shape[1] ** 3 <= _LARGEST_PRODUCT:
        limit = flat_tolerance(np.dtype(jax.tree.leaves(problem.params)[0].dtype))
        exact = _exact(span.hessians, limit, **steps, **batches, tolerance=tolerance, num_rows=num_rows)
        return exact._replace(cost=span.cost)
    simulation = {"num_particles": num_particles, "num_steps": num_steps, "key": keys[1]}
    growth = simulated_growth(problem, **steps, **batches, **simulation)
    condition, cost = matrix_free_condition(problem, **steps, key=keys[2])
    moments = hessian_moments(problem, key=keys[3])
    top = ends(operators.hessian_operator(in_batches(problem)), key=keys[4])
    largest, smallest = map(float, top.values)
    notes = [
        *_notes(smallest, largest, num_rows, None),
        "Simulated: the interval covers the noise of the particles, but not the bias from finite numbers of particles "
        "and steps.",
    ]
    if condition.batch_size != batch_size:
        notes.append("The condition is for batches of one example; it is not proven for larger batches.")
    verdict = "stable" if growth.high <= 1 + tolerance else "unstable" if growth.low > 1 + tolerance else "undecided"
    return Stability(
        verdict=verdict,
        growth=max(1.0, growth.value),
        curved_growth=growth.value,
        growth_interval=(growth.low, growth.high),
        margin=1 - growth.value,
        is_exact=False,
        num_curved=None,
        largest_learning_rate=math.nan,
        largest_rho=math.nan,
        condition=condition,
        gap=math.nan,
        consequences=consequences_of(largest, moments.non_uniformity, **steps),
        smallest_eigenvalue=smallest,
        notes=tuple(notes),
        cost=cost + moments.cost + top.num_products + 2 * growth.num_draws / num,
    )


def _exact(
    hessians: np.ndarray,
    limit: float,
    *,
    learning_rate: float,
    rho: float,
    batch_size: int,
    with_replacement: bool,
    tolerance: float,
    num_rows: int,
) -> Stability:
    """Compute everything from matrices [n, r, r], on the directions whose curvature is above a relative limit."""
    sizes, right = np.linalg.svd(np.concatenate(hessians), full_matrices=False)[1:]
    basis = right[sizes > limit * np.max(sizes, initial=0.0)].T  # of the sum of the ranges
    num_curved = basis.shape[1]
    # Without any curvature, as with a single direction of none: no step is unstable.
    hessians = basis.T @ hessians @ basis if num_curved else np.zeros((len(hessians), 1, 1))
    steps = {"learning_rate": learning_rate, "rho": rho}
    batches = mean_square.MatrixBatches(hessians, batch_size, with_replacement=with_replacement)
    curved = mean_square.growth(batches, learning_rate, rho)[0] if num_curved else 0.0
    rate = mean_square.largest_learning_rate(batches, rho)
    condition = condition_of(mean_powers(batches), learning_rate, rho, batch_size, tolerance=tolerance)
    single = mean_powers(batches if batch_size == 1 else mean_square.MatrixBatches(hessians, 1))
    spectrum = np.linalg.eigvalsh(single[0])
    is_stable = curved <= 1 + tolerance if math.isnan(rate) else learning_rate <= rate * (1 + tolerance)
    allowed = condition.largest_learning_rate
    return Stability(
        verdict="stable" if is_stable else "unstable",
        growth=max(1.0, curved) if num_curved < num_rows else curved,
        curved_growth=curved,
        growth_interval=(curved, curved),
        margin=1 - curved,
        is_exact=True,
        num_curved=num_curved,
        largest_learning_rate=rate,
        largest_rho=mean_square.largest_rho(batches, learning_rate),
        condition=condition,
        gap=rate / allowed - 1 if math.isfinite(rate) and math.isfinite(allowed) else math.nan,
        consequences=consequences_of_matrices(single, **steps),
        smallest_eigenvalue=float(spectrum[0]),
        notes=tuple(_notes(float(spectrum[0]), float(spectrum[-1]), num_rows, num_curved)),
        cost=0.0,
    )


def _notes(smallest: float, largest: float, num_rows: int, num_curved: int | None) -> list[str]:
    if num_curved == 0:
        return ["The loss has no curvature in any direction: no step changes x."]
    notes = []
    # The tolerance of the eigenvalues: less may be an error of the search.
    if smallest < -1e-4 * max(abs(largest), abs(smallest)):
        notes.append(
            f"The mean Hessian has the eigenvalue {smallest:.3g} < 0: params are not at a minimum. SGD leaves it at "
            "every learning rate; SAM may not, since rho H_B^2 pulls it back."
        )
    if num_curved is not None and num_curved < num_rows:
        notes.append(
            f"{num_rows - num_curved} of {num_rows} directions are flat for every example: x never shrinks in them. "
            "Stable means bounded; margin and thresholds refer to the curved directions."
        )
    return notes


def _check(num: int, learning_rate: float, rho: float, batch_size: int, with_replacement: bool) -> None:
    check_steps(learning_rate, rho)
    if batch_size < 1 or (batch_size > num and not with_replacement):
        raise ValueError(
            f"batch_size={batch_size}: expected 1 to {num}, the number of examples; with_replacement=True allows more."
        )
