"""Curvature and sharpness of each layer: the Hessian's blocks, shares of SAM's perturbation, and sharpness."""

import jax

from flatwide import measure
from flatwide.measurements.subject import Measured, Subject


def layers(subject: Subject, *, key: jax.Array, radius: float = 0.05, batch_size: int = 1000) -> Measured:
    """Measure the curvature and sharpness of each layer, with the others fixed.

    A layer is a group of parameters whose names have the same parent. The radius is the same for all layers and runs.

    Args:
      radius: of each layer's ball, in parameter units.
      batch_size: examples in memory at once.
    Returns: top_eigenvalue_<layer>, of its block of the Hessian, in loss per squared parameter unit; trace_<layer>, of
      the block, with standard error; ascent_share_<layer>, of the squared length of the run's perturbation on all
      examples; sharpness_<layer>, in units of loss, a lower bound; for layers that are not pruned entirely. The
      largest of each over the layers: largest_top_eigenvalue, largest_ascent_share, largest_sharpness.
    Cost: 35 Hessian-vector products for the traces, and 30 to 60 for each layer, as recorded.
    """
    measured = measure.layers(
        subject.problem(batch_size),
        key=key,
        rho=radius,
        adaptive=subject.built.config["sam_variant"] == "adaptive",
        scales=None if subject.built.factors is None else subject.built.factors.perturbation,
    )
    summary = ("top_eigenvalue", "ascent_share", "sharpness")
    values = {f"largest_{field}": max(getattr(layer, field) for layer in measured.layers.values()) for field in summary}
    errors = {}
    for name, layer in measured.layers.items():
        title = name.replace("/", "_")
        values |= {
            f"top_eigenvalue_{title}": layer.top_eigenvalue,
            f"trace_{title}": layer.trace.value,
            f"ascent_share_{title}": layer.ascent_share,
            f"sharpness_{title}": layer.sharpness,
        }
        errors[f"trace_{title}"] = layer.trace.standard_error
    return Measured(values, errors, cost=measured.cost)
