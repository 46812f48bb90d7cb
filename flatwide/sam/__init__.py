"""Sharpness-aware minimization as a gradient: a drop-in for `jax.value_and_grad` that ascends before it descends.

    perturbation = rule(gradient of the loss at params);  result = gradient of the loss at params + perturbation

`rules` says where to ascend, `gradients` takes the two passes, `pieces` cuts the batch that shares a perturbation.
All know a loss and a pytree, nothing else. docs/sam.md shows the use in ten lines, how to add a rule, and the test
behind each promise.
"""

from flatwide.sam.gradients import stateful_value_and_grad, value_and_grad
from flatwide.sam.rules import (
    VARIANTS,
    AscentRule,
    adaptive,
    friendly,
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
    "AscentRule",
    "adaptive",
    "friendly",
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
