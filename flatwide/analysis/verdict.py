"""Verdicts on whether the gain grows with width, each supported by all of its intervals."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from flatwide.analysis import best_sets, intervals
from flatwide.analysis.trend import Scores, slope_of

GROWS, LARGER, SHRINKS, SMALLER = "grows", "larger", "shrinks", "smaller"
PEAKS, NO_TREND, UNKNOWN = "peaks", "none", ""

_MOST_LEFT = 0.5  # share of the slope that may remain without a width for the trend to rest on that width


class Verdict(NamedTuple):
    """The verdict on how the gain changes as networks grow.

    kind: GROWS or SHRINKS; LARGER or SMALLER at large widths, where the trend rests on one width; PEAKS at a width
      between the ends; NO_TREND where none of these is shown, and UNKNOWN below two widths or seeds.
    rise: the gain at the largest width minus the weighted mean of the smaller half, with its interval.
    p_value: two-sided, of no trend: the larger of those of the slope and of the rise; 1 where these disagree in sign.
    rests_on: parameters of each width without which the trend is not shown and less than half of the slope remains.
    peak: parameters of the width with the largest gain; None except for PEAKS.
    peaks_at: parameters of the widths that are statistically indistinguishable from it, a 95 % set.
    is_certain: whether there are at least three seeds, three widths and some spread between seeds.
    """

    kind: str = UNKNOWN
    rise: intervals.Mean = intervals.NONE
    p_value: float = math.nan
    rests_on: tuple[int, ...] = ()
    peak: int | None = None
    peaks_at: tuple[int, ...] = ()
    is_certain: bool = False

    @property
    def direction(self) -> int | None:
        """1 where the gain grows, -1 where it shrinks, 0 where neither is shown; None where this is unknown."""
        return {GROWS: 1, SHRINKS: -1, UNKNOWN: None}.get(self.kind, 0)


def verdict(scores: Scores, *, level: float = 0.95) -> Verdict:
    """Decide whether the gain grows with width.

    It grows if the intervals of its weighted slope and of its rise both lie above zero, it is larger at the largest
    width than at the smallest, and the trend does not rest on one width. It shrinks where all of these lie below zero.
    A slope alone would take a gain at the second-largest width only, or one failed small network, for growth.
    It peaks where the set of widths indistinguishable from the best one excludes both the smallest and the largest.

    Cost: a few milliseconds.
    """
    if len(scores.num_params) < 2 or len(scores.seeds) < 2:
        return Verdict()
    slope, rise = slope_of(scores, level=level), rise_of(scores, level=level)
    direction = _direction(scores, slope, rise)
    peaks_at = _peak(scores, level=level)
    rests_on = ()
    kind = PEAKS if peaks_at else NO_TREND
    if direction and not peaks_at:
        rests_on = tuple(
            size
            for index, size in enumerate(scores.num_params)
            if len(scores.num_params) > 2 and _is_needed(scores, index, slope, level=level)
        )
        words = {1: (GROWS, LARGER), -1: (SHRINKS, SMALLER)}[direction]
        kind = words[bool(rests_on)]
    return Verdict(
        kind=kind,
        rise=rise,
        p_value=_p_value(scores, slope, rise),
        rests_on=rests_on,
        peak=scores.num_params[int(scores.gains.mean(axis=1).argmax())] if peaks_at else None,
        peaks_at=peaks_at,
        is_certain=min(len(scores.seeds), len(scores.num_params)) >= 3 and not _is_exact(slope),
    )


def holm(every: Sequence[Scores], *, level: float = 0.95) -> list[Verdict]:
    """Decide for each of several domains; where no domain has a trend, one is reported in 5 % of tables at most.

    The clearest trend is tested at the level 1 - .05 / k, the next at 1 - .05 / (k - 1), and so on up to the first that
    is not shown; k is the number of domains whose verdict is not UNKNOWN.
    Source: Holm (1979), A simple sequentially rejective multiple test procedure.
    """
    alone = [verdict(scores, level=level) for scores in every]
    decidable = [index for index, decision in enumerate(alone) if decision.kind != UNKNOWN]
    # Where seeds agree to the last digit there is no p-value; the sentences qualify such trends.
    order = sorted(decidable, key=lambda index: alone[index].p_value if math.isfinite(alone[index].p_value) else 0.0)
    decided, is_open = list(alone), True
    for rank, index in enumerate(order):
        share = (1 - level) / (len(order) - rank)
        decision = verdict(every[index], level=1 - share)
        is_open = is_open and not alone[index].p_value > share
        is_trend = decision.kind in (GROWS, LARGER, SHRINKS, SMALLER)
        decided[index] = decision if is_open or not is_trend else decision._replace(kind=NO_TREND, rests_on=())
    return decided


def rise_of(scores: Scores, *, level: float = 0.95) -> intervals.Mean:
    """Compute the gain at the largest width minus the weighted mean of the smaller half of the widths."""
    half = len(scores.num_params) // 2
    smaller = np.average(scores.gains[:half], axis=0, weights=scores.weights[:half])
    return intervals.mean(scores.gains[-1] - smaller, level=level, stretch=scores.stretch)


def _is_needed(scores: Scores, width: int, slope: intervals.Mean, *, level: float) -> bool:
    """Whether, without a width, the trend is not shown and less than half of the slope remains.

    Fewer widths make longer intervals, so the first condition alone would hold for most widths of a steady trend, whose
    rise is smaller without one of its ends anyway.
    """
    rest = scores.without(width)
    left = slope_of(rest, level=level)
    return not _direction(rest, left, rise_of(rest, level=level)) and left.mean / slope.mean < _MOST_LEFT


def _direction(scores: Scores, slope: intervals.Mean, rise: intervals.Mean) -> int:
    ends = float(scores.gains[-1].mean() - scores.gains[0].mean())
    if min(slope.low, rise.low, ends) > 0:
        return 1
    return -1 if max(slope.high, rise.high, ends) < 0 else 0


def _peak(scores: Scores, *, level: float) -> tuple[int, ...]:
    (is_in,) = best_sets.best_set(scores.gains.T[None], level=level, stretch=scores.stretch)
    if is_in[0] or is_in[-1]:
        return ()
    return tuple(size for size, is_member in zip(scores.num_params, is_in, strict=True) if is_member)


def _p_value(scores: Scores, slope: intervals.Mean, rise: intervals.Mean) -> float:
    from scipy.special import stdtr

    if slope.mean * rise.mean <= 0:
        return 1.0
    if _is_exact(slope) or _is_exact(rise):
        return math.nan
    ratios = (abs(estimate.mean) / estimate.standard_error / scores.stretch for estimate in (slope, rise))
    return max(float(2 * stdtr(len(scores.seeds) - 1, -ratio)) for ratio in ratios)


def _is_exact(estimate: intervals.Mean) -> bool:
    """Whether all seeds agree to the last digit, as happens with few test examples; this does not mean certainty."""
    return estimate.standard_error <= 1e-12 * abs(estimate.mean)
