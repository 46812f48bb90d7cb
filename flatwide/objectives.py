"""Objectives: what is minimized and what is reported.

An objective as found by its name in a config: objective(num_outputs, *, <the config fields it reads>) -> Objective.
"""

import jax
import jax.numpy as jnp
import numpy as np

from flatwide.types import Array, Batch, Objective, PyTree

OBJECTIVES: dict[str, str] = {"cross_entropy": "flatwide.objectives:cross_entropy"}


def cross_entropy(num_outputs: int) -> Objective:
    """Score integer labels by softmax cross-entropy, and report the fraction that is right.

    Args:
      num_outputs: K >= 2 classes.
    Returns: an objective for outputs (logits) [B, K] with targets [B], or [B, L, K] with [B, L]. Each target is an
      item; `batch["weights"]`, [B] or as the targets, weighs the items (default 1; 0 for padding, whose targets and
      logits may be anything). Losses are in nats, in float32 or wider. Of equal logits the first is the prediction.
    Raises: ValueError when traced with other shapes, or targets that are not integers.
    Equation: loss_i = sum_l weight_il (log sum_k exp(z_ilk) - z_il,target);
      accuracy = sum_il weight_il [argmax_k z_ilk = target_il] / sum_il weight_il.
    """
    if num_outputs < 2:
        raise ValueError(f"num_outputs={num_outputs}: expected at least 2 classes.")

    def losses(outputs: PyTree, batch: Batch) -> Array:
        logits, targets, weights = _items(outputs, batch, num_outputs)
        # The largest logit is taken off before the logarithm, which keeps the digits of losses near zero.
        log_probabilities = jax.nn.log_softmax(logits)
        losses = -jnp.take_along_axis(log_probabilities, targets[..., None], axis=-1)[..., 0]
        return _total(weights * losses)

    def weights(batch: Batch) -> Array:
        return _total(_item_weights(batch))

    def predictions(outputs: PyTree, batch: Batch) -> Array:
        logits, targets, weights = _items(outputs, batch, num_outputs)
        return _total(weights * (jnp.argmax(logits, axis=-1) == targets))

    return Objective(losses, weights, predictions, _fraction, metric_name="accuracy", higher_is_better=True)


def _items(logits: Array, batch: Batch, num_outputs: int) -> tuple[Array, Array, Array]:
    """Check shapes and blank the padding, so that neither its values nor their gradients reach any sum."""
    targets = batch["targets"]
    if logits.shape != (*targets.shape, num_outputs):
        raise ValueError(
            f"outputs of shape {logits.shape} for targets of shape {targets.shape}: expected {num_outputs} logits for "
            f"each target, {(*targets.shape, num_outputs)}; see the model's last layer and the data set's num_outputs."
        )
    if not jnp.issubdtype(targets.dtype, jnp.integer):
        raise ValueError(f"targets of type {targets.dtype}: expected integers, the classes 0 to {num_outputs - 1}.")
    weights = _item_weights(batch)
    counts = weights > 0
    logits = logits.astype(jnp.promote_types(logits.dtype, jnp.float32))
    return jnp.where(counts[..., None], logits, 0), jnp.where(counts, targets, 0), weights


def _item_weights(batch: Batch) -> Array:
    """Give the weight of each item, in the shape of the targets."""
    shape = batch["targets"].shape
    if "weights" not in batch:
        return jnp.ones(shape, float)
    weights = jnp.asarray(batch["weights"], float)
    if weights.shape not in (shape, shape[:1]):
        raise ValueError(
            f"weights of shape {weights.shape} for targets of shape {shape}: expected one weight an example, "
            f"{shape[:1]}, or one a target."
        )
    return jnp.broadcast_to(weights.reshape(weights.shape + (1,) * (len(shape) - weights.ndim)), shape)


def _total(items: Array) -> Array:
    """Add up the items of each example."""
    return jnp.sum(items.reshape(items.shape[0], -1), axis=1)


def _fraction(correct: np.ndarray, weights: np.ndarray) -> float:
    """Compute the accuracy of a whole split."""
    total = np.sum(np.asarray(weights), dtype=np.float64)
    if not total > 0:
        raise ValueError(f"weights that add up to {total}: expected at least one item to score; see the split's size.")
    return float(np.sum(np.asarray(correct), dtype=np.float64) / total)
