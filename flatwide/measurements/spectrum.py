"""The density of the Hessian's eigenvalues: how many of them are where."""

import jax
import numpy as np

from flatwide import measure
from flatwide.measurements.subject import Measured, Subject


def spectrum(
    subject: Subject,
    *,
    key: jax.Array,
    num_probes: int = 5,
    num_steps: int = 50,
    floor: float = 1e-4,
    batch_size: int = 1000,
) -> Measured:
    """Measure how the eigenvalues of the Hessian are spread.

    Args:
      num_probes, num_steps: of the Lanczos quadrature.
      floor: eigenvalues within this part of the largest one are taken for zero: rounding moves them.
      batch_size: examples in memory at once.
    Returns: negative_share, positive_share: of the eigenvalues below -floor and above floor times the largest in
      magnitude; width: of the bump that each eigenvalue is drawn as. Arrays: grid [G], in loss per squared parameter
      unit; density, density_error [G], per such unit.
    Cost: num_probes * num_steps Hessian-vector products.
    """
    found = measure.spectral_density(subject.hessian(batch_size), key=key, num_probes=num_probes, num_steps=num_steps)
    bound = floor * float(np.max(np.abs(found.nodes)))
    below, at_most = found.share_below(-bound), found.share_below(np.nextafter(bound, np.inf))
    return Measured(
        {"negative_share": below.value, "positive_share": max(1 - at_most.value, 0.0), "width": found.width},
        {"negative_share": below.standard_error, "positive_share": at_most.standard_error},
        {"grid": found.grid, "density": found.density, "density_error": found.standard_error},
        cost=found.cost,
    )
