"""Objectives: losses to minimize and metrics to report.

A config names a builder: objective(num_outputs, real_targets, *, <config fields it reads>) -> Objective. Targets are
either classes (integers) or, with `real_targets`, real numbers: `num_outputs` of them for each item. A builder of the
user is named `path/to/file.py:name`.
"""

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from flatwide.types import Array, Batch, Objective, PyTree

OBJECTIVES: dict[str, str] = {
    "cross_entropy": "flatwide.objectives:cross_entropy",
    "squared": "flatwide.objectives:squared",
    "binary_cross_entropy": "flatwide.objectives:binary_cross_entropy",
    "ppo": "flatwide.objectives:ppo",
    "next_token": "flatwide.objectives:next_token",
}

# A config with real targets and such a loss is refused before any data are read.
FOR_CLASSES_ONLY = ("cross_entropy", "next_token")


def cross_entropy(num_outputs: int, real_targets: bool = False) -> Objective:
    """Score integer labels by softmax cross-entropy, and report the accuracy.

    Args:
      num_outputs: K >= 2 classes.
    Returns: an objective for outputs (logits) [B, K] with targets [B], or [B, L, K] with [B, L]. Each target is an
      item; `batch["weights"]`, [B] or as the targets, weighs the items (default 1; 0 for padding, whose targets and
      logits may be anything). Losses are in nats, in float32 or wider. Among equal logits the first is predicted.
    Raises: ValueError for real targets; when traced with other shapes, or targets that are not integers.
    Equation: loss_i = sum_l weight_il (log sum_k exp(z_ilk) - z_il,target);
      accuracy = sum_il weight_il [argmax_k z_ilk = target_il] / sum_il weight_il.
    """
    if real_targets:
        raise ValueError(
            "config.loss='cross_entropy': expected classes, but the targets of this data set are real numbers; "
            "choose config.loss=squared."
        )
    _check_classes(num_outputs)

    def losses(outputs: PyTree, batch: Batch) -> Array:
        logits, targets, weights = _items(outputs, batch, num_outputs)
        # log_softmax subtracts the largest logit first, which keeps losses near zero accurate.
        log_probabilities = jax.nn.log_softmax(logits)
        losses = -jnp.take_along_axis(log_probabilities, targets[..., None], axis=-1)[..., 0]
        return _total(weights * losses)

    return _classifier(num_outputs, losses)


def next_token(num_outputs: int, real_targets: bool = False, *, tokenizer: str = "bytes") -> Objective:
    """Score the next token of a text by softmax cross-entropy, and report the bits of each byte of text.

    Args:
      num_outputs: K >= 2 tokens.
      tokenizer: "none" if the bytes of a token are not known; then the metric is the bits of each token.
    Returns: an objective like `cross_entropy`, whose `batch["num_bytes"]`, as the targets, counts the bytes of each
      token (default 1).
    Raises: as `cross_entropy`.
    Equation: bits_per_byte = sum_i loss_i / (ln 2 sum_il weight_il num_bytes_il).
    """
    entropy = cross_entropy(num_outputs, real_targets)

    def predictions(outputs: PyTree, batch: Batch) -> dict[str, Array]:
        num_bytes = batch.get("num_bytes", 1) * _item_weights(batch, batch["targets"].shape)
        return {"nats": entropy.losses(outputs, batch), "num_bytes": _total(num_bytes)}

    def metric(values: dict[str, np.ndarray], weights: np.ndarray) -> float:
        del weights
        return _mean(values["nats"], values["num_bytes"]) / math.log(2)

    return entropy._replace(
        predictions=predictions,
        metric=metric,
        metric_name="bits_per_token" if tokenizer == "none" else "bits_per_byte",
        higher_is_better=False,
    )


