"""Axis titles of table columns."""

import re
import textwrap
from collections.abc import Iterable

from flatwide.columns import FRACTION_METRICS

_MOST_LETTERS = 30  # in a line of the title of an axis of 200 pixels

LABELS = {
    "num_params": "number of parameters",
    "num_nonzero_params": "number of nonzero parameters",
    "num_params_per_example": "parameters per training example",
    "num_params_over_interpolation": "parameters over those at which the base fits its labels",
    "rho": "ρ",
    "best_rho": "best ρ",
    "sparsity": "sparsity",
    "label_noise": "label noise",
    "weight_decay": "weight decay",
    "learning_rate": "learning rate",
    "train_examples": "training examples",
    "batch_size": "batch size",
    "step": "step",
    "epoch": "epoch",
    "train_loss": "training loss",
    "validation_loss": "validation loss",
    "test_loss": "test loss",
    "train_metric": "training {metric}",
    "validation_metric": "validation {metric}",
    "test_metric": "test {metric}",
    "test_metric_best": "best test {metric}",
    "test_metric_at_best_validation": "test {metric} at best validation",
    "loss": "loss",
    "metric": "{metric}",
    "gain": "gain in {metric}",
}


def label(name: str, *, metric_name: str = "metric") -> str:
    """Return the axis title of a column; a metric that is a fraction is in percent, its gain in percentage points.

    Args:
      name: column of a table; a column without a title keeps its name.
      metric_name: what the metric is, such as accuracy.
    """
    title = LABELS.get(name, name)
    if "{metric}" not in title:
        return title
    unit = {"gain": " (points)"}.get(name, " (%)") if factor(metric_name) == 100 else ""
    return title.format(metric=metric_name.replace("_", " ")) + unit


def wrapped(title: str) -> str | list[str]:
    """Break a long title into lines no longer than an axis, with the unit on its own line."""
    if len(title) <= _MOST_LETTERS:
        return title
    words, bracket, unit = title.rpartition(" (") if title.endswith(")") else (title, "", "")
    return textwrap.wrap(words, _MOST_LETTERS) + ([f"({unit}"] if bracket else [])


def capital(text: str) -> str:
    """Capitalize the first letter of a text."""
    return text[:1].upper() + text[1:]


def setting(text: str) -> str:
    """Return the name of a setting with tuples of layer sizes as `300-100`, the way papers write them."""
    return re.sub(r"\((\d+(?:, \d+)*),?\)", lambda sizes: sizes[1].replace(", ", "-"), text)


def factor(metric_name: str) -> int:
    """Return what figures multiply a metric by: 100 for a fraction, which they show in percent."""
    return 100 if metric_name in FRACTION_METRICS else 1


def num_seeds(counts: Iterable[int]) -> str:
    """Return a number of seeds in words, such as "one seed" or "2 to 4 seeds".

    Args:
      counts: number of seeds at each position of a figure.
    """
    least, most = min(counts := list(counts)), max(counts)
    if most == 1:
        return "one seed"
    return f"{most} seeds" if least == most else f"{least} to {most} seeds"
