"""The spectral density of the Hessian."""

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
    """Measure the distribution of the eigenvalues of the Hessian.

    Args:
      num_probes, num_steps: of the Lanczos quadrature.
      batch_size: examples in memory at once.
    Returns: width, of the smoothing of the density, and its resolution: negative_share and positive_share, of the
      eigenvalues below -width and above width. Arrays: grid [G], in loss per squared parameter unit; density,
      density_error [G], per such unit.
    Cost: num_probes * num_steps Hessian-vector products.
    """
    result = measure.spectral_density(subject.hessian(batch_size), key=key, num_probes=num_probes, num_steps=num_steps)
    below, at_most = result.share_below(-result.width), result.share_below(result.width)
    return Measured(
        {"negative_share": below.value, "positive_share": max(1 - at_most.value, 0.0), "width": result.width},
        {"negative_share": below.standard_error, "positive_share": at_most.standard_error},
        {"grid": result.grid, "density": result.density, "density_error": result.standard_error},
        cost=result.cost,
    )
