"""The best rho of each width, its confidence set, and its trend with width."""

import math
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from flatwide.analysis import best_sets, estimates, table
from flatwide.analysis.widths import Width

_ERRORS_OF_SET = 6  # length of a confidence set in standard errors, calibrated by simulation


class RhoTrend(NamedTuple):
    """The trend of the best rho with the number of parameters.

    factor: of the best rho per tenfold increase in parameters. low, high: its 95 % interval, 0 or infinity on a side
      that is censored because the best rho of a width lies at an end of its grid and a better one may lie beyond it.
    smallest, largest: the confidence sets at both ends, which hold jointly in 95 % of studies.
    direction: 1 where the best rho grows, -1 where it shrinks, 0 where neither is shown; None without a choice of rho
      at two widths and for two seeds.
    at_low_edge, at_high_edge: parameters of the widths whose best rho is the smallest, or the largest, of the grid.
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


@table.Rows
@table.for_part
def best_rho(part: table.Part) -> Iterator[dict[str, Any]]:
    """Find the best rho of each width, and a 95 % confidence set for it.

    A rho is in the set unless another is significantly better. The set contains the rho with the best true mean in 95 %
    of studies or more; in 90 to 94 % where that rho is several times noisier than the rest and seeds are few.

    Returns: one row for each width: the width, `num_params`, `best_rho`, `best_rho_low` and `best_rho_high` (the
      smallest and largest rho of the set; NaN below two seeds), `best_rho_set` (its members, as text), `chosen_by`,
      `at_grid_edge` ("low", "high", "low and high" or ""), `num_rhos` and `num_excluded_rhos` (those with a diverged or
      missing seed).
    """
    for width in part.widths:
        members = confidence_set(width)
        yield {
            part.question.width: width.value,
            "num_params": width.num_params,
            "best_rho": width.best_rho,
            "best_rho_low": min(members, default=math.nan),
            "best_rho_high": max(members, default=math.nan),
            "best_rho_set": " ".join(f"{rho:g}" for rho in members),
            "chosen_by": part.chosen_by,
            "at_grid_edge": grid_edge(width),
            "num_rhos": len(width.candidates),
            "num_excluded_rhos": len(width.rhos) - len(width.candidates),
        }


def grid_edge(width: Width) -> str:
    """Return "low" or "high" where the best rho, or one tied with it, is the smallest or largest of the grid, or both.

    A better one may lie beyond it. Where larger values diverged, the grid extends far enough, so that is not an edge.
    """
    return width.sam.edges().get("rho", "") if width.candidates else ""


def confidence_set(width: Width, *, level: float = 0.95) -> list[float]:
    """List the values of rho that no other is significantly better than; empty below two seeds."""
    arm = width.complete
    if len(arm.seeds) < 2 or not arm.settings:
        return []
    (is_in,) = best_sets.best_set(arm.choices[None], level=level)
    return [setting["rho"] for setting, is_member in zip(arm.settings, is_in, strict=True) if is_member]


def trend_of_best(widths: Sequence[Width]) -> RhoTrend:
    """Compute how the best rho changes with width.

    Single seeds have no best rho, so the slope is that of the best rho with one seed left out, and its error is that of
    the jackknife. Where leaving out a seed rarely changes the choice of a noisy width, that error misses the noise, so
    it is at least the one derived from the lengths of the confidence sets. Where the choice is the same whichever seed
    is left out and each set has one rho, the interval has length zero, which does not mean certainty.

    Args:
      widths: widths, the smallest first; those without a rho to choose or with only one seed are ignored.
    Returns: it grows where the interval of the factor lies above 1 and every rho of the set at the smallest width is
      below every rho of the set at the largest; it shrinks in the reverse case.
    Equation: b_i = sum_k w_k log10 r_k(-i), w_k the least-squares weights of log10 of the parameters, r_k(-i) the best
      rho of width k on all n seeds but i; log10 factor = mean_i b_i -/+ t max(e, f), e^2 = (n - 1) / n sum_i (b_i -
      mean b)^2 and f^2 = sum_k (w_k l_k / 6)^2, l_k the length of the 95 % set of width k in log10 rho.
    Source: Quenouille (1956) and Tukey (1958), the jackknife.
    """
    with_choice = [width for width in widths if len(width.candidates) and len(width.complete.seeds) > 1]
    sizes = [width.num_params for width in with_choice]
    if not estimates.span(sizes) or max(len(width.candidates) for width in with_choice) < 2:
        return RhoTrend()
    weights = estimates.slope_weights(sizes)
    chosen = _without_each_seed(with_choice)
    slopes = weights @ chosen
    num_seeds = len(slopes)
    center = float(slopes.mean())
    lengths = [math.log10(members[-1] / members[0]) for members in map(confidence_set, with_choice)]
    error = max(math.sqrt(num_seeds - 1) * float(slopes.std()), math.hypot(*(weights * lengths)) / _ERRORS_OF_SET)
    reach = estimates.quantile(num_seeds - 1, 0.95) * error
    edges = [_edges(width, row) for width, row in zip(with_choice, chosen, strict=True)]
    # A width above the middle whose best rho may lie beyond the high end censors a larger slope, and so on.
    low, high = center - reach, center + reach
    for at, weight in zip(edges, weights, strict=True):
        high = math.inf if ("high" in at and weight > 0) or ("low" in at and weight < 0) else high
        low = -math.inf if ("low" in at and weight > 0) or ("high" in at and weight < 0) else low
    smallest, largest = (tuple(confidence_set(with_choice[side], level=estimates.sidak(2))) for side in (0, -1))
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
        at_low_edge=tuple(width.num_params for width, at in zip(with_choice, edges, strict=True) if "low" in at),
        at_high_edge=tuple(width.num_params for width, at in zip(with_choice, edges, strict=True) if "high" in at),
    )


def _edges(width: Width, chosen: np.ndarray) -> set[str]:
    """Return the ends of the grid, "low" or "high", at which the best rho lies for all seeds or with one left out."""
    edges = {end for end in ("low", "high") if end in grid_edge(width)}
    if len(width.rhos) > 1:
        edges |= {"low"} if chosen.min() <= math.log10(width.rhos[0]) else set()
        edges |= {"high"} if chosen.max() >= math.log10(width.rhos[-1]) else set()
    return edges


def _without_each_seed(widths: Sequence[Width]) -> np.ndarray:
    """Return log10 of the best rho with one seed left out, for each seed of any width: [widths, seeds]."""
    every = sorted({seed for width in widths for seed in width.complete.seeds})
    logs = []
    for arm in (width.complete for width in widths):
        folds = np.array([[float(other != seed) for other in arm.seeds] for seed in every])
        logs.append([math.log10(arm.settings[best]["rho"]) for best in estimates.choose(arm.choices, folds)])
    return np.array(logs)
