"""The trend of the gain with width: a slope with its interval, a permutation test, and the paper's rule."""

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from flatwide.analysis import domains, gain, intervals, noise, selection, table, widths

if TYPE_CHECKING:
    import pandas as pd

_MOST_ORDERS = 50_000  # with more orders of the widths than this, orders are sampled


class Trend(NamedTuple):
    """The change of the gain per tenfold increase in parameters; NaN where it is undefined.

    slope: in metric units per tenfold increase in parameters, widths weighted inversely to the noise of their runs.
    p_value: of an unweighted slope at least as large under permutations of the widths.
    unweighted: the slope with equal weights, and its 95 % interval.
    """

    slope: float = math.nan
    standard_error: float = math.nan
    low: float = math.nan
    high: float = math.nan
    p_value: float = math.nan
    num_seeds: int = 0
    num_widths: int = 0
    unweighted: intervals.Mean = intervals.NONE


class Scores(NamedTuple):
    """The gain of each width and seed, as input for a fit against the size.

    num_params: ascending. seeds: those that every width has. gains: [widths, seeds].
    weights: [widths], in the fit.
    stretch: factor by which an interval over seeds must be wider than Student's t, since the seeds chose rho together.
    """

    num_params: tuple[int, ...]
    seeds: tuple[int, ...]
    gains: np.ndarray
    weights: np.ndarray
    stretch: float

    def without(self, width: int) -> "Scores":
        """Return the scores without the width at an index."""
        remaining = [index for index in range(len(self.num_params)) if index != width]
        sizes = tuple(self.num_params[index] for index in remaining)
        return self._replace(num_params=sizes, gains=self.gains[remaining], weights=self.weights[remaining])


class PaperRule(NamedTuple):
    """The paper's claim that the gain grows with width, as read off its figures."""

    gain_smallest: float
    gain_largest: float
    grows: bool  # gain_largest > gain_smallest
    num_rises: int  # among the steps from one width to the next
    num_steps: int


def trend(
    runs: "pd.DataFrame",
    *,
    width: str = "num_params",
    metric: str = "test_metric",
    choose_by: str | None = None,
    corrected: bool = True,
    weights: Mapping[int, float] | None = None,
) -> Trend:
    """Fit the gain against the logarithm of the number of parameters.

    Args:
      corrected: score each seed at the rho that the others choose, instead of the best over all seeds.
      weights: of each number of parameters, where several parts are compared (`weights_of_parts`); None computes them
        from these runs.
      runs, width, metric, choose_by: as for `gain.gain_by_width`.
    Returns: the mean over seeds of each seed's weighted least-squares slope, with its standard error and 95 % interval,
      over the widths with a gain and the seeds that have it at each of them; NaN below two widths or (the intervals)
      two seeds. For `corrected`, the t interval is widened by `selection.stretch_of_scores`.
    """
    cells = widths.by_width(runs, width=width, metric=metric, choose_by=choose_by)
    return of_scores(scores(cells, corrected=corrected, weights=weights))


def of_scores(scores_to_fit: Scores, *, level: float = 0.95) -> Trend:
    """Fit the gain of each seed against the logarithm of the number of parameters."""
    if len(scores_to_fit.num_params) < 2 or not scores_to_fit.seeds:
        return Trend(num_widths=len(scores_to_fit.num_params))
    slope, plain = (
        slope_of(scores_to_fit, level=level),
        slope_of(scores_to_fit._replace(weights=np.ones(len(scores_to_fit.weights)))),
    )
    return Trend(
        slope=slope.mean,
        standard_error=slope.standard_error,
        low=slope.low,
        high=slope.high,
        p_value=order_test(scores_to_fit.gains.mean(axis=1), slope_weights(scores_to_fit.num_params)),
        num_seeds=len(scores_to_fit.seeds),
        num_widths=len(scores_to_fit.num_params),
        unweighted=plain,
    )


def slope_of(scores_to_fit: Scores, *, level: float = 0.95) -> intervals.Mean:
    """Compute the mean over seeds of each seed's slope, with its interval."""
    slopes = slope_weights(scores_to_fit.num_params, weights=scores_to_fit.weights) @ scores_to_fit.gains
    return intervals.mean(slopes, level=level, stretch=scores_to_fit.stretch)


