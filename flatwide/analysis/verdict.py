"""Verdicts on whether the gain grows with width, each supported by all of its intervals."""

import math
from collections.abc import Sequence
from typing import NamedTuple

from flatwide.analysis import best_sets, estimates
from flatwide.analysis.estimates import NONE, Estimate, Scores

GROWS, LARGER, SHRINKS, SMALLER = "grows", "larger", "shrinks", "smaller"
PEAKS, NO_TREND, UNKNOWN = "peaks", "none", ""

_MOST_LEFT = 0.5  # share of the slope that may remain without a width for the trend to rest on that width


class Verdict(NamedTuple):
    """The verdict on how the gain changes as networks grow.

    kind: GROWS or SHRINKS; LARGER or SMALLER at large widths, where the trend rests on one width; PEAKS at a width
      between the ends; NO_TREND where none of these is shown, and UNKNOWN below two widths or seeds.
    rise: the gain at the largest width minus the mean of the smaller half, with its interval.
    p_value: two-sided, of no trend: the larger of those of the slope and of the rise; 1 where these disagree in sign.
    rests_on: parameters of each width without which the trend is not shown and less than half of the slope remains.
    peak: parameters of the width with the largest gain; None except for PEAKS.
    peaks_at: parameters of the widths that are statistically indistinguishable from it, a 95 % set.
    is_certain: whether there are at least three seeds, three widths and some spread between seeds.
    is_exact: whether all seeds agree to the last digit, so that there is no spread to judge a trend by.
    """

    kind: str = UNKNOWN
    rise: Estimate = NONE
    p_value: float = math.nan
    rests_on: tuple[int, ...] = ()
    peak: int | None = None
    peaks_at: tuple[int, ...] = ()
    is_certain: bool = False
    is_exact: bool = False

    @property
    def is_tentative(self) -> bool:
        """Whether few seeds or widths support a trend; where seeds agree to the last digit, that is said instead."""
        return not self.is_certain and not self.is_exact

    @property
    def direction(self) -> int | None:
        """1 where the gain grows, -1 where it shrinks, 0 where neither is shown; None where this is unknown."""
        return {GROWS: 1, SHRINKS: -1, UNKNOWN: None}.get(self.kind, 0)


def verdict(scores: Scores, *, level: float | None = None) -> Verdict:
    """Decide whether the gain grows with width.

    It grows if the intervals of its slope and of its rise both lie above zero, it is larger at the largest
    width than at the smallest, and the trend does not rest on one width. It shrinks where all of these lie below zero.
    A slope alone would take a gain at the second-largest width only, or one failed small network, for growth.
    It peaks where the set of widths indistinguishable from the best one excludes both the smallest and the largest.
    """
    if not estimates.span(scores.num_params) or len(scores.seeds) < 2:
        return Verdict()
    level = level or scores.level
    slope, rise = estimates.slope(scores, level=level), estimates.rise(scores, level=level)
    direction = _direction(scores, slope, rise)
    peaks_at = _peak(scores, level=level)
    rests_on = ()
    kind = PEAKS if peaks_at else NO_TREND
    if direction and not peaks_at:
        needed = enumerate(scores.num_params if len(scores.num_params) > 2 else ())
        rests_on = tuple(size for index, size in needed if _is_needed(scores, index, slope, level=level))
        kind = {1: (GROWS, LARGER), -1: (SHRINKS, SMALLER)}[direction][bool(rests_on)]
    return Verdict(
        kind=kind,
        rise=rise,
        p_value=1.0 if slope.value * rise.value <= 0 else max(slope.p_value, rise.p_value),
        rests_on=rests_on,
        peak=scores.num_params[int(scores.values.mean(axis=1).argmax())] if peaks_at else None,
        peaks_at=peaks_at,
        is_certain=min(len(scores.seeds), len(scores.num_params)) >= 3 and not slope.is_exact,
        is_exact=slope.is_exact,
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


def _is_needed(scores: Scores, width: int, slope: Estimate, *, level: float) -> bool:
    """Whether, without a width, the trend is not shown and less than half of the slope remains."""
    # Fewer widths make longer intervals, so the first condition alone would hold for most widths of a steady trend,
    # whose rise is smaller without one of its ends anyway.
    rest = scores.only([index for index in range(len(scores.num_params)) if index != width])
    left = estimates.slope(rest, level=level)
    return not _direction(rest, left, estimates.rise(rest, level=level)) and left.value / slope.value < _MOST_LEFT


def _direction(scores: Scores, slope: Estimate, rise: Estimate) -> int:
    ends = float(scores.values[-1].mean() - scores.values[0].mean())
    return slope.sign if slope.sign == rise.sign and slope.sign * ends > 0 else 0


def _peak(scores: Scores, *, level: float) -> tuple[int, ...]:
    (is_in,) = best_sets.best_set(scores.values.T[None], level=level, stretch=scores.stretch)
    if is_in[0] or is_in[-1]:
        return ()
    return tuple(size for size, is_member in zip(scores.num_params, is_in, strict=True) if is_member)
