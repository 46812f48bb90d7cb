"""Learning-rate schedules: the factor of the learning rate at each step, counted from 0."""

from collections.abc import Callable

import jax.numpy as jnp

from flatwide import registry
from flatwide.types import Array

SCHEDULES = ("step", "step_half", "step_mnist", "cosine", "constant", "linear", "inverse_sqrt", "wsd")
ALIASES = {"imagenet_cosine": "cosine"}

# The config fields that some schedules read, besides warmup_steps, which all read.
FIELDS: dict[str, tuple[str, ...]] = dict.fromkeys(SCHEDULES, ()) | {
    "cosine": ("final_factor",),
    "linear": ("final_factor",),
    "wsd": ("decay_fraction", "final_factor"),
}

# The factor is multiplied by 0.1 after each of these quarters of all steps.
_MILESTONES = {"step": (2, 3), "step_half": (2,), "step_mnist": (1, 2, 3)}


def build(
    name: str, *, num_steps: int, warmup_steps: int = 0, decay_fraction: float = 0.2, final_factor: float = 0.0
) -> Callable[[int | Array], Array]:
    """Build a schedule by its name.

    Args:
      name: one of `SCHEDULES`, or of `ALIASES`.
      num_steps: T >= 1, steps of the whole run, warmup included.
      decay_fraction: f of wsd (warmup, stable, decay), in (0, 1).
      final_factor: c in [0, 1], to which cosine, linear and wsd fall at step T.
      warmup_steps: w >= 0. The factor rises linearly from 0 at step 0 to 1 at step w, as in the paper's sources, so the
        first step of a warmup changes nothing. A run no longer than its warmup stays in it.
    Returns: t -> factor, in the default float type; t may be traced.
    Raises: ValueError if the name is unknown or a number is out of range.
    Equation: factor(t) = rise(t) shape(t), rise = min(1, t / w), or 1 if w = 0; with v = clip((T - t) / (T - w), 0, 1):
      step 0.1 ** (how many of T/2 and 3T/4 are <= t); step_half with T/2 alone, step_mnist with T/4 too; linear v;
      cosine sin(pi v / 2) ** 2, which equals (1 + cos(pi (1 - v))) / 2 but stays exact near 0; constant 1;
      inverse_sqrt 1 / sqrt(max(t, w, 1)); wsd clip((T - t) / (T - s), 0, 1) with s = `decay_start`. Of cosine, linear
      and wsd, c + (1 - c) times this.
    Source: Flax's ImageNet example (warmup, cosine) and its sequence-tagging example (inverse_sqrt); Hu et al. (2024),
      arXiv 2404.06395, for wsd.
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
        decaying_from = decay_start(num_steps, decay_fraction) if name == "wsd" else warmup_steps
        shape = _shape(name, step, num_steps=num_steps, warmup_steps=warmup_steps, decaying_from=decaying_from)
        if final_factor and "final_factor" in FIELDS[name]:
            shape = final_factor + (1 - final_factor) * shape
        rise = jnp.minimum(1, _ratio(step, warmup_steps)) if warmup_steps else 1
        return rise * shape

    return factor


def decay_start(num_steps: int, decay_fraction: float) -> int:
    """Return the first step of the decay of wsd: at least one step decays."""
    return num_steps - max(1, round(decay_fraction * num_steps))


def _shape(name: str, step: Array, *, num_steps: int, warmup_steps: int, decaying_from: int) -> Array:
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
    left = jnp.clip(_ratio(num_steps - step, max(num_steps - decaying_from, 1)), 0, 1)
    return jnp.sin(jnp.pi / 2 * left) ** 2 if name == "cosine" else left


def _ratio(numerator: Array, denominator: int) -> Array:
    return numerator.astype(float) / denominator
