"""Which rho for my width: the best of the grid, those that the seeds cannot tell from it, and its trend with width."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from flatwide.analysis import best_sets, intervals, selection, trend, widths

if TYPE_CHECKING:
    import pandas as pd

_ERRORS_OF_SET = 6  # standard errors that the length of a confidence set counts for; by simulation


class RhoTrend(NamedTuple):
    """How the best rho changes with the number of parameters.

    factor: of the best rho for ten times the parameters. low, high: its 95 % interval, 0 or infinity on a side that the
      grid hides, since a width's best rho stands at an end of it and a better one may lie beyond.
    smallest, largest: the sets at both ends, which hold together in 95 % of studies.
    direction: 1 where the best rho grows, -1 where it shrinks, 0 where neither is shown; None where there is no choice
      at two widths and for two seeds.
    at_low_edge, at_high_edge: parameters of the widths whose best rho is the least, or the greatest, of the grid.
    """

    factor: float = math.nan
    low: float = math.nan
    high: float = math.nan
    smallest: tuple[float, ...] = ()
    largest: tuple[float, ...] = ()
    direction: int | None = None
    num_seeds: int = 0
    at_low_edge: tuple[int, ...] = ()
    at_high_edge: tuple[int, ...] = ()


def best_rho(
    runs: "pd.DataFrame", *, width: str = "num_params", metric: str = "test_metric", choose_by: str | None = None
) -> "pd.DataFrame":
    """Find the best rho of each width, and a 95 % confidence set for it.

    A rho is in the set unless another is significantly better. The set holds the rho with the best true mean in 95 % of
    studies or more; in 90 to 94 % of them where that rho is several times noisier than the rest and seeds are few.

    Args, Raises: as for `gain.gain_by_width`.
    Returns: one row a width: the width, `num_params`, `best_rho`, `best_rho_low` and `best_rho_high` (the least and
      greatest rho of the set; NaN below two seeds), `best_rho_set` (its members, as text), `chosen_by`,
      `at_grid_edge` ("low", "high" or ""), `num_rhos` and `num_excluded_rhos` (those with a diverged or missing seed).
    """
    import pandas as pd

    chosen_by = widths.choice_column(runs, metric=metric) if choose_by is None else choose_by
    cells = widths.by_width(runs, width=width, metric=metric, choose_by=chosen_by)
    return pd.DataFrame(of_widths(cells, width=width, chosen_by=chosen_by))


def of_widths(cells: Sequence[widths.Width], *, width: str, chosen_by: str) -> list[dict[str, Any]]:
    """Give the rows of `best_rho` for runs that are arranged already."""
    rows = []
    for one in cells:
        members = confidence_set(one)
        rows.append(
            {
                width: one.value,
                "num_params": one.num_params,
                "best_rho": one.best_rho,
                "best_rho_low": min(members, default=math.nan),
                "best_rho_high": max(members, default=math.nan),
                "best_rho_set": " ".join(f"{rho:g}" for rho in members),
                "chosen_by": chosen_by,
                "at_grid_edge": grid_edge(one),
                "num_rhos": len(one.candidates),
                "num_excluded_rhos": len(one.rhos) - len(one.candidates),
            }
        )
    return rows


def grid_edge(one: widths.Width) -> str:
    """Tell whether the best rho is the least ("low") or greatest ("high") of the grid, so that a better may lie beyond.

    Where greater rho diverged, the grid has reached its end: that is no edge.
    """
    if one.best is None or len(one.rhos) < 2:
        return ""
    return {0: "low", len(one.rhos) - 1: "high"}.get(one.best, "")


def confidence_set(one: widths.Width, *, level: float = 0.95) -> list[float]:
    """List the rhos that no other is significantly better than, as `best_sets.best_set`; empty below two seeds."""
    table = one.complete(base=False).choices[:, [1 + column for column in one.candidates]]
    if len(table) < 2 or not one.candidates:
        return []
    (is_in,) = best_sets.best_set(table[None], level=level)
    return [one.rhos[column] for column, kept in zip(one.candidates, is_in, strict=True) if kept]


def trend_of_best(cells: Sequence[widths.Width]) -> RhoTrend:
    """Compute how the best rho changes with width.

    The best rho has no value for each seed, so the slope is that of the best rho of all seeds but one, and its spread
    the jackknife's. Where that seldom changes the choice of a noisy width, the spread knows nothing of the noise, so it
    is that of the lengths of the confidence sets at least. Where seeds agree whichever is left out and each set has one
    rho, the interval has no length, which is no certainty.

    Args:
      cells: widths, the smallest first; those without a rho to choose or with one seed are left out.
    Returns: it grows where the interval of the factor lies above 1 and every rho of the set at the smallest width is
      below every one of the set at the largest; it shrinks where all of that is the other way round.
    Equation: b_i = sum_k w_k log10 r_k(-i), w_k the least-squares weights of log10 of the parameters, r_k(-i) the best
      rho of width k by all n seeds but i; log10 factor = mean_i b_i -/+ t max(e, f), e^2 = (n - 1) / n sum_i (b_i -
      mean b)^2 and f^2 = sum_k (w_k l_k / 6)^2, l_k the length of the 95 % set of width k in log10 rho.
    Source: Quenouille (1956) and Tukey (1958), the jackknife.
    """
    having = [one for one in cells if len(one.candidates) and len(one.complete(base=False).seeds) > 1]
    if len({one.num_params for one in having}) < 2 or max(len(one.candidates) for one in having) < 2:
        return RhoTrend()
    weights = trend.slope_weights([one.num_params for one in having])
    chosen = _without_each_seed(having)
    slopes = weights @ chosen
    num_seeds = len(slopes)
    center = float(slopes.mean())
    lengths = [math.log10(members[-1] / members[0]) for members in map(confidence_set, having)]
    error = max(math.sqrt(num_seeds - 1) * float(slopes.std()), math.hypot(*(weights * lengths)) / _ERRORS_OF_SET)
    reach = selection.student(num_seeds) * error
    edges = [_edges(one, row) for one, row in zip(having, chosen, strict=True)]
    is_more, is_less = (
        any(edge in at for at, weight in zip(edges, weights, strict=True) for edge in _censoring(sign * weight))
        for sign in (1, -1)
    )
    low = -math.inf if is_less else center - reach
    high = math.inf if is_more else center + reach
    smallest, largest = (tuple(confidence_set(having[side], level=intervals.sidak(2))) for side in (0, -1))
    direction = 0
    if low > 0 and max(smallest) < min(largest):
        direction = 1
    elif high < 0 and min(smallest) > max(largest):
        direction = -1
    return RhoTrend(
        factor=10**center,
        low=10**low,
        high=10**high,
        smallest=smallest,
        largest=largest,
        direction=direction,
        num_seeds=num_seeds,
        at_low_edge=tuple(one.num_params for one, at in zip(having, edges, strict=True) if "low" in at),
        at_high_edge=tuple(one.num_params for one, at in zip(having, edges, strict=True) if "high" in at),
    )


def _edges(one: widths.Width, chosen: np.ndarray) -> set[str]:
    """Name the ends of the grid, "low" or "high", at which the best rho stands, of all seeds or of all but one."""
    found = {grid_edge(one)}
    if len(one.rhos) > 1:
        found |= {"low"} if chosen.min() <= math.log10(one.rhos[0]) else set()
        found |= {"high"} if chosen.max() >= math.log10(one.rhos[-1]) else set()
    return found - {""}


def _censoring(weight: float) -> tuple[str, ...]:
    """Name the end of the grid at which a width of this weight hides a larger slope."""
    return ("high",) if weight > 0 else ("low",) if weight < 0 else ()


def _without_each_seed(cells: Sequence[widths.Width]) -> np.ndarray:
    """Return log10 of the best rho by all seeds but one, for each seed that some width has: [widths, seeds]."""
    logs = []
    every = sorted({seed for one in cells for seed in one.complete(base=False).seeds})
    for one in cells:
        whole = one.complete(base=False)
        table = whole.choices[:, [1 + column for column in whole.candidates]]
        total = table.sum(axis=0)
        rows = dict(zip(whole.seeds, table, strict=True))
        best = [int((total - rows.get(seed, 0)).argmax()) for seed in every]
        logs.append([math.log10(one.rhos[one.candidates[column]]) for column in best])
    return np.array(logs)
