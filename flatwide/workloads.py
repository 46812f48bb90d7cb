"""Data preparation, model and objective bound into the loss that training, pruning and measurements differentiate."""

import functools
from collections.abc import Callable
from typing import NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import numpy as np

from flatwide import trees
from flatwide.types import Array, Batch, Model, Objective, Padding, PyTree

_Result = TypeVar("_Result")


class Workload(NamedTuple):
    """A data set's preparation and padding, a model and an objective."""

    prepare: Callable[..., Batch]  # as `Dataset.prepare`
    model: Model
    objective: Objective
    padding: Padding | None = None  # as `Dataset.padding`


class Scores(NamedTuple):
    """The results of a forward pass for each example of a batch."""

    losses: Array  # [B], totals over an example's scored items
    weights: Array  # [B], number of items of each example
    predictions: PyTree  # of [B, ...]


def score(
    workload: Workload, params: PyTree, stats: PyTree, batch: Batch, *, train: bool, key: Array | None
) -> tuple[Scores, PyTree]:
    """Run the model on a prepared batch.

    Returns: the scores of each example, and the model's new state (unchanged unless `train`).
    """
    outputs, stats = workload.model.apply(params, stats, batch["inputs"], train=train, key=key)
    objective = workload.objective
    return (
        Scores(objective.losses(outputs, batch), objective.weights(batch), objective.predictions(outputs, batch)),
        stats,
    )


def cut_to_fit(padding: Padding | None, batch: Batch, function: Callable[[Batch], _Result]) -> _Result:
    """Run a function on a raw batch, cut to the smallest level of padding that holds all its examples.

    Args:
      function: traced once for each level of the padding; its result must have the same shapes for all.
    """
    if padding is None:
        return function(batch)
    levels = np.asarray(padding.levels)
    needed = jnp.searchsorted(levels, jnp.max(jnp.asarray(padding.sizes(batch))))

    def at_level(level: int, batch: Batch) -> _Result:
        return function(padding.cut(batch, level))

    branches = [functools.partial(at_level, level) for level in padding.levels]
    return jax.lax.switch(jnp.minimum(needed, len(levels) - 1), branches, batch)


def mean_loss(losses: Array, weights: Array) -> Array:
    """Average a batch's losses over its scored items; a batch without any has loss 0."""
    total = jnp.sum(weights)
    return jnp.sum(losses) / jnp.where(total > 0, total, 1)


def criterion(objective: Objective, outputs: PyTree, batch: Batch) -> Array:
    """Compute the mean loss of the outputs for a prepared batch."""
    return mean_loss(objective.losses(outputs, batch), objective.weights(batch))


def loss(
    workload: Workload,
    params: PyTree,
    batch: Batch,
    *,
    stats: PyTree,
    mask: PyTree | None = None,
    train: bool,
    key: Array | None,
) -> tuple[Array, PyTree]:
    """Compute the mean loss of a prepared batch with pruned weights at zero.

    Returns: the loss, and the model's new state.
    """
    outputs, stats = workload.model.apply(trees.apply_mask(params, mask), stats, batch["inputs"], train=train, key=key)
    return criterion(workload.objective, outputs, batch), stats
