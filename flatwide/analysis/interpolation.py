"""Where training examples are fitted without a mistake, against where the gain rises."""

import math
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from flatwide.analysis import fields, gain, widths
from flatwide.columns import FRACTION_METRICS

if TYPE_CHECKING:
    import pandas as pd

# One mistake in a thousand training examples, and a loss that is a hundredth of a nat (or of a unit variance).
METRIC_NEEDED, LOSS_NEEDED = 0.999, 0.01


class Interpolation(NamedTuple):
    """The sizes, in parameters, at which things happen; NaN if they do not in this study."""

    base: float  # the smallest from which the base fits its training examples, at each larger width too
    sam: float  # the same for SAM at its best rho
    steepest_rise: float  # the middle, on a log scale, of the step between widths where the gain rises most
    largest_gain: float


def training_fit(
    runs: "pd.DataFrame", *, width: str = "num_params", metric: str = "test_metric", choose_by: str | None = None
) -> "pd.DataFrame":
    """Tell at each width how well the base, and SAM at its best rho, fit the labels that they were trained on.

    A run interpolates if its training metric, a fraction, is at least 0.999; for another metric if its training loss is
    at most 0.01.

    Args, Raises: as for `gain.gain_by_width`; the table also needs `train_metric` or `train_loss`.
    Returns: one row a width: the width, `num_params`, then `base_train_loss`, `base_train_metric` and
      `base_interpolates` (the share of seeds), and the same of `sam`, means over seeds.
    """
    import pandas as pd

    cells = widths.by_width(runs, width=width, metric=metric, choose_by=choose_by)
    return pd.DataFrame(of_widths(cells, runs, width=width))


def of_widths(cells: Iterable[widths.Width], runs: "pd.DataFrame", *, width: str) -> list[dict[str, Any]]:
    """Give the rows of `training_fit` for runs that are arranged already."""
    columns = (width, "train_loss", "train_metric", "metric_name")
    done = [run for run in fields.done(runs, columns) if run["status"] == "finished"]
    rows = []
    for one in cells:
        row = {width: one.value, "num_params": one.num_params}
        here = [run for run in done if run[width] == one.value]
        for name, rho in (("base", 0.0), ("sam", one.best_rho)):
            arm = [run for run in here if fields.effective_rho(run) == rho]
            row |= {f"{name}_{column}": _mean(arm, column) for column in ("train_loss", "train_metric")}
            fits = [fit for fit in map(interpolates, arm) if fit is not None]
            row[f"{name}_interpolates"] = float(np.mean(fits)) if fits else math.nan
        rows.append(row)
    return rows


def interpolates(run: dict[str, Any]) -> bool | None:
    """Tell whether a run fits the labels that it was trained on; None if the table does not say."""
    metric, loss = run.get("train_metric"), run.get("train_loss")
    if metric is not None and run.get("metric_name", "accuracy") in FRACTION_METRICS:
        return metric >= METRIC_NEEDED
    return None if loss is None else loss <= LOSS_NEEDED


def interpolation(
    runs: "pd.DataFrame", *, width: str = "num_params", metric: str = "test_metric", choose_by: str | None = None
) -> Interpolation:
    """Find where base and SAM begin to interpolate (most seeds do), and where the gain rises most."""
    cells = widths.by_width(runs, width=width, metric=metric, choose_by=choose_by)
    fit = of_widths(cells, runs, width=width)
    found = [row for row in gain.of_widths(cells, width=width) if math.isfinite(row["gain"])]
    sizes, gains = ([float(row[name]) for row in found] for name in ("num_params", "gain"))
    rises = np.diff(gains)
    steepest = math.nan
    if len(rises) and np.max(rises) > 0:
        place = int(np.argmax(rises))
        steepest = math.sqrt(sizes[place] * sizes[place + 1])
    largest = sizes[int(np.argmax(gains))] if len(gains) else math.nan
    return Interpolation(_onset(fit, "base"), _onset(fit, "sam"), steepest, largest)


def _onset(fit: list[dict[str, Any]], arm: str) -> float:
    """Find the smallest size from which on more than half of the seeds interpolate."""
    onset = math.nan
    for row in reversed(fit):
        if not row[f"{arm}_interpolates"] > 0.5:
            break
        onset = float(row["num_params"])
    return onset


def _mean(runs: list[dict[str, Any]], column: str) -> float:
    values = [run[column] for run in runs if run.get(column) is not None]
    return float(np.mean(values)) if values else math.nan
