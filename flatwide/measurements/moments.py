"""How much the Hessians of single examples differ: s_2, s_3 and s_4 of the paper's theorem 6.3."""

import jax
import numpy as np

from flatwide.measure.moments import hessian_moments
from flatwide.measurements.subject import Measured, Subject


def moments(subject: Subject, *, key: jax.Array, tolerance: float = 1e-3, max_products: int = 200) -> Measured:
    """Measure the non-uniformity of the examples' Hessians H_i, with M_k the mean of H_i^k and H = M_1.

    Args:
      tolerance: of the residuals, relative to the eigenvalue.
      max_products: with each matrix, where to give up.
    Returns: s_2, s_3, s_4, in loss per squared parameter unit: the k-th root of the largest eigenvalue of M_k - H^k,
      with its sign; smallest_2, smallest_3, smallest_4: of the smallest one; residual_2, residual_3, residual_4: of
      the two the larger residual, relative to the larger eigenvalue. Over the kept weights, every example weighed alike.
    Cost: tens of products of 2 k - 1 Hessian-vector products for each k, as recorded.
    """
    found = hessian_moments(
        subject.per_example_loss,
        subject.params,
        subject.examples,
        key=key,
        mask=subject.mask,
        extra=subject.stats,
        tolerance=tolerance,
        max_products=max_products,
    )
    values = {}
    for place, order in enumerate(found.orders.tolist()):
        smallest = float(found.smallest[place])
        size = max(abs(float(found.largest[place])), abs(smallest))
        values[f"s_{order}"] = float(found.non_uniformity[place])
        values[f"smallest_{order}"] = float(np.sign(smallest) * abs(smallest) ** (1 / order))
        values[f"residual_{order}"] = float(found.residuals[place].max()) / size if size else 0.0
    return Measured(values, cost=found.cost)
