"""Whether the gain grows with width, in a word that every interval bears out."""

import math
from typing import NamedTuple

import numpy as np

from flatwide.analysis import best_sets, intervals
from flatwide.analysis.trend import Scores, slope_of

GROWS, LARGER, SHRINKS, SMALLER = "grows", "larger", "shrinks", "smaller"
PEAKS, NO_TREND, UNKNOWN = "peaks", "none", ""


class Verdict(NamedTuple):
    """What the gain does as networks grow.

    kind: GROWS or SHRINKS; LARGER or SMALLER at large widths, where that rests on one width; PEAKS at a width between
      the ends; NO_TREND where none of these is shown, and UNKNOWN below two widths or seeds.
    rise: the gain at the largest width less the weighted mean of the smaller half, with its interval.
    p_value: of no trend, two-sided: the larger one of the slope and of the rise; 1 where they disagree.
    rests_on: parameters of each width without which the trend is not shown.
    peaks_at: parameters of the widths that cannot be told from the one with the largest gain; empty but for PEAKS.
    is_certain: whether there are three seeds, three widths and some spread from seed to seed.
    """

    kind: str = UNKNOWN
    rise: intervals.Mean = intervals.NONE
    p_value: float = math.nan
    rests_on: tuple[int, ...] = ()
    peaks_at: tuple[int, ...] = ()
    is_certain: bool = False

    @property
    def direction(self) -> int | None:
        """1 where the gain grows, -1 where it shrinks, 0 where neither is shown; None where nothing is known."""
        return {GROWS: 1, SHRINKS: -1, UNKNOWN: None}.get(self.kind, 0)


def verdict(found: Scores, *, level: float = 0.95) -> Verdict:
    """Decide whether the gain grows with width.

    It grows if the interval of its weighted slope and that of its rise lie above zero, at the largest width it is above
    that of the smallest, and all of it holds without any one width too. It shrinks where all of that lies below zero. A
    slope alone would take a gain at the second-last width alone, or one ruined small network, for growth.
    It peaks where the set of widths that cannot be told from the best one has neither the smallest nor the largest.

    Cost: a few milliseconds.
    """
    if len(found.num_params) < 2 or len(found.seeds) < 2:
        return Verdict()
    slope, rise = slope_of(found, level=level), rise_of(found, level=level)
    direction = _direction(found, slope, rise)
    peaks_at = _peak(found, level=level)
    rests_on = ()
    kind = PEAKS if peaks_at else NO_TREND
    if direction and not peaks_at:
        rests_on = tuple(
            size
            for index, size in enumerate(found.num_params)
            if len(found.num_params) > 2 and _shown(found.without(index), level=level) != direction
        )
        words = {1: (GROWS, LARGER), -1: (SHRINKS, SMALLER)}[direction]
        kind = words[bool(rests_on)]
    return Verdict(
        kind=kind,
        rise=rise,
        p_value=_p_value(found, slope, rise),
        rests_on=rests_on,
        peaks_at=peaks_at,
        is_certain=min(len(found.seeds), len(found.num_params)) >= 3 and not _is_exact(slope),
    )


def rise_of(found: Scores, *, level: float = 0.95) -> intervals.Mean:
    """Compute how much larger the gain is at the largest width than in the weighted mean of the smaller half."""
    half = len(found.num_params) // 2
    smaller = np.average(found.gains[:half], axis=0, weights=found.weights[:half])
    return intervals.mean(found.gains[-1] - smaller, level=level, stretch=found.stretch)


def _shown(found: Scores, *, level: float) -> int:
    """Return the direction in which the gain changes by both intervals, 0 for none."""
    return _direction(found, slope_of(found, level=level), rise_of(found, level=level))


def _direction(found: Scores, slope: intervals.Mean, rise: intervals.Mean) -> int:
    ends = float(found.gains[-1].mean() - found.gains[0].mean())
    if min(slope.low, rise.low, ends) > 0:
        return 1
    return -1 if max(slope.high, rise.high, ends) < 0 else 0


def _peak(found: Scores, *, level: float) -> tuple[int, ...]:
    (is_in,) = best_sets.best_set(found.gains.T[None], level=level, stretch=found.stretch)
    if is_in[0] or is_in[-1]:
        return ()
    return tuple(size for size, kept in zip(found.num_params, is_in, strict=True) if kept)


def _p_value(found: Scores, slope: intervals.Mean, rise: intervals.Mean) -> float:
    from scipy.special import stdtr

    if slope.mean * rise.mean <= 0:
        return 1.0
    if _is_exact(slope) or _is_exact(rise):
        return math.nan
    ratios = (abs(one.mean) / one.standard_error / found.stretch for one in (slope, rise))
    return max(float(2 * stdtr(len(found.seeds) - 1, -ratio)) for ratio in ratios)


def _is_exact(one: intervals.Mean) -> bool:
    """Whether all seeds agree to the last digit, as happens with few test examples: no interval can be had from them."""
    return one.standard_error <= 1e-12 * abs(one.mean)
