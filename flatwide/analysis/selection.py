"""The gain of SAM without the luck of the best rho.

The best of many rho beats one base run even where SAM does nothing: its noise was picked to be high. Here each seed is
scored at the rho that the other seeds choose, so nobody picks its noise. Those scores still depend on each other, since
any two of them share the other seeds' choices; Student's t would cover too seldom (88 % instead of 95 % for 8 seeds and
11 rho). How far to reach is therefore simulated, once for each number of seeds and rho.
"""

import functools
import math
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from flatwide.analysis import intervals, widths

if TYPE_CHECKING:
    import pandas as pd

_NUM_TABLES = 40_000  # of pure noise: the coverage of a quantile of so many is known to 0.1 %
_MAX_ENTRIES = 20_000_000  # of memory for them


class Corrected(NamedTuple):
    """A gain corrected for the choice of rho; `gain` and `bias` are NaN below two seeds, as are the other three."""

    gain: float
    standard_error: float
    low: float
    high: float
    bias: float  # the gain at the best rho of all seeds, less this one
    num_seeds: int
    num_rhos: int  # among which the choice was


def corrected_gain(
    runs: "pd.DataFrame", *, width: str = "num_params", metric: str = "test_metric", choose_by: str | None = None
) -> "pd.DataFrame":
    """Compute the gain at every width, each seed scored at the rho that the other seeds choose.

    Args, Raises: as for `gain.gain_by_width`.
    Returns: one row a width: the width, `num_params`, `corrected_gain`, `corrected_standard_error`, `corrected_low`,
      `corrected_high` (95 %), `selection_bias` (the plain gain of the same seeds less the corrected one),
      `corrected_num_seeds` and `num_rhos` (among which the choice was: those without a diverged or missing run).
    """
    import pandas as pd

    return pd.DataFrame(of_widths(widths.by_width(runs, width=width, metric=metric, choose_by=choose_by), width=width))


def of_widths(cells: Iterable[widths.Width], *, width: str) -> list[dict[str, Any]]:
    """Give the rows of `corrected_gain` for runs that are arranged already."""
    rows = []
    for one in cells:
        found = correct(one)
        rows.append(
            {
                width: one.value,
                "num_params": one.num_params,
                "corrected_gain": found.gain,
                "corrected_standard_error": found.standard_error,
                "corrected_low": found.low,
                "corrected_high": found.high,
                "selection_bias": found.bias,
                "corrected_num_seeds": found.num_seeds,
                "num_rhos": found.num_rhos,
            }
        )
    return rows


def correct(one: widths.Width, *, level: float = 0.95) -> Corrected:
    """Correct the gain of one width for the choice of its rho.

    Equation: k(i) is the best rho by the mean over all seeds but i, k the best over all, d[i, k] the gain of seed i;
      gain = mean_i d[i, k(i)], standard_error = s(d[:, k]) / sqrt(n), the interval is gain -/+ c standard_error with
      c the quantile of |gain| / standard_error where all rho and the base differ by noise alone.
    """
    whole = one.complete()
    n, num_rhos = len(whole.seeds), len(whole.candidates)
    if n < 2 or not num_rhos:
        return Corrected(math.nan, math.nan, math.nan, math.nan, math.nan, n, num_rhos)
    at = list(whole.candidates)
    gains, choices = whole.gains[:, at], whole.choices[:, [1 + place for place in at]]
    scores = cross_fit(gains, choices)
    plain = intervals.mean(gains[:, int(np.argmax(choices.sum(axis=0)))])
    center, error = float(scores.mean()), plain.standard_error
    reach = critical_value(n, num_rhos, level=level) * error
    return Corrected(center, error, center - reach, center + reach, plain.mean - center, n, num_rhos)


def scores(one: widths.Width) -> tuple[tuple[int, ...], np.ndarray]:
    """Give the seeds of a width, and the gain of each at the rho that the others choose."""
    whole = one.complete()
    at = list(whole.candidates)
    if len(whole.seeds) < 2 or not at:
        return (), np.empty(0)
    return whole.seeds, cross_fit(whole.gains[:, at], whole.choices[:, [1 + place for place in at]])


def cross_fit(gains: np.ndarray, choices: np.ndarray) -> np.ndarray:
    """Score each seed at the rho that the other seeds choose, the first of equals.

    Args:
      gains: [..., seeds, rhos].
      choices: the same shape: what the choice is by; larger is better.
    Returns: [..., seeds].
    """
    others = choices.sum(axis=-2, keepdims=True) - choices
    return np.take_along_axis(gains, others.argmax(axis=-1)[..., None], axis=-1)[..., 0]


@functools.lru_cache(maxsize=512)
def critical_value(num_seeds: int, num_rhos: int, *, level: float = 0.95) -> float:
    """Find how many standard errors the corrected interval reaches to either side.

    It is Student's t for one rho, where there is no choice. For more it is simulated under the hardest case, that no
    rho differs from the base by more than independent noise of one size: there the choice is all luck.

    Cost: a quarter of a second for 8 seeds and 11 rhos, the first time. The same numbers each time.
    """
    from scipy.special import stdtrit

    if num_rhos == 1:
        return float(stdtrit(num_seeds - 1, (1 + level) / 2))
    entries = num_seeds * (num_rhos + 1)
    generator = np.random.default_rng(0)
    ratios: list[np.ndarray] = []
    num_tables = max(2000, min(_NUM_TABLES, _MAX_ENTRIES // entries))
    for start in range(0, num_tables, 2000):
        noise = generator.standard_normal((min(2000, num_tables - start), num_seeds, num_rhos + 1))
        gains = noise[..., 1:] - noise[..., :1]
        best = noise[..., 1:].sum(axis=1).argmax(axis=-1)
        at_best = np.take_along_axis(gains, best[:, None, None], axis=-1)[..., 0]
        error = at_best.std(axis=-1, ddof=1) / math.sqrt(num_seeds)
        ratios.append(np.abs(cross_fit(gains, noise[..., 1:]).mean(axis=-1)) / error)
    return float(np.quantile(np.concatenate(ratios), level))
