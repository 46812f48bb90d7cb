"""Scores of constant predictions on a test split, and whether a run is better than chance."""

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

# Metrics whose best constant prediction is known.
METRICS = ("accuracy", "mean_average_precision", "mean_squared_error", "bits_per_byte", "bits_per_token")
LEVEL = 0.95  # of the two-sided interval whose lower end must exceed chance


class Constant(NamedTuple):
    """The metric of the best constant prediction, and the number of items on which it was scored."""

    metric: float
    num_items: int


# The share of the most frequent class in published test splits, for runs that did not record it.
PUBLISHED = {
    "digits": Constant(36 / 355, 355),
    "mnist": Constant(1135 / 10_000, 10_000),
    "fashion_mnist": Constant(1000 / 10_000, 10_000),
    "cifar10": Constant(1000 / 10_000, 10_000),
    "cifar100": Constant(100 / 10_000, 10_000),
    "imagenet2012": Constant(50 / 50_000, 50_000),
}

# The columns that `is_collapsed` reads.
COLUMNS = (
    *("status", "metric_name", "higher_is_better", "test_metric", "dataset"),
    *("test_chance_metric", "num_test_items"),
)


def constant(targets: Any, weights: Any = None, *, metric_name: str, num_bytes: Any = 1) -> Constant | None:
    """Compute the metric of the best constant prediction.

    Args:
      targets: classes, any shape, for an accuracy, and tokens for bits; [N, T] of 1, 0 and -1 (no label) for a mean
        average precision; [..., K] real numbers for a mean squared error.
      weights: of the items, in the shape of the targets (without K), or [N] of the examples; 0 for padding. None is 1.
      num_bytes: of each token, for bits.
    Returns: None for another metric, or targets of another kind.
    Equation: accuracy: the share of the most frequent class; average precision of a task: its share of positive
      labels; mean squared error: sum_k of the variance of target k; bits: the entropy of the tokens' shares.
    """
    if isinstance(targets, Mapping):
        return None
    targets = np.asarray(targets)
    is_integer = np.issubdtype(targets.dtype, np.integer)
    if metric_name == "mean_average_precision" and is_integer and targets.ndim == 2:
        return _of_tasks(targets, weights)
    if metric_name in ("accuracy", "bits_per_byte", "bits_per_token") and is_integer:
        weights = _of_items(weights, targets.shape)
        counts = np.bincount(targets[weights > 0].ravel(), weights=weights[weights > 0].ravel())
        if not counts.sum():
            return None
        if metric_name == "accuracy":
            return Constant(float(counts.max() / counts.sum()), round(counts.sum()))
        counts = counts[counts > 0]
        bits = -np.sum(counts * np.log2(counts / counts.sum())) / np.sum(weights * num_bytes)
        return Constant(float(bits), round(counts.sum()))
    if metric_name == "mean_squared_error" and not is_integer and targets.ndim >= 2:
        weights = _of_items(weights, targets.shape[:-1]).ravel()
        values = targets.reshape(-1, targets.shape[-1])[weights > 0].astype(np.float64)
        if not len(values):
            return None
        mean = np.average(values, axis=0, weights=weights[weights > 0])
        errors = np.sum((values - mean) ** 2, axis=1)
        return Constant(float(np.average(errors, weights=weights[weights > 0])), round(weights.sum()))
    return None


def is_collapsed(run: Mapping[str, Any]) -> bool | None:
    """Whether a finished run is no better than a prediction that ignores its inputs.

    An accuracy is no better if the lower end of its exact (Clopper-Pearson) 95 % interval is at most the share of the
    most frequent class: the correct answers could be chance. This assumes independent items. Words of one sentence are
    not independent, so for them the test calls a run better than chance too readily. Any other metric is no better if
    it does not exceed that of the best constant prediction.

    Args:
      run: the values of COLUMNS, None if unknown. `PUBLISHED` is used if the run did not record the chance metric.
    Returns: None if the run is not finished, or the chance metric is unknown; nothing is guessed.
    """
    score, name = run.get("test_metric"), run.get("metric_name")
    if run.get("status") != "finished" or score is None or not math.isfinite(score):
        return None
    chance, num_items = run.get("test_chance_metric"), run.get("num_test_items")
    if name == "accuracy":
        if chance is None or num_items is None:
            chance, num_items = PUBLISHED.get(str(run.get("dataset")), (None, None))
        if chance is None or num_items is None or not 0 <= score <= 1:
            return None
        return lower_limit(score, int(num_items)) <= chance
    higher = run.get("higher_is_better")
    if chance is None or higher is None:
        return None
    return bool(score <= chance if higher else score >= chance)


def lower_limit(share: float, num_items: int, *, level: float = LEVEL) -> float:
    """Compute the lower end of the Clopper-Pearson interval of a share of independent items.

    Equation: the p at which P(X >= k) = (1 - level) / 2 for X binomial with n items, k = share n; 0 for k = 0.
    """
    from scipy.special import betaincinv

    right = round(share * num_items)
    return float(betaincinv(right, num_items - right + 1, (1 - level) / 2)) if right else 0.0


def _of_tasks(labels: np.ndarray, weights: Any) -> Constant | None:
    """Average the share of positive labels over the tasks with labels of both kinds, like the metric."""
    labels = labels[_of_items(weights, labels.shape[:1]) > 0]
    yes, labelled = np.sum(labels == 1, axis=0), np.sum(labels >= 0, axis=0)
    have_both = (yes > 0) & (yes < labelled)
    if not have_both.any():
        return None
    return Constant(float(np.mean(yes[have_both] / labelled[have_both])), int(labelled.sum()))


def _of_items(weights: Any, shape: tuple[int, ...]) -> np.ndarray:
    """Broadcast weights of examples or items to the items."""
    if weights is None:
        return np.ones(shape)
    weights = np.asarray(weights, np.float64)
    return np.broadcast_to(weights.reshape(weights.shape + (1,) * (len(shape) - weights.ndim)), shape)
