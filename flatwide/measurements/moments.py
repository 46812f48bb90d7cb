"""The non-uniformity of the Hessians of single examples: s_2, s_3 and s_4 of the paper's theorem 6.3."""

import jax

from flatwide import measure
from flatwide.measurements.subject import Measured, Subject


def moments(subject: Subject, *, key: jax.Array, tolerance: float = 1e-3, max_products: int = 200) -> Measured:
    """Measure the non-uniformity of the examples' Hessians H_i, with M_k the mean of H_i^k and H = M_1.

    Args:
      tolerance: of the residuals.
      max_products: limit of products with each matrix, at which the search stops.
    Returns: s_2, s_3, s_4, in loss per squared parameter unit: the k-th root of the largest eigenvalue of M_k - H^k,
      with its sign; residual_2, residual_3, residual_4: its residual over the eigenvalue of the largest magnitude;
      smallest_2, smallest_3, smallest_4: the smallest eigenvalue over that of the largest magnitude, to a hundredth.
      Over the kept weights; all examples have the same weight.
    Cost: tens of products of 2 k - 1 Hessian-vector products for each k, as recorded.
    """
    result = measure.hessian_moments(subject.example_problem(), key=key, tolerance=tolerance, max_products=max_products)
    values = {}
    for index, order in enumerate(result.orders.tolist()):
        largest, smallest = float(result.largest[index]), float(result.smallest[index])
        size = max(abs(largest), abs(smallest)) or 1.0
        values[f"s_{order}"] = float(result.non_uniformity[index])
        values[f"residual_{order}"] = float(result.residuals[index, 0]) / size
        values[f"smallest_{order}"] = smallest / size
    return Measured(values, cost=result.cost)
