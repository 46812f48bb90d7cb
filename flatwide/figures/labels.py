"""Axis titles of table columns."""

from flatwide.columns import FRACTION_METRICS

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
    unit = {"gain": " (points)"}.get(name, " (%)") if is_percent(metric_name) else ""
    return title.format(metric=metric_name.replace("_", " ")) + unit


def wrapped(title: str) -> str | list[str]:
    """Move the unit of a long title to a second line, so that the title is no longer than the axis."""
    words, bracket, unit = title.rpartition(" (")
    return [words, f"({unit}"] if bracket and len(title) > 28 else title


def is_percent(metric_name: str) -> bool:
    """Whether figures show a metric in percent."""
    return metric_name in FRACTION_METRICS
