"""Sharpness-aware minimization as a gradient: a replacement for `jax.value_and_grad` with an ascent step.

    perturbation = rule(gradient of the loss at params);  result = gradient of the loss at params + perturbation

`rules` defines where to ascend, `gradients` takes the two passes, `pieces` divides the batch, and `diagnosis` says
whether rho is on the scale of a loss. All depend on a loss and a pytree only. docs/sam.md shows the use in ten lines,
how to add a rule, and the test of each property.
"""

from flatwide.sam.diagnosis import WORKING_RISES, Ascent, diagnose
from flatwide.sam.gradients import SplitLoss, stateful_value_and_grad, value_and_grad
from flatwide.sam.rules import (
    VARIANTS,
    AscentRule,
    adaptive,
    friendly,
    functional,
    gsam,
    layerwise,
    momentum_sam,
    norm_layers,
    normalized,
    subset,
    unnormalized,
)

__all__ = [
    "VARIANTS",
    "WORKING_RISES",
    "Ascent",
    "AscentRule",
    "SplitLoss",
    "adaptive",
    "diagnose",
    "friendly",
    "functional",
    "gsam",
    "layerwise",
    "momentum_sam",
    "norm_layers",
    "normalized",
    "stateful_value_and_grad",
    "subset",
    "unnormalized",
    "value_and_grad",
]
