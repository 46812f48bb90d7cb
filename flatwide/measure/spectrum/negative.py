"""Whether a symmetric matrix has negative eigenvalues: the sign at a minimum, where most eigenvalues are near zero."""

from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp

from flatwide.measure.operators import Operator
from flatwide.measure.spectrum.eigenvalues import top_eigenvalues
from flatwide.types import Array, PyTree

Verdict = Literal["no negative eigenvalue below -depth", "saddle", "cannot tell"]

_ROUNDING = 30  # rounding errors of the scale: how far a Rayleigh quotient by a product in this type may be off


class NegativeCurvature(NamedTuple):
    """What is known of the smallest eigenvalue of S.

    verdict: "saddle" where a direction of negative curvature was found; "no negative eigenvalue below -depth" where the
      others are ruled out at the certainty asked for; "cannot tell" where max_products ended the search before.
    value: v' S v, the smallest eigenvalue found; 0 where it cannot be told from zero, which is "0 +- error".
    error: the residual, and at least the rounding error of v' S v; where value is 0, at least hidden_gap.
    residual: the length of S v - (v' S v) v.
    depth: no eigenvalue is below -depth, at that certainty; inf where nothing was ruled out.
    hidden_gap: no eigenvalue is below value by more than this, likewise.
    direction: the unit vector v, like params: the way down at a saddle.
    scale: the largest |value| of S that was seen.
    cost: in Hessian-vector products over the data set.
    """

    verdict: Verdict
    value: float
    error: float
    residual: float
    depth: float
    hidden_gap: float
    direction: PyTree
    scale: float
    cost: float


def negative_curvature(
    operator: Operator, *, key: Array, tolerance: float = 1e-4, certainty: float = 1 - 1e-4, max_products: int = 2000
) -> NegativeCurvature:
    """Tell a minimum from a saddle by the smallest eigenvalue of a symmetric matrix S.

    Args:
      operator: S, such as a Hessian.
      key: PRNG key of the starting vector; the same key gives the same result.
      tolerance: of the residual and of the hidden gap, relative to the largest |value| of S.
      certainty: of what is ruled out; max_products: where to give up; as for `top_eigenvalues`.
    Returns: NegativeCurvature, in the unit of S.
    Raises: ValueError as `top_eigenvalues`.
    Equation: smallest eigenvalue <= v' S v for every unit vector v (Courant and Fischer): a quotient below zero by more
      than its rounding error proves a negative eigenvalue, however long its residual. That none is lower takes more
      than a residual, see `certificate`.
    Cost: one to three hundred products, because the bulk of a network's eigenvalues near 0 is crowded.
    Source: as `top_eigenvalues`.
    """
    found = top_eigenvalues(
        operator,
        key=key,
        which="smallest",
        tolerance=tolerance,
        certainty=certainty,
        max_products=max_products,
    )
    quotient, residual = float(found.values[0]), float(found.residuals[0])
    rounding = _ROUNDING * float(jnp.finfo(jax.tree.leaves(operator.params)[0].dtype).eps) * found.scale
    is_saddle = quotient < -rounding
    error = max(residual, rounding)
    # A small positive quotient says nothing of the sign: eigenvalues below it by the hidden gap may not have shown.
    is_zero = not is_saddle and abs(quotient) <= max(error, found.hidden_gap)
    verdict: Verdict = "cannot tell"
    if is_saddle:
        verdict = "saddle"
    elif found.is_complete:
        verdict = "no negative eigenvalue below -depth"
    depth = max(found.hidden_gap - quotient, 0.0)
    return NegativeCurvature(
        verdict=verdict,
        value=0.0 if is_zero else quotient,
        error=max(error, depth) if is_zero else error,
        residual=residual,
        depth=depth,
        hidden_gap=depth if is_zero else found.hidden_gap,
        direction=jax.tree.map(lambda leaf: leaf[0], found.vectors),
        scale=found.scale,
        cost=found.cost,
    )
