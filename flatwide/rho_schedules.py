"""Schedules of rho: its factor at each step, counted from 0.

factor = rho_schedules.build(kind, ...);  a step ascends by rho * factor(step), and takes no ascent if that is 0
"""

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp

from flatwide import registry
from flatwide.types import Array

# The config fields that each kind reads.
FIELDS: dict[str, tuple[str, ...]] = {
    "constant": (),
    "late": ("rho_switch",),
    "early": ("rho_switch",),
    "every": ("rho_every",),
    "decay": (),
    "with_learning_rate": (),
}
KINDS = tuple(FIELDS)


def build(
    kind: str,
    *,
    switch: float,
    every: int,
    num_steps: int,
    schedule: Callable[[Array], Array],
    decay_start: int | None = None,
) -> Callable[[Array], Array] | None:
    """Build the factor of rho at each step, or None if it is always 1.

    Args:
      kind: one of `KINDS`.
      switch: fraction of training, in (0, 1), at which `late` starts and `early` stops ascending.
      every: k >= 2 of `every`.
      num_steps: T >= 1, steps of the whole run.
      schedule: step -> factor of the learning rate, from 0 to 1, as of `schedules.build`.
      decay_start: first step of the decay of a learning rate that is constant before; None without one.
    Returns: t -> factor in [0, 1], in the default float type; t may be traced.
    Raises: ValueError if the kind is unknown, if `decay` has no decay, or if `late` or `early` would ascend at every
      step or at none.
    Equation: with s = ceil(switch T): late 1 where t >= s, else 0; early 1 where t < s, else 0; every 1 where k divides
      t, else 0; decay 1 where t >= decay_start, else 0; with_learning_rate the factor of the learning rate.
    Source: Zhou et al. (2025), arXiv 2410.10373, for late; Liu et al. (2022), arXiv 2203.02714, for every k-th step,
      without what LookSAM does in between; Zhuang et al. (2022), arXiv 2203.08065, for with_learning_rate, with
      their smallest rho and rate at 0.
    """
    if kind not in KINDS:
        raise ValueError(registry.unknown("rho_schedule", kind, KINDS))
    if kind == "constant":
        return None
    if kind == "with_learning_rate":
        return schedule
    if kind == "decay" and decay_start is None:
        raise ValueError(
            "config.rho_schedule='decay': expected a learning rate that is constant and then decays, whose decay turns "
            "SAM on; set config.lr_scheduler=wsd, or config.rho_schedule=late."
        )
    first = math.ceil(round(switch * num_steps, 9))  # 0.55 * 100 is 55.00000000000001
    if kind in ("late", "early") and not 0 < first < num_steps:
        raise ValueError(
            f"config.rho_switch={switch} with config.rho_schedule={kind!r}: it is step {first} of {num_steps}, "
            "so SAM would be on at every step or at none; expected some of both. Change rho_switch, train longer, "
            "or set config.rho_schedule='constant' or config.rho=0."
        )

    def factor(step: Array) -> Array:
        step = jnp.asarray(step)
        is_decaying = step >= (decay_start or 0)
        is_on = {"late": step >= first, "early": step < first, "every": step % every == 0, "decay": is_decaying}[kind]
        return is_on.astype(float)

    return factor


def num_ascents(factor: Callable[[Array], Array] | None, num_steps: int) -> int:
    """Count the steps that ascend among the first `num_steps`."""
    if factor is None:
        return num_steps
    return int(jnp.sum(jax.vmap(factor)(jnp.arange(num_steps)) > 0))
