"""The leading eigenvalues of a symmetric matrix, with verified residuals and a bound on missed eigenvalues."""

from numbers import Integral
from typing import Literal, NamedTuple, get_args

import numpy as np

from flatwide.measure import inputs
from flatwide.measure.operators import Operator
from flatwide.measure.spectrum.lanczos import check_tolerances, unflatten_all
from flatwide.measure.spectrum.search import Check, Goal, RuleOut, Search, Which
from flatwide.types import Array, PyTree

RelativeTo = Literal["largest", "each"]


class Eigenpairs(NamedTuple):
    """Leading eigenvalues, the most extreme first.

    values: [k], in float64, in the unit of S. The i-th most extreme eigenvalue is at least as extreme as the i-th
      value, by at most `hidden_gap`, at the requested certainty. If they are well separated from all others, the
      difference is of the order of the residual squared. With `rule_out="distinct"` there are fewer than k values if S
      has fewer distinct eigenvalues.
    residuals: [k], norms of S v - value v, by fresh products. Some eigenvalue lies within a residual of each value.
    vectors: k unit eigenvectors, one pytree like params with leading axes of k.
    is_converged: [k], whether the residual is at most the tolerance.
    scale: the largest |value| of S that was seen; the tolerance is relative to it.
    num_products: products with S, checks included.
    cost: in Hessian-vector products over the data set.
    hidden_gap: how much more extreme than its value an eigenvalue can be, including a missed one; it includes the
      uncertainty from the residuals of locked vectors. inf if max_products ended the search before anything was ruled
      out, nan with `rule_out="nothing"`.
    is_complete: whether hidden_gap is at most the tolerance. With `rule_out="distinct"` both are about distinct values:
      every eigenvalue among the k leading distinct ones is within hidden_gap of a value or less extreme than the last,
      and a value may represent several; values within the tolerance of each other count as one.
    """

    values: np.ndarray
    residuals: np.ndarray
    vectors: PyTree
    is_converged: np.ndarray
    scale: float
    num_products: int
    cost: float
    hidden_gap: float
    is_complete: bool


def top_eigenvalues(
    operator: Operator,
    k: int = 1,
    *,
    key: Array,
    which: Which = "magnitude",
    tolerance: float = 1e-4,
    relative_to: RelativeTo = "largest",
    rule_out: RuleOut = "copies",
    certainty: float = 1 - 1e-4,
    check: Check = "each",
    max_products: int = 1000,
    basis_size: int | None = None,
    start: PyTree | None = None,
) -> Eigenpairs:
    """Find the k leading eigenvalues and eigenvectors of a symmetric matrix S.

    Eigenvalues are counted with multiplicity. A single starting vector finds only one copy of each, so for k > 1 the
    search is repeated in the orthogonal complement of the eigenvectors found, until further copies are ruled out.

    Args:
      operator: S, of `operator.size` = n rows.
      k: number of eigenvalues, 1 <= k <= n.
      key: PRNG key of the starting vectors; the same key gives the same result.
      which: "magnitude" (largest |value|), "largest" or "smallest" (algebraic).
      tolerance: of the residuals and the hidden gap; at least 10 times the type's rounding error.
      relative_to: the tolerance is relative to the "largest" |value| of S that was seen, or to "each" |value|; the
        latter cannot be reached at a value of zero.
      rule_out: the missed eigenvalues that the search rules out before it ends: all, including "copies" of the values,
        or "distinct" ones only (no second search for k > 1), or "nothing": it ends at small residuals.
      certainty: of what is ruled out, over the random starting vectors, 0 < certainty < 1.
      check: fresh products for "each" vector, or one for all "together": residuals then combine those that Lanczos
        knows with that of a random-sign combination of the vectors, an estimate of the part hidden by rounding.
      max_products: limit at which the search stops, at least 2 k; see `is_converged` and `is_complete`.
      basis_size: vectors like params held in memory; None for max(2 k + 20, 40).
      start: first starting vector, such as the result at nearby params; None for a random one. By itself it rules out
        nothing, so a random vector of the same length is added unless `rule_out` is "nothing".
    Returns: Eigenpairs, values in the unit of S.
    Raises: ValueError if an option is out of range or a product is not finite.
    Equation: the start's squared component along an eigenvector of lambda is at most 1 / sum_j p_j(lambda)^2, p_j the
      polynomials that are orthonormal in the start's spectral measure; that of a random start along a given eigenvector
      is below about (1 - certainty)^2 pi / 2n with probability 1 - certainty. See `certificate`.
    Cost: tens of products; n + k at most if n is below basis_size. Memory: basis_size vectors.
    Source: Lanczos (1950); full orthogonalization, restarts with Ritz vectors (Wu and Simon, 2000, Thick-restart
      Lanczos); missed eigenvalues: the start's Christoffel function (Akhiezer, 1965, The classical moment problem).
    """
    named = (("which", which, Which), ("relative_to", relative_to, RelativeTo), ("rule_out", rule_out, RuleOut))
    for name, value, allowed in (*named, ("check", check, Check)):
        if value not in get_args(allowed):
            raise ValueError(f"{name}={value!r}: expected one of {', '.join(get_args(allowed))}.")
    if not isinstance(k, Integral) or not 1 <= k <= operator.size:
        raise ValueError(
            f"k={k}: expected an integer of 1 to {operator.size}, the rows of the matrix (kept parameters)."
        )
    check_tolerances(operator, tolerance=tolerance)
    if not 0 < certainty < 1:
        raise ValueError(f"certainty={certainty}: expected a number between 0 and 1, such as 0.9999.")
    inputs.check_at_least(2 * k, " = 2 k: k, and one check for each", max_products=max_products)
    if start is not None:
        inputs.check_like(start, operator.params, "the start")
    capacity = min(operator.size, max(2 * k + 20, 40) if basis_size is None else basis_size)
    if capacity < min(operator.size, k + 2):
        raise ValueError(f"basis_size={basis_size}: expected at least k + 2 = {k + 2}.")
    goal = Goal(
        k=int(k),
        which=which,
        tolerance=tolerance,
        is_relative_to_each=relative_to == "each",
        rule_out=rule_out,
        check=check,
        failure=1 - certainty,
    )
    search = Search(operator, goal, inputs.random_key(key), capacity)
    search.begin(start)
    while not search.is_over and search.basis.num_products + k < max_products:
        search.step()
    pairs, is_converged, hidden_gap, is_complete = search.finish()
    return Eigenpairs(
        values=pairs.values,
        residuals=pairs.residuals,
        vectors=unflatten_all(operator.params, pairs.vectors),
        is_converged=is_converged,
        scale=search.scale,
        num_products=search.basis.num_products,
        cost=search.basis.num_products * operator.cost,
        hidden_gap=hidden_gap,
        is_complete=is_complete,
    )
