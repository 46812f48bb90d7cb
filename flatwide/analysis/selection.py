"""The gain of SAM without the luck of the best rho.

The best of many rho beats one base run even where SAM does nothing: its noise was picked to be high. Here each seed is
scored at the rho that the other seeds choose, so nobody picks its noise. Those scores still depend on each other, since
any two of them share the other seeds' choices; Student's t would cover too seldom (88 % instead of 95 % for 8 seeds and
11 rho). How far to reach is therefore simulated, once for each number of seeds and rho.

Where one rho is far noisier than the rest, it is the choice of some seeds only, and the spread at the rho that all
choose together may know nothing of it. The standard error is therefore the larger of that spread and the scores' own.
"""

import functools
import math
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from flatwide.analysis import widths

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
      gain = mean_i d[i, k(i)], standard_error = max(s(d[:, k]), s(d[i, k(i)] over i)) / sqrt(n), the interval is
      gain -/+ c standard_error with c as in `critical_value`.
    """
    whole = one.complete()
    n, num_rhos = len(whole.seeds), len(whole.candidates)
    if n < 2 or not num_rhos:
        return Corrected(math.nan, math.nan, math.nan, math.nan, math.nan, n, num_rhos)
    at = list(whole.candidates)
    gains, choices = whole.gains[:, at], whole.choices[:, [1 + place for place in at]]
    center, error = float(cross_fit(gains, choices).mean()), float(standard_error(gains, choices))
    reach = critical_value(n, num_rhos, level=level) * error
    bias = float(_at_best(gains, choices).mean()) - center
    return Corrected(center, error, center - reach, center + reach, bias, n, num_rhos)


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


def standard_error(gains: np.ndarray, choices: np.ndarray) -> np.ndarray:
    """Compute the standard error of the corrected gain: from the spread at the best rho or the scores', the larger.

    Args: as for `cross_fit`.
    Returns: [...].
    """
    spreads = [values.std(axis=-1, ddof=1) for values in (_at_best(gains, choices), cross_fit(gains, choices))]
    return np.maximum(*spreads) / math.sqrt(gains.shape[-2])


def critical_value(num_seeds: int, num_rhos: int, *, level: float = 0.95) -> float:
    """Find how many standard errors the corrected interval reaches to either side.

    It is simulated where no rho differs from the base by more than independent noise of one size, so that the choice
    is all luck; and it is Student's t at least, which is what one rho far ahead of the others needs.

    Cost: half a second for 8 seeds and 11 rhos, the first time. The same numbers each time.
    """
    return max(_student(num_seeds, level), _simulated(num_seeds, num_rhos, level)[0])


def stretch_of_scores(num_seeds: int, num_rhos: int, *, level: float = 0.95) -> float:
    """Find how much wider than Student's t an interval must be that is made from the spread of the scores alone."""
    return max(1.0, _simulated(num_seeds, num_rhos, level)[1] / _student(num_seeds, level))


@functools.lru_cache(maxsize=512)
def _simulated(num_seeds: int, num_rhos: int, level: float) -> tuple[float, float]:
    """Simulate the quantiles of |gain| / standard error, for that of the gain and for that of the scores alone."""
    if num_rhos == 1:
        return _student(num_seeds, level), _student(num_seeds, level)
    entries = num_seeds * (num_rhos + 1)
    generator = np.random.default_rng(0)
    ratios: list[np.ndarray] = []
    num_tables = max(2000, min(_NUM_TABLES, _MAX_ENTRIES // entries))
    for start in range(0, num_tables, 2000):
        noise = generator.standard_normal((min(2000, num_tables - start), num_seeds, num_rhos + 1))
        gains, choices = noise[..., 1:] - noise[..., :1], noise[..., 1:]
        scores = cross_fit(gains, choices)
        errors = (standard_error(gains, choices), scores.std(axis=-1, ddof=1) / math.sqrt(num_seeds))
        ratios.append(np.abs(scores.mean(axis=-1)) / np.array(errors))
    larger, alone = np.quantile(np.concatenate(ratios, axis=1), level, axis=1)
    return float(larger), float(alone)


def _student(num_seeds: int, level: float) -> float:
    """Give the quantile of Student's t for a two-sided interval."""
    from scipy.special import stdtrit

    return float(stdtrit(num_seeds - 1, (1 + level) / 2))


def _at_best(gains: np.ndarray, choices: np.ndarray) -> np.ndarray:
    """Take the gains at the rho that all seeds choose together, the first of equals."""
    best = choices.sum(axis=-2).argmax(axis=-1)
    return np.take_along_axis(gains, best[..., None, None], axis=-1)[..., 0]
