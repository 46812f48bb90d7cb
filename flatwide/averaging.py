"""Averages of the weights during training: a baseline for flat minima that costs no gradient.

    average = averaging.update(average, params, stats, rate)

The average is over the weights after each step (ema), or at the end of each epoch (swa), and is stored beside them.
It does not affect the steps.
"""

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp

from flatwide import registry
from flatwide.types import Array, PyTree

# Default start of averaging, as a fraction of training.
STARTS = {"none": 0.0, "ema": 0.0, "swa": 0.75}

# The config fields that each kind reads.
FIELDS: dict[str, tuple[str, ...]] = {
    "none": (),
    "ema": ("average_decay", "average_start"),
    "swa": ("average_start",),
}
KINDS = tuple(FIELDS)


def build(
    kind: str, *, decay: float, start: float | None, num_steps: int, steps_per_epoch: int
) -> Callable[[Array], Array] | None:
    """Build the rate at which an average follows the weights, or None if there is no average.

    Args:
      kind: one of `KINDS`.
      decay: d of ema, 0 < d < 1; swa does not read it.
      start: the fraction of training at which averaging starts, in [0, 1); None is the kind's default in `STARTS`.
      num_steps, steps_per_epoch: T and E, of the whole run.
    Returns: t -> rate r in [0, 1], t >= 1 the steps taken, which may be traced: average <- average + r (w - average).
      Up to the start the average is the weights themselves.
    Raises: ValueError if the kind is unknown, or fewer than two sets of weights would be averaged.
    Equation: with n counting the averaged weights, from the start of averaging or the first step:
      ema after each step, r = (1 - d) / (1 - d ** n), which makes the average that of Adam's bias-corrected moments,
      sum_k d ** (n - k) w_k / sum_k d ** (n - k); swa r = 1 / n at the end of each epoch and 0 between them.
    Source: Polyak and Juditsky (1992) for averaging; Kingma and Ba (2015), section 3, for the correction; Izmailov et
      al. (2018), algorithm 1, for swa with a cycle of one epoch, at the learning rates of the run's schedule.
    """
    if kind not in KINDS:
        raise ValueError(registry.unknown("weight_average", kind, KINDS))
    if kind == "none":
        return None
    every = steps_per_epoch if kind == "swa" else 1
    start = STARTS[kind] if start is None else start
    first = max(1, math.ceil(round(start * num_steps / every, 9)))  # in units of `every`; 0.1 * 30 is 3
    if (count := num_steps // every - first + 1) < 2:
        unit = "ends of epochs" if kind == "swa" else "steps"
        raise ValueError(
            f"config.weight_average={kind!r}: {count} of the {num_steps // every} {unit} of the run would be averaged; "
            "expected at least 2. Train longer, or set config.average_start lower."
        )

    def rate(step: Array) -> Array:
        n = step // every - first + 1
        later = jnp.maximum(n, 2).astype(float)
        if kind == "ema":
            follow = (1 - decay) / -jnp.expm1(later * math.log(decay))
        else:
            follow = jnp.where(step % every == 0, 1 / later, 0)
        return jnp.where(n <= 1, jnp.where(step <= first * every, 1.0, 0.0), follow)

    return rate


def start(params: PyTree, stats: PyTree) -> PyTree:
    """Return the average before the first step: the weights and the model's own state as they are."""
    return {"params": params, "stats": stats}


def update(average: PyTree, params: PyTree, stats: PyTree, rate: Array) -> PyTree:
    """Move the average towards the weights of a step, and their model state with them.

    Batch-norm averages are averaged at the same rate as the weights, like `use_buffers=True` of PyTorch's
    `AveragedModel`, instead of being recomputed in a pass over the data. Values that do not change keep every bit, and
    values that are not real numbers are those of the last step.

    Args:
      average: as of `start`.
      rate: scalar in [0, 1]; 1 copies the weights exactly.
    Cost: one multiply-add for each weight, and one copy of the weights in memory.
    """

    def follow(old: Array, new: Array) -> Array:
        if not jnp.issubdtype(new.dtype, jnp.floating):
            return new
        return jnp.where(rate >= 1, new, old + (rate * (new - old)).astype(old.dtype))

    return jax.tree.map(follow, average, {"params": params, "stats": stats})
