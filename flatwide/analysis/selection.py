"""The gain of SAM corrected for the selection of the best rho.

The best of many values of rho beats one base run even where SAM has no effect, because it is selected for its noise.
Here each seed is scored at the rho that the other seeds choose, so no seed selects its own noise. These scores are
dependent, since any two share the choices of the other seeds; Student's t would cover too rarely (88 % instead of 95 %
for 8 seeds and 11 values of rho). The critical value is therefore simulated, once for each number of seeds and values
of rho. It also depends on the noise of the base: the less there is, the more the shared choice matters. That noise is
estimated from all widths of a table.

Where one rho is much noisier than the rest, only some seeds choose it, and the spread at the rho that all seeds choose
may miss its noise. The standard error is therefore the larger of that spread and the spread of the scores.
"""

import functools
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from flatwide.analysis import intervals, noise, widths

if TYPE_CHECKING:
    import pandas as pd

_NUM_TABLES = 40_000  # of pure noise: gives the coverage of a quantile to 0.1 %
_MAX_ENTRIES = 20_000_000  # of these tables, to bound memory
_RATIOS = (0.0, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0)  # simulated variances of base over SAM; Student's t beyond


class Corrected(NamedTuple):
    """A gain corrected for the choice of rho; `gain` and `bias` are NaN below two seeds, as are the other three."""

    gain: float
    standard_error: float
    low: float
    high: float
    bias: float  # the gain at the best rho of all seeds minus this one
    num_seeds: int
    num_rhos: int  # that the choice was made from


def corrected_gain(
    runs: "pd.DataFrame", *, width: str = "num_params", metric: str = "test_metric", choose_by: str | None = None
) -> "pd.DataFrame":
    """Compute the gain at every width, each seed scored at the rho that the other seeds choose.

    Args, Raises: as for `gain.gain_by_width`.
    Returns: one row for each width: the width, `num_params`, `corrected_gain`, `corrected_standard_error`,
      `corrected_low`, `corrected_high` (95 %), `selection_bias` (the plain gain of the same seeds minus the corrected
      one), `corrected_num_seeds` and `num_rhos` (that the choice was made from: without a diverged or missing run).
    """
    import pandas as pd

    return pd.DataFrame(of_widths(widths.by_width(runs, width=width, metric=metric, choose_by=choose_by), width=width))


def of_widths(cells: Sequence[widths.Width], *, width: str) -> list[dict[str, Any]]:
    """Compute the rows of `corrected_gain` for runs that are already arranged."""
    return [
        {
            width: cell.value,
            "num_params": cell.num_params,
            "corrected_gain": corrected.gain,
            "corrected_standard_error": corrected.standard_error,
            "corrected_low": corrected.low,
            "corrected_high": corrected.high,
            "selection_bias": corrected.bias,
            "corrected_num_seeds": corrected.num_seeds,
            "num_rhos": corrected.num_rhos,
        }
        for cell, corrected in zip(cells, correct_all(cells), strict=True)
    ]


def correct_all(cells: Sequence[widths.Width], *, level: float = 0.95) -> list[Corrected]:
    """Correct the gain of every width, with the ratio of base to SAM noise estimated from all of them."""
    ratio = noise.ratio_of_widths(cells)
    return [correct(cell, level=level, ratio=ratio) for cell in cells]


def correct(cell: widths.Width, *, level: float = 0.95, ratio: float | None = None) -> Corrected:
    """Correct the gain of a width for the choice of its rho.

    Args:
      ratio: variance of the base over that of SAM; None estimates it from this width alone.
    Equation: k(i) is the best rho on the mean over all seeds but i, k the best over all, d[i, k] the gain of seed i;
      gain = mean_i d[i, k(i)], standard_error = max(s(d[:, k]), s(d[i, k(i)] over i)) / sqrt(n), the interval is
      gain -/+ c standard_error with c as in `critical_value`.
    """
    _, gains, choices = _complete(cell)
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
    ratio = noise.ratio_of_widths([cell]) if ratio is None else ratio
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


def scores(cell: widths.Width) -> tuple[tuple[int, ...], np.ndarray]:
    """Return the seeds of a width, and the gain of each at the rho that the others choose."""
    seeds, gains, choices = _complete(cell)
    return (seeds, cross_fit(gains, choices)) if len(seeds) > 1 and gains.size else ((), np.empty(0))


