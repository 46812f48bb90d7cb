"""The largest and smallest eigenvalue of a symmetric matrix, from the same products."""

from typing import NamedTuple

import numpy as np

from flatwide.measure import inputs
from flatwide.measure.operators import Operator
from flatwide.measure.spectrum.lanczos import RETRIES, Basis, check_tolerances, unflatten_all
from flatwide.types import Array, PyTree

_BASIS_SIZE = 40  # vectors in memory, as many as `top_eigenvalues` takes for one value


class Ends(NamedTuple):
    """The (algebraically) largest and smallest eigenvalue, in this order.

    values: [2], in float64; residuals: [2], norms of S v - value v by fresh products.
    vectors: two unit vectors, one pytree like params with leading axes of 2.
    is_converged: [2], whether the residual is at most its tolerance times the larger |value|.
    num_products: products with S, checks included.
    """

    values: np.ndarray
    residuals: np.ndarray
    vectors: PyTree
    is_converged: np.ndarray
    num_products: int


def ends(
    operator: Operator,
    *,
    key: Array,
    tolerance: float = 1e-4,
    smallest_tolerance: float = 1e-2,
    max_products: int = 1000,
) -> Ends:
    """Find the largest and the smallest eigenvalue of a symmetric matrix S.

    Args:
      operator, key, max_products: as for `top_eigenvalues`.
      tolerance: of the largest value's residual, relative to the larger |value|; at least 10 times the type's rounding
        error.
      smallest_tolerance: the same for the smallest, which takes many times the products at the edge of a cluster near
        zero; if it is well separated, its error is of the order of the residual squared.
    Returns: Ends, values in the unit of S. With one row both are the same.
    Raises: ValueError if an option is out of range or a product is not finite.
    """
    check_tolerances(operator, tolerance=tolerance, smallest_tolerance=smallest_tolerance)
    inputs.check_at_least(3, ": one, and a check at each end", max_products=max_products)
    basis = Basis(operator, min(_BASIS_SIZE, operator.size))
    basis.begin_randomly(key)
    size, retries = 0.0, 0
    while True:
        basis.extend()
        values, vectors = basis.ritz()
        size = max(size, float(np.max(np.abs(values))))
        limit = size * np.array([tolerance, smallest_tolerance])
        # S y - theta y = coupling y_m q_next (Paige, 1971): these residuals need no products; fresh ones confirm them.
        errors = basis.coupling * np.abs(vectors[-1, [-1, 0]])
        is_over = basis.has_ended or basis.num_rows == operator.size or basis.num_products + 2 >= max_products
        if is_over or np.all(errors <= limit):
            checked = basis.check(vectors[:, [-1, 0]])
            if is_over or retries == RETRIES or np.all(checked.residuals <= limit):
                break
            retries += 1
        if basis.num_rows == basis.capacity:
            # Ritz vectors near both ends are kept as well: without them, the outermost ones would converge slower.
            kept = np.r_[0 : basis.capacity // 4, -(basis.capacity // 4) : 0]
            basis.restart(basis.combine(vectors[:, kept]), np.diag(values[kept]))
    return Ends(
        values=checked.values,
        residuals=checked.residuals,
        vectors=unflatten_all(operator.params, checked.vectors),
        is_converged=checked.residuals <= limit,
        num_products=basis.num_products,
    )
