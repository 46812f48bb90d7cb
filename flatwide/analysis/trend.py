"""Does the gain grow with width: a slope with its interval, a test of the order, and the paper's own rule."""

import itertools
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from flatwide.analysis import gain, intervals, selection, widths

if TYPE_CHECKING:
    import pandas as pd

_MOST_ORDERS = 50_000  # more orders of the widths than this are sampled


class Trend(NamedTuple):
    """How the gain changes as the number of parameters grows tenfold."""

    slope: float  # metric units a factor of ten in the number of parameters
    standard_error: float
    low: float
    high: float
    p_value: float  # of a slope at least as large, where the widths could have stood in any order
    num_seeds: int
    num_widths: int


class PaperRule(NamedTuple):
    """The paper's claim that the gain grows with width, as it can be read off its figures."""

    gain_smallest: float
    gain_largest: float
    grows: bool  # gain_largest > gain_smallest
    num_rises: int  # of the steps from one width to the next
    num_steps: int


def trend(
    runs: "pd.DataFrame",
    *,
    width: str = "num_params",
    metric: str = "test_metric",
    choose_by: str | None = None,
    corrected: bool = True,
) -> Trend:
    """Fit the gain against the logarithm of the number of parameters.

    Args:
      corrected: score each seed at the rho that the others choose, instead of the best over all seeds.
      runs, width, metric, choose_by: as for `gain.gain_by_width`.
    Returns: the mean over seeds of each seed's least-squares slope, with its standard error and 95 % interval, over the
      widths with a gain and the seeds that have it at each of them; NaN below two widths or (the last three of them)
      two seeds. For `corrected`, the t interval is widened by `selection.stretch_of_scores`.
    """
    found = [_gains(one, corrected) for one in widths.by_width(runs, width=width, metric=metric, choose_by=choose_by)]
    found = [one for one in found if one[1]]
    if len(found) < 2:
        return Trend(math.nan, math.nan, math.nan, math.nan, math.nan, 0, len(found))
    seeds = sorted(set.intersection(*(set(scores) for _, scores, _ in found)))
    table = np.array([[scores[seed] for seed in seeds] for _, scores, _ in found]).reshape(len(found), len(seeds))
    weights = slope_weights([num_params for num_params, _, _ in found])
    if not seeds:
        return Trend(math.nan, math.nan, math.nan, math.nan, math.nan, 0, len(found))
    slope = intervals.mean(weights @ table)
    stretch = 1.0
    if corrected and len(seeds) > 1:
        most = max(num_rhos for _, _, num_rhos in found)
        stretch = selection.stretch_of_scores(len(seeds), most)
    low, high = (slope.mean + stretch * (end - slope.mean) for end in (slope.low, slope.high))
    p_value = order_test(table.mean(axis=1), weights)
    return Trend(slope.mean, slope.standard_error, low, high, p_value, len(seeds), len(found))


def slope_weights(num_params: Sequence[int]) -> np.ndarray:
    """Give the weights whose product with the gains is their least-squares slope on log10 of the parameters."""
    x = np.log10(np.asarray(num_params, dtype=float))
    x = x - x.mean()
    return x / (x @ x)


def order_test(means: np.ndarray, weights: np.ndarray) -> float:
    """Compute the share of all orders of the widths that give a slope at least as large: a one-sided test.

    It is exact, however rho was chosen, where under the null hypothesis all widths are alike in their noise too. Where
    the smallest is ten times as noisy as the rest, 11 to 15 % of tables without a trend have a share of 5 % or less.
    It cannot be smaller than one over the number of orders: 1/6 for three widths, 1/120 for five.
    """
    # Equal values in another order are the same slope up to rounding.
    observed = float(weights @ means) - 1e-9 * float(np.abs(weights) @ np.abs(means))
    if math.factorial(len(means)) <= _MOST_ORDERS:
        orders = np.array(list(itertools.permutations(range(len(means)))))
        return float(np.mean(means[orders] @ weights >= observed))
    generator = np.random.default_rng(0)
    orders = generator.permuted(np.tile(np.arange(len(means)), (_MOST_ORDERS, 1)), axis=1)
    return float((1 + np.sum(means[orders] @ weights >= observed)) / (1 + _MOST_ORDERS))


def paper_rule(runs: "pd.DataFrame", *, width: str = "num_params", metric: str = "test_metric") -> PaperRule:
    """Apply the paper's rule: the gain at the largest width exceeds that at the smallest.

    The gain is that of the paper: best rho by the mean over seeds of the very metric that is compared.
    """
    table = gain.gain_by_width(runs, width=width, metric=metric, choose_by=metric).dropna(subset=["gain"])
    if len(table) < 2:
        return PaperRule(math.nan, math.nan, False, 0, 0)
    gains = table["gain"].to_numpy()
    rises = int(np.sum(np.diff(gains) > 0))
    return PaperRule(float(gains[0]), float(gains[-1]), bool(gains[-1] > gains[0]), rises, len(gains) - 1)


def paper_bands(runs: "pd.DataFrame", *, width: str = "num_params", metric: str = "test_metric") -> "pd.DataFrame":
    """Compute the means and bands of the paper's figures, so that its numbers compare.

    Returns: one row a width and rho, base included as rho 0: the width, `num_params`, `rho`, `mean`, `std` (n - 1 in
      its denominator, which the paper's bands turn out to be), `standard_error` (which its text says), `num_seeds`.
    """
    import pandas as pd

    rows = []
    for one in widths.by_width(runs, width=width, metric=metric, choose_by=metric):
        for rho, column in zip((0.0, *one.rhos), one.values.T, strict=True):
            values = column[np.isfinite(column)]
            found = intervals.mean(values)
            std = found.standard_error * math.sqrt(len(values))
            row = {width: one.value, "num_params": one.num_params, "rho": rho, "mean": found.mean, "std": std}
            rows.append(row | {"standard_error": found.standard_error, "num_seeds": len(values)})
    return pd.DataFrame(rows)


def _gains(one: widths.Width, corrected: bool) -> tuple[int, dict[int, float], int]:
    """Give the parameters of a width, the gain of each of its seeds, and the number of rhos that were chosen among."""
    if corrected:
        seeds, scores = selection.scores(one)
        return one.num_params, dict(zip(seeds, map(float, scores), strict=True)), len(one.candidates)
    return one.num_params, {pair["seed"]: pair["gain"] for pair in gain.pairs(one)}, 1