def pair_scores(cell: widths.Width) -> tuple[tuple[int, ...], np.ndarray]:
    """Return the seeds of a width, and the gain of each at the rho chosen without it and without another seed.

    Returns: the seeds, and [seeds, seeds]: the gain of the row's seed, without the column's seed. The mean of products
      of an entry and its mirror is free of noise, unlike with `scores`, whose choices depend on each other's noise. The
      diagonal is `scores`.
    """
    seeds, gains, choices = _complete(cell)
    if len(seeds) < 2 or not gains.size:
        return (), np.empty((0, 0))
    without = choices.sum(axis=0) - choices[:, None] - choices[None]  # [seeds, seeds, rhos]
    index = np.arange(len(gains))
    without[index, index] += choices
    return seeds, gains[index[:, None], without.argmax(axis=-1)]


def interval(scores: np.ndarray, together: np.ndarray, *, limit: float) -> intervals.Mean:
    """Compute the mean of scores with the larger of two standard errors.

    Args:
      scores: [seeds], each at the choice of the other seeds. together: [seeds], at the choice of all seeds.
      limit: half-length of the interval in standard errors, from `critical_value`.
    """
    error = max(float(np.std(values, ddof=1)) for values in (scores, together)) / math.sqrt(len(scores))
    center, reach = float(scores.mean()), limit * error
    return intervals.Mean(center, error, center - reach, center + reach)


def _complete(cell: widths.Width) -> tuple[tuple[int, ...], np.ndarray, np.ndarray]:
    """Return the seeds that have every candidate rho, and their gains and choices at these: [seeds, rhos]."""
    whole = cell.complete()
    at = list(whole.candidates)
    return whole.seeds, whole.gains[:, at], whole.choices[:, [1 + column for column in at]]


def cross_fit(gains: np.ndarray, choices: np.ndarray) -> np.ndarray:
    """Score each seed at the rho that the other seeds choose, the first of ties.

    Args:
      gains: [..., seeds, rhos].
      choices: the same shape: the metric that the choice is made by; larger is better.
    Returns: [..., seeds].
    """
    others = choices.sum(axis=-2, keepdims=True) - choices
    return np.take_along_axis(gains, others.argmax(axis=-1)[..., None], axis=-1)[..., 0]


def standard_error(gains: np.ndarray, choices: np.ndarray) -> np.ndarray:
    """Compute the standard error of the corrected gain, from the larger spread: at the best rho or of the scores.

    Args: as for `cross_fit`.
    Returns: [...].
    """
    spreads = [values.std(axis=-1, ddof=1) for values in (_at_best(gains, choices), cross_fit(gains, choices))]
    return np.maximum(*spreads) / math.sqrt(gains.shape[-2])


def critical_value(
    num_seeds: int, num_rhos: int, *, num_base: int = 1, ratio: float | None = None, level: float = 0.95
) -> float:
    """Compute the half-length of the corrected interval in standard errors.

    It is simulated for pure noise: no rho differs from the base except by independent noise, equal for every rho, so
    that the choice is arbitrary. It is never below Student's t, which is correct where one rho is far ahead.

    Args:
      num_rhos, num_base: numbers of cells from which SAM and its base each choose.
      ratio: variance of the base over that of SAM, interpolated between the simulated ones. None is 1.
    Cost: half a second for 8 seeds and 11 values of rho, the first time. The random seed is fixed.
    """
    return max(student(num_seeds, level), _interpolated(num_seeds, num_rhos, num_base, ratio, level, error=0))


def stretch_of_scores(
    num_seeds: int, num_rhos: int, *, num_base: int = 1, ratio: float | None = None, level: float = 0.95
) -> float:
    """Compute the factor by which an interval from the spread of the scores alone must be wider than Student's t.

    Args: as for `critical_value`.
    """
    reach = _interpolated(num_seeds, num_rhos, num_base, ratio, level, error=1)
    return max(1.0, reach / student(num_seeds, level))


