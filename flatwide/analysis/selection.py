"""The gain of SAM without the luck of the best rho.

The best of many rho beats one base run even where SAM does nothing: its noise was picked to be high. Here each seed is
scored at the rho that the other seeds choose, so nobody picks its noise. Those scores still depend on each other, since
any two of them share the other seeds' choices; Student's t would cover too seldom (88 % instead of 95 % for 8 seeds and
11 rho). How far to reach is therefore simulated, once for each number of seeds and rho. It depends on the base's noise
too: the less of it there is, the more the choices' common part counts. All widths of a table tell how much there is.

Where one rho is far noisier than the rest, it is the choice of some seeds only, and the spread at the rho that all
choose together may know nothing of it. The standard error is therefore the larger of that spread and the scores' own.
"""

import functools
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from flatwide.analysis import intervals, noise, widths

if TYPE_CHECKING:
    import pandas as pd

_NUM_TABLES = 40_000  # of pure noise: the coverage of a quantile of so many is known to 0.1 %
_MAX_ENTRIES = 20_000_000  # of memory for them
_RATIOS = (0.0, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0)  # variances of base over SAM that are simulated; beyond, Student's t


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


def of_widths(cells: Sequence[widths.Width], *, width: str) -> list[dict[str, Any]]:
    """Compute the rows of `corrected_gain` for runs that are arranged already."""
    return [
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
        for one, found in zip(cells, correct_all(cells), strict=True)
    ]


def correct_all(cells: Sequence[widths.Width], *, level: float = 0.95) -> list[Corrected]:
    """Correct the gain of every width, with the ratio of base to SAM noise that they have in common."""
    ratio = noise.ratio_of_widths(cells)
    return [correct(one, level=level, ratio=ratio) for one in cells]


def correct(one: widths.Width, *, level: float = 0.95, ratio: float | None = None) -> Corrected:
    """Correct the gain of one width for the choice of its rho.

    Args:
      ratio: the base's variance over that of SAM; None estimates it from this width alone.
    Equation: k(i) is the best rho by the mean over all seeds but i, k the best over all, d[i, k] the gain of seed i;
      gain = mean_i d[i, k(i)], standard_error = max(s(d[:, k]), s(d[i, k(i)] over i)) / sqrt(n), the interval is
      gain -/+ c standard_error with c as in `critical_value`.
    """
    _, gains, choices = _complete(one)
    n, num_rhos = gains.shape
    if n < 2 or not num_rhos:
        return Corrected(
            gain=math.nan,
            standard_error=math.nan,
            low=math.nan,
            high=math.nan,
            bias=math.nan,
            num_seeds=n,
            num_rhos=num_rhos,
        )
    center, error = float(cross_fit(gains, choices).mean()), float(standard_error(gains, choices))
    ratio = noise.ratio_of_widths([one]) if ratio is None else ratio
    reach = critical_value(n, num_rhos, ratio=ratio, level=level) * error
    bias = float(_at_best(gains, choices).mean()) - center
    return Corrected(
        gain=center,
        standard_error=error,
        low=center - reach,
        high=center + reach,
        bias=bias,
        num_seeds=n,
        num_rhos=num_rhos,
    )


def scores(one: widths.Width) -> tuple[tuple[int, ...], np.ndarray]:
    """List the seeds of a width, and the gain of each at the rho that the others choose."""
    seeds, gains, choices = _complete(one)
    return (seeds, cross_fit(gains, choices)) if len(seeds) > 1 and gains.size else ((), np.empty(0))


def pair_scores(one: widths.Width) -> tuple[tuple[int, ...], np.ndarray]:
    """List the seeds of a width, and the gain of each at the rho that all but it and another one choose.

    Returns: the seeds, and [seeds, seeds]: of the seed of the row, without that of the column; products of an entry and
      its mirror have no noise in their mean, as those of `scores` have, whose choices see each other's noise. The
      diagonal is `scores`.
    """
    seeds, gains, choices = _complete(one)
    if len(seeds) < 2 or not gains.size:
        return (), np.empty((0, 0))
    without = choices.sum(axis=0) - choices[:, None] - choices[None]  # [seeds, seeds, rhos]
    own = np.arange(len(gains))
    without[own, own] += choices
    return seeds, gains[own[:, None], without.argmax(axis=-1)]


def interval(scores: np.ndarray, together: np.ndarray, *, limit: float) -> intervals.Mean:
    """Compute the mean of scores with the larger one of two standard errors.

    Args:
      scores: [seeds], each where the other seeds choose. together: [seeds], where all choose together.
      limit: standard errors to reach, as `critical_value`.
    """
    error = max(float(np.std(one, ddof=1)) for one in (scores, together)) / math.sqrt(len(scores))
    center, reach = float(scores.mean()), limit * error
    return intervals.Mean(center, error, center - reach, center + reach)


