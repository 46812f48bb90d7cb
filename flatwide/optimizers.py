"""Optimizers as maps from a gradient to a direction, without the learning rate.

    direction, state = optimizer.update(gradient, state, params, weight_decay)
    params = apply(params, direction, learning_rate)

The gradient is SAM's. It is clipped first, then L2 decay (sgd, adam) is added at w, then come momentum or Adam's
moments, and at the end decoupled decay (adamw). None of this affects SAM's ascent. Learning rate and decay are
arguments of each step, so that runs that differ in them share one compiled program.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from flatwide import registry
from flatwide.parameterization import Factors, multiply
from flatwide.types import Array, PyTree

OPTIMIZERS = ("sgd", "adam", "adamw")

# The config fields that an optimizer reads, besides learning_rate, weight_decay and gradient_clip, which all read.
FIELDS: dict[str, tuple[str, ...]] = {
    "sgd": ("momentum", "nesterov"),
    "adam": ("adam_betas", "adam_epsilon"),
    "adamw": ("adam_betas", "adam_epsilon"),
}


class Optimizer(NamedTuple):
    """An optimizer as two pure functions.

    init(params) -> state: a pytree of arrays.
    update(gradient, state, params, weight_decay) -> (direction, state): `weight_decay` may be traced.
    """

    init: Callable[[PyTree], PyTree]
    update: Callable[[PyTree, PyTree, PyTree, float | Array], tuple[PyTree, PyTree]]


def build(
    name: str,
    *,
    momentum: float = 0.0,
    nesterov: bool = False,
    adam_betas: tuple[float, float] = (0.9, 0.999),
    adam_epsilon: float = 1e-8,
    gradient_clip: float | None = None,
    decay_mask: Callable[[PyTree], PyTree] | None = None,
    factors: Factors | None = None,
) -> Optimizer:
    """Build an optimizer by its name; it reads the fields that `FIELDS` lists and ignores the others.

    Args:
      name: one of `OPTIMIZERS`.
      momentum: mu of sgd, 0 <= mu < 1.
      nesterov: whether sgd looks ahead.
      adam_betas: decay of the first and second moment, each 0 <= beta < 1.
      adam_epsilon: added to the root of the second moment, > 0.
      gradient_clip: largest global norm of the gradient, before decay and momentum; None for no clipping.
      decay_mask: params -> tree of booleans, which leaves decay (such as `trees.kernels`). None: all, including biases
        and norm scales, as in the paper.
      factors: of each leaf, as `parameterization.factors` computes them: of the rate (the direction is multiplied by
        it), of the decay, of what Adam's moments are taken of, and of the clipping threshold. None: all 1.
    Raises: ValueError if the name is unknown or a number is out of range.
    Equation: g the clipped gradient, lambda the decay, lr the learning rate.
      sgd:   d = g + lambda w;  v <- mu v + d;  direction = v, or d + mu v with nesterov (PyTorch's definition).
      adam:  d = g + lambda w;  direction = m / (sqrt(s) + epsilon), m and s bias-corrected moments of d.
      adamw: direction = m / (sqrt(s) + epsilon) + lambda w, m and s of g; so w shrinks by lr lambda w.
    """
    if name not in OPTIMIZERS:
        raise ValueError(registry.unknown("optimizer", name, OPTIMIZERS))
    _check(momentum, adam_betas, adam_epsilon, gradient_clip)
    threshold = gradient_clip and gradient_clip * (1.0 if factors is None else factors.clip)
    clip = optax.identity() if threshold is None else optax.clip_by_global_norm(threshold)
    if name == "sgd":
        rule = optax.trace(momentum, nesterov) if momentum else optax.identity()
    else:
        rule = optax.scale_by_adam(*adam_betas, eps=adam_epsilon)

    def update(gradient, state, params, weight_decay):
        gradient, _ = clip.update(gradient, clip.init(params))
        decaying = params if factors is None else multiply(factors.decay, params)
        if name != "adamw":
            gradient = _add_decay(gradient, decaying, weight_decay, decay_mask)
        # m / (s^(1/2) + epsilon / c) is the direction of c times the gradient.
        direction, state = rule.update(gradient if factors is None else multiply(factors.gradient, gradient), state)
        if name == "adamw":
            direction = _add_decay(direction, decaying, weight_decay, decay_mask)
        return (direction if factors is None else multiply(factors.rate, direction)), state

    return Optimizer(jax.jit(rule.init), update)  # one program for all leaves, instead of one for each shape


def second_moments(state: PyTree) -> dict[str, PyTree] | None:
    """Return Adam's second moments from the state of an optimizer; None for other optimizers.

    Returns: "num_updates", the number of updates, and "average", the average of the squared gradient, like params and
      without bias correction.
    """
    if not isinstance(state, optax.ScaleByAdamState):
        return None
    return {"num_updates": state.count, "average": state.nu}


def preconditioner(moments: dict[str, PyTree], *, adam_betas: tuple[float, float], adam_epsilon: float) -> PyTree:
    """Compute the diagonal by which Adam divides its average of gradients, like params.

    Args:
      moments: as `second_moments` returns them, after at least one update.
      adam_betas, adam_epsilon: as for `build`.
    Equation: (1 - beta_1^t) (sqrt(v / (1 - beta_2^t)) + epsilon) after t updates: it divides an average of gradients
      without bias correction.
    """
    start, corrected = (1 - beta ** int(moments["num_updates"]) for beta in adam_betas)
    return jax.tree.map(
        lambda v: (start * (jnp.sqrt(v / corrected) + adam_epsilon)).astype(v.dtype), moments["average"]
    )


def apply(params: PyTree, direction: PyTree, learning_rate: float | Array) -> PyTree:
    """Take a step of `learning_rate` against the direction; parameters keep their dtypes."""
    return jax.tree.map(lambda w, d: (w - learning_rate * d).astype(w.dtype), params, direction)


def _add_decay(direction: PyTree, params: PyTree, weight_decay: float | Array, decay_mask: Callable | None) -> PyTree:
    """Add weight_decay times w to the leaves that decay."""
    decays = jax.tree.map(lambda _: True, params) if decay_mask is None else decay_mask(params)
    return jax.tree.map(
        lambda d, w, decay: (d + weight_decay * w).astype(d.dtype) if decay else d, direction, params, decays
    )


def _check(momentum: float, adam_betas: tuple[float, float], adam_epsilon: float, gradient_clip: float | None) -> None:
    """Raise ValueError for numbers out of range."""
    if not 0 <= momentum < 1:
        raise ValueError(f"momentum={momentum}: expected a number in [0, 1).")
    if len(adam_betas) != 2 or not all(0 <= beta < 1 for beta in adam_betas):
        raise ValueError(f"adam_betas={adam_betas}: expected two numbers in [0, 1), such as (0.9, 0.999).")
    if not adam_epsilon > 0:
        raise ValueError(f"adam_epsilon={adam_epsilon}: expected a number > 0, such as 1e-8 (0 divides 0 by 0).")
    if gradient_clip is not None and not gradient_clip > 0:
        raise ValueError(f"gradient_clip={gradient_clip}: expected a number > 0, or None for no clipping.")
