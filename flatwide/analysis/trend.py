"""The trend of the gain with width: a slope with its interval, and the paper's rule."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from flatwide.analysis import arms, estimates, gain, widths
from flatwide.analysis.estimates import NONE, Estimate, Scores

if TYPE_CHECKING:
    import pandas as pd


class PaperRule(NamedTuple):
    """The paper's claim that the gain grows with width, as read off its figures."""

    gain_smallest: float
    gain_largest: float
    grows: bool  # gain_largest > gain_smallest
    num_rises: int  # among the steps from one width to the next
    num_steps: int


def trend(
    runs: "pd.DataFrame", *, width: str = "num_params", metric: str = "test_metric", choose_by: str | None = None
) -> Estimate:
    """Fit the corrected gain against the logarithm of the number of parameters, all widths alike.

    Args: as for `gain.gain_by_width`.
    Returns: the mean over seeds of each seed's least-squares slope, per tenfold increase in parameters, with the
      interval of `estimates.contrast`, over the widths with a gain and the seeds that have it at each of them; NaN
      below two widths or (the interval) two seeds.
    """
    return slope(scores(widths.by_width(runs, width=width, metric=metric, choose_by=choose_by)))


def scores(cells: Sequence[widths.Width]) -> Scores:
    """Score every width that has a gain, each seed at the rho that the other seeds choose."""
    return arms.scores([cell.comparison for cell in cells])


def slope(scores_to_fit: Scores, *, level: float = 0.95) -> Estimate:
    """Estimate the slope of scores against log10 of the number of parameters; NaN below two sizes."""
    if len(set(scores_to_fit.num_params)) < 2 or not scores_to_fit.seeds:
        return NONE._replace(num_seeds=len(scores_to_fit.seeds), level=level)
    return estimates.contrast(scores_to_fit, estimates.slope_weights(scores_to_fit.num_params), level=level)


def rise(scores_to_fit: Scores, *, level: float = 0.95) -> Estimate:
    """Estimate the gain at the largest width minus the mean of the smaller half of the widths."""
    num = len(scores_to_fit.num_params)
    weights = np.zeros(num)
    weights[: num // 2] = -1 / (num // 2)
    weights[-1] = 1.0
    return estimates.contrast(scores_to_fit, weights, level=level)


def paper_rule(runs: "pd.DataFrame", *, width: str = "num_params", metric: str = "test_metric") -> PaperRule:
    """Apply the paper's rule: the gain at the largest width exceeds that at the smallest.

    The gain is that of the paper: with the best rho on the mean over seeds of the same metric that is compared.
    """
    table = gain.gain_by_width(runs, width=width, metric=metric, choose_by=metric).dropna(subset=["gain"])
    if len(table) < 2:
        return PaperRule(gain_smallest=math.nan, gain_largest=math.nan, grows=False, num_rises=0, num_steps=0)
    gains = table["gain"].to_numpy()
    rises = int(np.sum(np.diff(gains) > 0))
    return PaperRule(
        gain_smallest=float(gains[0]),
        gain_largest=float(gains[-1]),
        grows=bool(gains[-1] > gains[0]),
        num_rises=rises,
        num_steps=len(gains) - 1,
    )


def paper_bands(runs: "pd.DataFrame", *, width: str = "num_params", metric: str = "test_metric") -> "pd.DataFrame":
    """Compute means and bands as in the paper's figures, for comparison with its numbers.

    Returns: one row for each width and rho, base included as rho 0: the width, `num_params`, `rho`, `mean`, `std` (with
      n - 1, which the paper's bands turn out to be), `standard_error` (which its text states), `num_seeds`.
    """
    import pandas as pd

    rows = []
    for cell in widths.by_width(runs, width=width, metric=metric, choose_by=metric):
        for rho, column in zip((0.0, *cell.rhos), cell.values.T, strict=True):
            values = column[np.isfinite(column)]
            statistics = estimates.mean(values)
            std = statistics.error * math.sqrt(len(values))
            row = {width: cell.value, "num_params": cell.num_params, "rho": rho, "mean": statistics.value, "std": std}
            rows.append(row | {"standard_error": statistics.error, "num_seeds": len(values)})
    return pd.DataFrame(rows)