def possible_ratios(reach: float, num_seeds: int, num_rhos: int, *, num_base: int = 1) -> list[float]:
    """List the ratios of base to SAM noise for which a 95 % interval has a half-length, to within half a percent.

    A summary does not have the ratio that its intervals were computed with; their length bounds it.

    Args:
      reach: half-length of the interval in standard errors. Others as for `critical_value`.
    """
    ratios = [share / (1 - share) if share < 1 else math.inf for share in np.linspace(0.0, 1.0, 41)]
    errors = [abs(critical_value(num_seeds, num_rhos, num_base=num_base, ratio=ratio) - reach) for ratio in ratios]
    return [ratio for ratio, error in zip(ratios, errors, strict=True) if error < min(errors) + 0.005 * reach]


def widest_stretch(num_seeds: int, estimates: Sequence[tuple[intervals.Mean, int, int]]) -> float:
    """Compute the largest factor of `stretch_of_scores` that the noise behind some reported gains allows.

    Args:
      num_seeds: of the scores. estimates: of each width: its gain with a 95 % interval, its seeds, its values of rho.
    """
    most = max(num_rhos for _, _, num_rhos in estimates)
    return max(
        stretch_of_scores(num_seeds, most, ratio=ratio)
        for gain, count, num_rhos in estimates
        if gain.standard_error > 0
        for ratio in possible_ratios((gain.high - gain.low) / 2 / gain.standard_error, count, num_rhos)
    )


def _interpolated(
    num_seeds: int, num_rhos: int, num_base: int, ratio: float | None, level: float, *, error: int
) -> float:
    """Interpolate a simulated quantile in the base's share of the variance; `error` is its index in `_simulated`."""
    if num_rhos == num_base == 1:
        return student(num_seeds, level)
    quantiles = _simulated(num_seeds, num_rhos, num_base, level)[error]
    # With one base cell and no SAM noise, the choice does not matter; several base cells mirror the choice of SAM.
    endless = student(num_seeds, level) if num_base == 1 else quantiles[-1]
    ratio = 1.0 if ratio is None else ratio
    share = 1.0 if math.isinf(ratio) else ratio / (1 + ratio)
    shares = [simulated_ratio / (1 + simulated_ratio) for simulated_ratio in _RATIOS]
    return float(np.interp(share, [*shares, 1.0], [*quantiles, endless]))


@functools.lru_cache(maxsize=512)
def _simulated(
    num_seeds: int, num_rhos: int, num_base: int, level: float
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Simulate the quantiles of |gain| / standard error at each ratio, for both standard errors."""
    entries = num_seeds * (num_rhos + num_base)
    generator = np.random.default_rng(0)
    ratios: list[np.ndarray] = []
    num_tables = max(2000, min(_NUM_TABLES, _MAX_ENTRIES // entries))
    sizes = np.sqrt(_RATIOS)[:, None, None]
    for start in range(0, num_tables, 2000):
        draws = generator.standard_normal((min(2000, num_tables - start), num_seeds, num_rhos + num_base))
        base, sam = draws[..., :num_base], draws[..., num_base:]
        # The choice of each arm depends only on its own noise, so it is the same for every ratio.
        scores = cross_fit(sam, sam) - sizes * cross_fit(base, base)
        at_best = _at_best(sam, sam) - sizes * _at_best(base, base)
        of_scores = scores.std(axis=-1, ddof=1)
        errors = np.array((np.maximum(of_scores, at_best.std(axis=-1, ddof=1)), of_scores)) / math.sqrt(num_seeds)
        ratios.append(np.abs(scores.mean(axis=-1)) / errors)
    larger, of_scores = np.quantile(np.concatenate(ratios, axis=2), level, axis=2)
    return tuple(map(float, larger)), tuple(map(float, of_scores))


def student(num_seeds: int, level: float = 0.95) -> float:
    """Return the quantile of Student's t for a two-sided interval of a mean over seeds."""
    from scipy.special import stdtrit

    return float(stdtrit(num_seeds - 1, (1 + level) / 2))


def _at_best(gains: np.ndarray, choices: np.ndarray) -> np.ndarray:
    """Return the gains at the rho that all seeds choose together, the first of ties."""
    best = choices.sum(axis=-2).argmax(axis=-1)
    return np.take_along_axis(gains, best[..., None, None], axis=-1)[..., 0]