def scores(
    cells: Sequence[widths.Width], *, corrected: bool = True, weights: Mapping[int, float] | None = None
) -> Scores:
    """Arrange the gains by width and seed, for the widths that have one and the seeds common to all of these.

    Args: as for `trend`.
    """
    rows = [(cell, _gains(cell, corrected)) for cell in cells]
    rows = [(cell, gains) for cell, gains in rows if gains]
    cells_with_gains = [cell for cell, _ in rows]
    seeds = sorted(set.intersection(*(set(gains) for _, gains in rows))) if rows else []
    gains = np.array([[gains[seed] for seed in seeds] for _, gains in rows]).reshape(len(rows), len(seeds))
    stretch = 1.0
    if corrected and len(seeds) > 1:
        most = max(len(cell.candidates) for cell in cells_with_gains)
        stretch = selection.stretch_of_scores(len(seeds), most, ratio=noise.ratio_of_widths(cells_with_gains))
    sizes = tuple(cell.num_params for cell in cells_with_gains)
    if weights is None:
        counts = noise.weights_of_widths(cells_with_gains) if cells_with_gains else np.ones(0)
    else:
        counts = np.array([weights[size] for size in sizes])
    return Scores(num_params=sizes, seeds=tuple(seeds), gains=gains, weights=counts, stretch=stretch)


def weights_of_parts(
    parts: Sequence[table.Part],
    *,
    width: str = "num_params",
    metric: str = "test_metric",
    choose_by: str | None = None,
) -> list[dict[int, float] | None]:
    """Compute one set of weights for all parts of a domain, so that their slopes weight the widths equally.

    Returns: for each part the weight of each number of parameters, the geometric mean over the parts that have it; None
      for the only part of a domain.
    """
    weights: list[dict[int, float]] = []
    for part in parts:
        cells = widths.by_width(part.runs, width=width, metric=metric, choose_by=choose_by)
        sizes = [cell.num_params for cell in cells]
        weights.append(dict(zip(sizes, noise.weights_of_widths(cells).tolist(), strict=True)))
    groups: dict[tuple, list[int]] = {}
    for index, part in enumerate(parts):
        groups.setdefault(domains.key(part.values), []).append(index)
    shared_of_parts: list[dict[int, float] | None] = [None] * len(parts)
    for members in groups.values():
        if len(members) < 2:
            continue
        shared = shared_weights([weights[index] for index in members])
        for index in members:
            shared_of_parts[index] = shared
    return shared_of_parts


def shared_weights(weights: Sequence[Mapping[int, float]]) -> dict[int, float]:
    """Compute the geometric mean of the weights of each number of parameters, over those that have it."""
    sizes = sorted({size for weights_of_part in weights for size in weights_of_part})
    return {
        size: math.exp(
            np.mean([math.log(weights_of_part[size]) for weights_of_part in weights if size in weights_of_part])
        )
        for size in sizes
    }


def slope_weights(num_params: Sequence[int], *, weights: np.ndarray | None = None) -> np.ndarray:
    """Compute the vector whose product with the gains is their least-squares slope on log10 of the parameters.

    Args:
      weights: [widths], in the fit; None weights all equally.
    """
    x = np.log10(np.asarray(num_params, dtype=float))
    counts = np.ones(len(x)) if weights is None else np.asarray(weights, dtype=float)
    x = x - np.average(x, weights=counts)
    return counts * x / np.sum(counts * x * x)


def order_test(means: np.ndarray, weights: np.ndarray) -> float:
    """Compute the share of all orders of the widths with a slope at least as large: a one-sided permutation test.

    It is exact, however rho was chosen, if under the null hypothesis all widths have the same noise. Where the smallest
    is ten times as noisy as the rest, 11 to 15 % of tables without a trend have a share of 5 % or less. The share is at
    least one over the number of orders: 1/6 for three widths, 1/120 for five.
    """
    # Equal values in another order have the same slope up to rounding.
    observed = float(weights @ means) - 1e-9 * float(np.abs(weights) @ np.abs(means))
    if math.factorial(len(means)) <= _MOST_ORDERS:
        orders = np.array(list(itertools.permutations(range(len(means)))))
        return float(np.mean(means[orders] @ weights >= observed))
    generator = np.random.default_rng(0)
    orders = generator.permuted(np.tile(np.arange(len(means)), (_MOST_ORDERS, 1)), axis=1)
    return float((1 + np.sum(means[orders] @ weights >= observed)) / (1 + _MOST_ORDERS))


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
            statistics = intervals.mean(values)
            std = statistics.standard_error * math.sqrt(len(values))
            row = {width: cell.value, "num_params": cell.num_params, "rho": rho, "mean": statistics.mean, "std": std}
            rows.append(row | {"standard_error": statistics.standard_error, "num_seeds": len(values)})
    return pd.DataFrame(rows)


def _gains(cell: widths.Width, corrected: bool) -> dict[int, float]:
    """Map each seed of a width to its gain."""
    if corrected:
        seeds, gains = selection.scores(cell)
        return dict(zip(seeds, map(float, gains), strict=True))
    return {pair["seed"]: pair["gain"] for pair in gain.pairs(cell)}
