"""Whether a radius of SAM is on the scale of a loss."""

import math
from collections.abc import Callable
from numbers import Real
from typing import NamedTuple

import jax

from flatwide import trees
from flatwide.sam.rules import AscentRule, normalized
from flatwide.types import Array, PyTree

# Smallest and largest relative rise at the best radii of studies in which SAM helps: benchmarks/rho_scale.py.
WORKING_RISES = (0.017, 0.27)


class Ascent(NamedTuple):
    """The rise of a loss by SAM's ascent step.

    loss: L(w). loss_rise: L(w + eps) - L(w). relative_rise: their ratio.
    perturbation_norm: |eps|; the same as rho for the rule `normalized`.
    scale: "low", "high" or "" if the relative rise is below, above or within `WORKING_RISES`.
    rho_to_try: the radius within the range nearest to rho, if the rise is proportional to rho; NaN without a rise.
    """

    loss: float
    loss_rise: float
    relative_rise: float
    perturbation_norm: float
    scale: str
    rho_to_try: float


def diagnose(
    loss_fn: Callable[..., Array],
    params: PyTree,
    batch: PyTree | None = None,
    *,
    rho: float,
    rule: Callable[[float], AscentRule] = normalized,
) -> Ascent:
    """Measure how much SAM's ascent raises a loss, and compare it with the rises at which SAM has helped.

    The range is that of initial networks: at the end of training the loss of a network that fits its labels is almost
    zero, and its relative rise says nothing about rho.

    Args:
      loss_fn: (params, batch) -> mean loss, without aux; (params) if there is no batch, as of `measure.torch.loss`.
      params: where training starts, initial or pretrained.
      batch: a training batch, or the microbatch whose examples share a perturbation.
      rho: the radius, > 0. rule: rho -> ascent rule, such as `sam.adaptive`.
    Raises: ValueError if rho or the loss is not a finite positive number.
    Cost: one gradient and one loss.
    """
    if not isinstance(rho, Real) or not 0 < rho < math.inf:
        raise ValueError(f"rho={rho!r}: expected a finite number > 0.")
    ascent, data = rule(rho), () if batch is None else (batch,)
    loss, gradient = jax.value_and_grad(loss_fn)(params, *data)
    if not 0 < float(loss) < math.inf:
        raise ValueError(f"loss {float(loss):g}: expected a finite number > 0, to which its rise can be compared.")
    perturbation, _ = ascent.perturb(gradient, params, ascent.init(params), rho)
    rise = float(loss_fn(trees.add(params, perturbation), *data) - loss)
    low, high = WORKING_RISES
    relative = math.inf if math.isnan(rise) else rise / float(loss)
    scale = "low" if relative < low else "high" if relative > high else ""
    nearest = min(max(relative, low), high)
    return Ascent(
        loss=float(loss),
        loss_rise=rise,
        relative_rise=relative,
        perturbation_norm=float(trees.norm(perturbation)),
        scale=scale,
        rho_to_try=rho * nearest / relative if 0 < relative < math.inf else math.nan,
    )
