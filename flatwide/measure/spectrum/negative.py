"""A test for negative eigenvalues of a symmetric matrix, most of whose eigenvalues are near zero."""

from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp

from flatwide.measure.operators import Operator
from flatwide.measure.spectrum.eigenvalues import top_eigenvalues
from flatwide.types import Array, PyTree

Verdict = Literal["no negative eigenvalue below -depth", "saddle", "cannot tell"]

_ROUNDING = 30  # error of a Rayleigh quotient in this type, in rounding errors of the scale


class NegativeCurvature(NamedTuple):
    """The sign of the smallest eigenvalue of S, with bounds.

    verdict: "saddle" if a direction of negative curvature was found; "no negative eigenvalue below -depth" if lower
      eigenvalues are ruled out at the requested certainty; "cannot tell" if max_products ended the search before.
    value: v' S v, the smallest eigenvalue found; 0 if it is indistinguishable from zero, meaning "0 +- error".
    error: the residual, and at least the rounding error of v' S v; if value is 0, at least hidden_gap.
    residual: the norm of S v - (v' S v) v.
    depth: no eigenvalue is below -depth, at that certainty; inf if nothing was ruled out.
    hidden_gap: no eigenvalue is below value by more than this, likewise.
    direction: the unit vector v, like params: a descent direction at a saddle.
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
    """Distinguish a minimum from a saddle by the smallest eigenvalue of a symmetric matrix S.

    Args:
      operator: S, such as a Hessian.
      key: PRNG key of the starting vector; the same key gives the same result.
      tolerance: of the residual and of the hidden gap, relative to the largest |value| of S.
      certainty: of what is ruled out; max_products: limit at which the search stops; as for `top_eigenvalues`.
    Returns: NegativeCurvature, in the unit of S.
    Raises: ValueError as `top_eigenvalues`.
    Equation: smallest eigenvalue <= v' S v for every unit vector v (Courant and Fischer): a quotient below zero by more
      than its rounding error proves a negative eigenvalue, however large its residual. To show that none is lower takes
      more than a residual, see `certificate`.
    Cost: one to three hundred products, because most eigenvalues of a network cluster near 0.
    Source: as `top_eigenvalues`.
    """
    pair = top_eigenvalues(
        operator,
        key=key,
        which="smallest",
        tolerance=tolerance,
        certainty=certainty,
        max_products=max_products,
    )
    quotient, residual = float(pair.values[0]), float(pair.residuals[0])
    rounding = _ROUNDING * float(jnp.finfo(jax.tree.leaves(operator.params)[0].dtype).eps) * pair.scale
    is_saddle = quotient < -rounding
    error = max(residual, rounding)
    # A small positive quotient does not determine the sign: eigenvalues lower by the hidden gap may have been missed.
    is_zero = not is_saddle and abs(quotient) <= max(error, pair.hidden_gap)
    verdict: Verdict = "cannot tell"
    if is_saddle:
        verdict = "saddle"
    elif pair.is_complete:
        verdict = "no negative eigenvalue below -depth"
    depth = max(pair.hidden_gap - quotient, 0.0)
    return NegativeCurvature(
        verdict=verdict,
        value=0.0 if is_zero else quotient,
        error=max(error, depth) if is_zero else error,
        residual=residual,
        depth=depth,
        hidden_gap=depth if is_zero else pair.hidden_gap,
        direction=jax.tree.map(lambda leaf: leaf[0], pair.vectors),
        scale=pair.scale,
        cost=pair.cost,
    )