def squared(num_outputs: int, real_targets: bool = False) -> Objective:
    """Score real targets, or classes as one-hot vectors, by the squared error summed over outputs.

    It is neither halved nor divided by the number of outputs. A source with (1/2) sum_k takes the same steps at twice
    our learning rate, one with (1/K) sum_k at K times ours.

    Args:
      num_outputs: K >= 1 real targets, or K >= 2 classes.
      real_targets: whether targets are real numbers instead of classes.
    Returns: an objective for outputs [B, K] with targets [B] of classes or [B, K] of real numbers, and likewise with
      more axes of items before the last, as for `cross_entropy`; `batch["weights"]` as there. The metric is the
      accuracy of the largest output for classes, and `mean_squared_error` for real targets, where lower is better.
    Raises: ValueError when traced with other shapes, or targets of the other kind.
    Equation: loss_i = sum_l weight_il sum_k (f_ilk - y_ilk)^2, where a class c is y_k = [k = c];
      mean_squared_error = sum_i loss_i / sum_il weight_il.
    """
    if not real_targets:
        _check_classes(num_outputs)

        def losses_of_classes(outputs: PyTree, batch: Batch) -> Array:
            predicted, targets, weights = _items(outputs, batch, num_outputs)
            one_hot = jax.nn.one_hot(targets, num_outputs, dtype=predicted.dtype)
            return _total(weights * jnp.sum((predicted - one_hot) ** 2, axis=-1))

        return _classifier(num_outputs, losses_of_classes)

    if num_outputs < 1:
        raise ValueError(f"num_outputs={num_outputs}: expected at least 1 real target.")

    def losses(outputs: PyTree, batch: Batch) -> Array:
        predicted, targets, weights = _real_items(outputs, batch, num_outputs)
        return _total(weights * jnp.sum((predicted - targets) ** 2, axis=-1))

    def weights(batch: Batch) -> Array:
        return _total(_item_weights(batch, batch["targets"].shape[:-1]))

    return Objective(losses, weights, losses, _mean, metric_name="mean_squared_error", higher_is_better=False)


def binary_cross_entropy(num_outputs: int, real_targets: bool = False) -> Objective:
    """Score binary labels, some of them missing, by the logistic loss, and report the mean average precision.

    Args:
      num_outputs: T >= 1 tasks.
    Returns: an objective for outputs (logits) [B, T] with integer targets [B, T]: 1, 0, or -1 if missing. Each
      present label is an item; `batch["weights"]` [B] weighs examples (default 1; 0 for padding). The loss does not
      depend on logits without label or weight, even if they are not finite. Losses are in nats.
      A prediction is the logits and labels of an example; the metric averages `average_precision` over the tasks that
      have labels of both kinds, as OGB's evaluator does, and is NaN if a logit is not finite.
    Raises: ValueError for real targets; when traced with other shapes or types; from the metric if no task has both.
    Equation: loss_i = sum_t over labels log(1 + exp(-z_it)) for y_it = 1, log(1 + exp(z_it)) for y_it = 0.
    """
    if real_targets:
        raise ValueError(
            "config.loss='binary_cross_entropy': expected binary labels, but the targets of this data set are real "
            "numbers; choose config.loss=squared."
        )
    if num_outputs < 1:
        raise ValueError(f"num_outputs={num_outputs}: expected at least 1 task.")

    def losses(outputs: PyTree, batch: Batch) -> Array:
        outputs, targets = _one_array(outputs), batch["targets"]
        if outputs.shape != targets.shape or targets.ndim != 2 or targets.shape[1] != num_outputs:
            raise ValueError(
                f"outputs of shape {outputs.shape} for targets of shape {targets.shape}: expected both [B, "
                f"{num_outputs}], a binary label for each task; choose config.loss=cross_entropy for classes."
            )
        if not jnp.issubdtype(targets.dtype, jnp.integer):
            raise ValueError(f"targets of type {targets.dtype}: expected integers 1, 0, or -1 for a missing label.")
        weights = _item_weights(batch, targets.shape[:1])
        is_scored = (targets >= 0) & (weights > 0)[:, None]
        logits = jnp.where(is_scored, _wide(outputs), 0)
        values = jax.nn.softplus(jnp.where(targets == 1, -logits, logits))
        return weights * jnp.sum(jnp.where(is_scored, values, 0), axis=1)

    def weights(batch: Batch) -> Array:
        labels = jnp.sum(batch["targets"] >= 0, axis=1)
        return _item_weights(batch, labels.shape) * labels

    def metric(values: dict[str, np.ndarray], weights: np.ndarray) -> float:
        is_scored = np.asarray(weights) > 0
        logits, labels = (np.asarray(values[name])[is_scored] for name in ("logits", "labels"))
        if not np.isfinite(logits).all():
            return float("nan")  # a diverged network has no ranking
        precisions = average_precision(logits, labels)
        if np.isnan(precisions).all():
            raise ValueError(
                f"None of the {num_outputs} tasks has labels of both kinds among {len(is_scored)} examples: expected "
                "at least one, to define an average precision; check the split's size."
            )
        return float(np.nanmean(precisions))

    return Objective(
        losses=losses,
        weights=weights,
        predictions=lambda outputs, batch: {"logits": _wide(outputs), "labels": batch["targets"]},
        metric=metric,
        metric_name="mean_average_precision",
        higher_is_better=True,
    )