def _complete(one: widths.Width) -> tuple[tuple[int, ...], np.ndarray, np.ndarray]:
    """Return the seeds that have every rho that may be chosen, and their gains and choices at those: [seeds, rhos]."""
    whole = one.complete()
    at = list(whole.candidates)
    return whole.seeds, whole.gains[:, at], whole.choices[:, [1 + column for column in at]]


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


def critical_value(
    num_seeds: int, num_rhos: int, *, num_base: int = 1, ratio: float | None = None, level: float = 0.95
) -> float:
    """Find how many standard errors the corrected interval reaches to either side.

    It is simulated where no rho differs from the base by more than independent noise, of one size at every rho and one
    for the base, so that the choice is all luck; and it is Student's t at least, which is what one rho far ahead of the
    others needs.

    Args:
      num_rhos, num_base: cells of SAM and of its base among which each chooses for itself.
      ratio: the base's variance over that of SAM; between those that are simulated it is interpolated. None is 1.
    Cost: half a second for 8 seeds and 11 rhos, the first time. The same numbers each time.
    """
    return max(student(num_seeds, level), _interpolated(num_seeds, num_rhos, num_base, ratio, level, which=0))


def stretch_of_scores(
    num_seeds: int, num_rhos: int, *, num_base: int = 1, ratio: float | None = None, level: float = 0.95
) -> float:
    """Find how much wider than Student's t an interval must be that is made from the spread of the scores alone.

    Args: as for `critical_value`.
    """
    reach = _interpolated(num_seeds, num_rhos, num_base, ratio, level, which=1)
    return max(1.0, reach / student(num_seeds, level))


def _interpolated(
    num_seeds: int, num_rhos: int, num_base: int, ratio: float | None, level: float, *, which: int
) -> float:
    """Interpolate a simulated quantile in the base's share of the variance."""
    if num_rhos == num_base == 1:
        return student(num_seeds, level)
    found = _simulated(num_seeds, num_rhos, num_base, level)[which]
    # With one base cell and all noise the base's, no choice matters. Several choose as SAM does in the mirror.
    endless = student(num_seeds, level) if num_base == 1 else found[-1]
    ratio = 1.0 if ratio is None else ratio
    share = 1.0 if math.isinf(ratio) else ratio / (1 + ratio)
    shares = [one / (1 + one) for one in _RATIOS]
    return float(np.interp(share, [*shares, 1.0], [*found, endless]))


@functools.lru_cache(maxsize=512)
def _simulated(
    num_seeds: int, num_rhos: int, num_base: int, level: float
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Simulate the quantiles of |gain| / standard error at each ratio, for the gain's error and for the scores' own."""
    entries = num_seeds * (num_rhos + num_base)
    generator = np.random.default_rng(0)
    ratios: list[np.ndarray] = []
    num_tables = max(2000, min(_NUM_TABLES, _MAX_ENTRIES // entries))
    sizes = np.sqrt(_RATIOS)[:, None, None]
    for start in range(0, num_tables, 2000):
        draws = generator.standard_normal((min(2000, num_tables - start), num_seeds, num_rhos + num_base))
        base, sam = draws[..., :num_base], draws[..., num_base:]
        # Each arm's choice looks at its own noise alone, so one choice serves every ratio.
        scores = cross_fit(sam, sam) - sizes * cross_fit(base, base)
        at_best = _at_best(sam, sam) - sizes * _at_best(base, base)
        alone = scores.std(axis=-1, ddof=1)
        errors = np.array((np.maximum(alone, at_best.std(axis=-1, ddof=1)), alone)) / math.sqrt(num_seeds)
        ratios.append(np.abs(scores.mean(axis=-1)) / errors)
    larger, alone = np.quantile(np.concatenate(ratios, axis=2), level, axis=2)
    return tuple(map(float, larger)), tuple(map(float, alone))


def student(num_seeds: int, level: float = 0.95) -> float:
    """Return the quantile of Student's t for a two-sided interval of a mean over seeds."""
    from scipy.special import stdtrit

    return float(stdtrit(num_seeds - 1, (1 + level) / 2))


def _at_best(gains: np.ndarray, choices: np.ndarray) -> np.ndarray:
    """Take the gains at the rho that all seeds choose together, the first of equals."""
    best = choices.sum(axis=-2).argmax(axis=-1)
    return np.take_along_axis(gains, best[..., None, None], axis=-1)[..., 0]
