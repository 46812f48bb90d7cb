"""The density of the Hessian's eigenvalues: how many of them are where."""

import jax

from flatwide import measure
from flatwide.measurements.subject import Measured, Subject


def spectrum(
    subject: Subject,
    *,
    key: jax.Array,
    num_probes: int = 5,
    num_steps: int = 50,
    batch_size: int = 1000,
) -> Measured:
    """Measure how the eigenvalues of the Hessian are spread.

    Args:
      num_probes, num_steps: of the Lanczos quadrature.
      batch_size: examples in memory at once.
    Returns: width, of the bump that each eigenvalue is drawn as, and what tells no two apart: negative_share and
      positive_share, of the eigenvalues below -width and above width. Arrays: grid [G], in loss per squared parameter
      unit; density, density_error [G], per such unit.
    Cost: num_probes * num_steps Hessian-vector products.
    """
    found = measure.spectral_density(subject.hessian(batch_size), key=key, num_probes=num_probes, num_steps=num_steps)
    below, at_most = found.share_below(-found.width), found.share_below(found.width)
    return Measured(
        {"negative_share": below.value, "positive_share": max(1 - at_most.value, 0.0), "width": found.width},
        {"negative_share": below.standard_error, "positive_share": at_most.standard_error},
        {"grid": found.grid, "density": found.density, "density_error": found.standard_error},
        cost=found.cost,
    )