def average_precision(scores: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Compute the average precision of each task over the examples that have its label.

    Args:
      scores: [N, T]; higher means yes.
      labels: [N, T]: 1, 0, or a negative number if missing.
    Returns: [T], in float64; NaN if a task lacks labels of one kind.
    Equation: sum over thresholds from the highest score down of (recall_k - recall_(k-1)) precision_k, where equal
      scores share a threshold.
    """
    from sklearn.metrics import average_precision_score  # takes seconds to import

    precisions = np.full(labels.shape[1], np.nan)
    for task, (task_scores, task_labels) in enumerate(zip(scores.T, labels.T, strict=True)):
        is_labelled = task_labels >= 0
        is_yes = task_labels[is_labelled] == 1
        # scikit-learn returns a number for a single kind too; OGB's evaluator skips the task.
        if is_yes.any() and not is_yes.all():
            precisions[task] = average_precision_score(is_yes, task_scores[is_labelled])
    return precisions


def ppo(
    num_outputs: int,
    *,
    real_targets: bool = False,
    clip_ratio: float = 0.1,
    value_coefficient: float = 0.5,
    entropy_coefficient: float = 0.01,
) -> Objective:
    """Score played actions by proximal policy optimization, and report the mean score of whole games.

    Args:
      num_outputs: A >= 2 actions.
      clip_ratio: epsilon, the bound beyond which a change of an action's probability gains nothing.
      value_coefficient, entropy_coefficient: c_v and c_e.
    Returns: an objective for outputs "logits" [B, A] and "values" [B], with targets "action", "log_probability" (of the
      policy that played it), "advantage", "return" and "clip_factor", which multiplies epsilon; each [B]. An action's
      prediction is its return; the metric averages the predictions, which training replaces by the scores of games.
    Raises: ValueError for real targets, or fewer than 2 actions; when traced with other outputs.
    Equation: loss_i = -min(r_i A_i, clip(r_i, 1 - epsilon, 1 + epsilon) A_i) + c_v (V_i - R_i)^2 - c_e H_i, with r_i
      the ratio of the action's probability to the earlier one, and H_i the entropy of all actions.
    Source: Schulman et al. (2017), Proximal policy optimization algorithms; the value's error as in Flax's PPO example.
    """
    if real_targets:
        raise ValueError("config.loss='ppo': expected a game, but the targets of this data set are real numbers.")
    if num_outputs < 2:
        raise ValueError(f"num_outputs={num_outputs}: expected at least 2 actions.")

    def losses(outputs: PyTree, batch: Batch) -> Array:
        targets, (logits, values) = batch["targets"], map(_wide, policy_and_values(outputs))
        shape = targets["action"].shape
        if logits.shape != (*shape, num_outputs) or values.shape != shape:
            raise ValueError(
                f"config.loss='ppo': logits of shape {logits.shape} and values of shape {values.shape}; expected "
                f"{(*shape, num_outputs)} and {shape}."
            )
        log_probabilities = jax.nn.log_softmax(logits)
        chosen = jnp.take_along_axis(log_probabilities, targets["action"][:, None], axis=-1)[:, 0]
        ratios, margin = jnp.exp(chosen - targets["log_probability"]), clip_ratio * targets["clip_factor"]
        clipped = jnp.clip(ratios, 1 - margin, 1 + margin)
        gains = jnp.minimum(ratios * targets["advantage"], clipped * targets["advantage"])
        entropies = -jnp.sum(jnp.exp(log_probabilities) * log_probabilities, axis=-1)
        return -gains + value_coefficient * (values - targets["return"]) ** 2 - entropy_coefficient * entropies

    return Objective(
        losses=losses,
        weights=lambda batch: jnp.ones(batch["targets"]["action"].shape, float),
        predictions=lambda outputs, batch: batch["targets"]["return"],
        metric=_mean,
        metric_name="score",
        higher_is_better=True,
    )


def policy_and_values(outputs: PyTree) -> tuple[Array, Array]:
    """Return the logits and values of an actor-critic network.

    Raises: ValueError if the outputs are different.
    """
    if not isinstance(outputs, dict) or outputs.keys() != {"logits", "values"}:
        raise ValueError(
            "config.loss='ppo': expected a model whose outputs are 'logits' and 'values'; choose "
            "config.model=ActorCritic, or make your model return these outputs."
        )
    return outputs["logits"], outputs["values"]


def scale_loss(objective: Objective, factor: float) -> Objective:
    """Multiply the losses of an objective; its metric is unchanged."""

    return objective._replace(losses=lambda outputs, batch: factor * objective.losses(outputs, batch))


def _check_classes(num_outputs: int) -> None:
    if num_outputs < 2:
        raise ValueError(f"num_outputs={num_outputs}: expected at least 2 classes.")


def _classifier(num_outputs: int, losses: Callable[[PyTree, Batch], Array]) -> Objective:
    """Combine any loss with the accuracy of the largest output."""

    def weights(batch: Batch) -> Array:
        return _total(_item_weights(batch, batch["targets"].shape))

    def predictions(outputs: PyTree, batch: Batch) -> Array:
        logits, targets, weights = _items(outputs, batch, num_outputs)
        return _total(weights * (jnp.argmax(logits, axis=-1) == targets))

    return Objective(losses, weights, predictions, _mean, metric_name="accuracy", higher_is_better=True)


def _items(outputs: PyTree, batch: Batch, num_outputs: int) -> tuple[Array, Array, Array]:
    """Check shapes and zero the padding, so that neither its values nor their gradients enter any sum."""
    logits, targets = _one_array(outputs), batch["targets"]
    if logits.shape != (*targets.shape, num_outputs):
        raise ValueError(
            f"outputs of shape {logits.shape} for targets of shape {targets.shape}: expected {num_outputs} logits for "
            f"each target, {(*targets.shape, num_outputs)}; {_advice(logits, targets)}."
        )
    if not jnp.issubdtype(targets.dtype, jnp.integer):
        raise ValueError(f"targets of type {targets.dtype}: expected integers, the classes 0 to {num_outputs - 1}.")
    weights = _item_weights(batch, targets.shape)
    counts = weights > 0
    return jnp.where(counts[..., None], _wide(logits), 0), jnp.where(counts, targets, 0), weights


def _one_array(outputs: PyTree) -> Array:
    """Check that a network returns one array, not several like actor-critic networks."""
    if not hasattr(outputs, "shape"):
        names = ", ".join(outputs) if isinstance(outputs, dict) else type(outputs).__name__
        raise ValueError(
            f"outputs {names}: expected one array; choose another config.model, such as MLP (ActorCritic plays games, "
            "with config.loss=ppo)."
        )
    return outputs


def _advice(logits: Array, targets: Array) -> str:
    """Return advice on what to choose instead if outputs do not fit classes."""
    if logits.shape == targets.shape:
        return "for binary labels choose config.loss=binary_cross_entropy"
    if targets.ndim == 2 and logits.ndim == 2:
        return "for one target per word choose a config.model with outputs for each word, such as TaggingTransformer"
    if targets.ndim == 1 and logits.ndim == 3:
        return "for one target per example choose a config.model with one row of outputs for it, such as LSTM for texts"
    return "see the model's last layer and the data set's num_outputs"


def _real_items(outputs: PyTree, batch: Batch, num_outputs: int) -> tuple[Array, Array, Array]:
    """Check shapes and zero the padding, as `_items`, for real targets."""
    outputs, targets = _one_array(outputs), batch["targets"]
    if outputs.shape != targets.shape or targets.ndim < 2 or targets.shape[-1] != num_outputs:
        raise ValueError(
            f"outputs of shape {outputs.shape} for targets of shape {targets.shape}: expected both with {num_outputs} "
            "numbers per item, such as [B, K]; see the model's last layer and the data set's num_outputs."
        )
    if not jnp.issubdtype(targets.dtype, jnp.floating):
        raise ValueError(f"targets of type {targets.dtype}: expected real numbers.")
    weights = _item_weights(batch, targets.shape[:-1])
    counts = (weights > 0)[..., None]
    return jnp.where(counts, _wide(outputs), 0), jnp.where(counts, targets, 0), weights


def _wide(outputs: Array) -> Array:
    return outputs.astype(jnp.promote_types(outputs.dtype, jnp.float32))


def _item_weights(batch: Batch, shape: tuple[int, ...]) -> Array:
    """Return the weight of each item, in the shape of the items."""
    if "weights" not in batch:
        return jnp.ones(shape, float)
    weights = jnp.asarray(batch["weights"], float)
    if weights.shape not in (shape, shape[:1]):
        raise ValueError(
            f"weights of shape {weights.shape} for targets of shape {batch['targets'].shape}: expected one weight per "
            f"example, {shape[:1]}, or one per target."
        )
    return jnp.broadcast_to(weights.reshape(weights.shape + (1,) * (len(shape) - weights.ndim)), shape)


def _total(items: Array) -> Array:
    """Sum the items of each example."""
    return jnp.sum(items.reshape(items.shape[0], -1), axis=1)


def _mean(totals: np.ndarray, weights: np.ndarray) -> float:
    """Average over the items of a whole split; the accuracy if each correct item counts 1."""
    total = np.sum(np.asarray(weights), dtype=np.float64)
    if not total > 0:
        raise ValueError(
            f"weights that add up to {total}: expected at least one item to score; check the split's size."
        )
    return float(np.sum(np.asarray(totals), dtype=np.float64) / total)
