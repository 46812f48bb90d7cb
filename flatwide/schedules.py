"""Learning-rate schedules: the factor of the learning rate at each step, counted from 0."""

from collections.abc import Callable

import jax.numpy as jnp

from flatwide import registry
from flatwide.types import Array

SCHEDULES = ("step", "step_half", "step_mnist", "cosine", "constant", "linear", "inverse_sqrt")
ALIASES = {"imagenet_cosine": "cosine"}

# The factor is multiplied by 0.1 after each of these quarters of all steps.
_MILESTONES = {"step": (2, 3), "step_half": (2,), "step_mnist": (1, 2, 3)}


def build(name: str, *, num_steps: int, warmup_steps: int = 0) -> Callable[[int | Array], Array]:
    """Build a schedule by its name.

    Args:
      name: one of `SCHEDULES`, or of `ALIASES`.
      num_steps: T >= 1, steps of the whole run, warmup included.
      warmup_steps: w >= 0. The factor rises linearly from 0 at step 0 to 1 at step w, as in the paper's sources, so the
        first step of a warmup changes nothing. A run no longer than its warmup stays in it.
    Returns: t -> factor, in the default float type; t may be traced.
    Raises: ValueError if the name is unknown or a number is out of range.
    Equation: factor(t) = rise(t) shape(t), rise = min(1, t / w), or 1 if w = 0; with v = clip((T - t) / (T - w), 0, 1):
      step 0.1 ** (how many of T/2 and 3T/4 are <= t); step_half with T/2 alone, step_mnist with T/4 too; linear v;
      cosine sin(pi v / 2) ** 2, which equals (1 + cos(pi (1 - v))) / 2 but stays exact near 0; constant 1;
      inverse_sqrt 1 / sqrt(max(t, w, 1)).
    Source: Flax's ImageNet example (warmup, cosine) and its sequence-tagging example (inverse_sqrt).
    """
    name = ALIASES.get(name, name)
    if name not in SCHEDULES:
        raise ValueError(registry.unknown("lr_scheduler", name, (*SCHEDULES, *ALIASES)))
    if num_steps < 1:
        raise ValueError(f"num_steps={num_steps}: expected at least 1.")
    if warmup_steps < 0:
        raise ValueError(f"warmup_steps={warmup_steps}: expected a number >= 0 (0 is no warmup).")

    def factor(step):
        step = jnp.asarray(step)
        shape = _shape(name, step, num_steps=num_steps, warmup_steps=warmup_steps)
        rise = jnp.minimum(1, _ratio(step, warmup_steps)) if warmup_steps else 1
        return rise * shape

    return factor


def _shape(name: str, step: Array, *, num_steps: int, warmup_steps: int) -> Array:
    """Compute a schedule's factor without its warmup."""
    if name == "constant":
        return jnp.ones((), float)
    if name == "inverse_sqrt":
        return 1 / jnp.sqrt(jnp.maximum(step, max(warmup_steps, 1)).astype(float))
    if name in _MILESTONES:
        # The first step at or after each milestone; in integers, so that rounding cannot move one.
        boundaries = jnp.array([-(-quarters * num_steps // 4) for quarters in _MILESTONES[name]])
        factors = jnp.array([1.0, 0.1, 0.01, 0.001], float)  # powers of a rounded 0.1 would be wrong in the last digit
        return factors[jnp.sum(step >= boundaries)]
    # From the remaining steps, whose number is exact: 1 minus the completed fraction would round near the end.
    left = jnp.clip(_ratio(num_steps - step, max(num_steps - warmup_steps, 1)), 0, 1)
    return jnp.sin(jnp.pi / 2 * left) ** 2 if name == "cosine" else left


def _ratio(numerator: Array, denominator: int) -> Array:
    return numerator.astype(float) / denominator
