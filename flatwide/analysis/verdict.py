"""Whether the gain grows with width, in a word that every interval bears out."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from flatwide.analysis import best_sets, intervals
from flatwide.analysis.trend import Scores, slope_of

GROWS, LARGER, SHRINKS, SMALLER = "grows", "larger", "shrinks", "smaller"
PEAKS, NO_TREND, UNKNOWN = "peaks", "none", ""

_MOST_LEFT = 0.5  # of a slope without a width that it is said to rest on


class Verdict(NamedTuple):
    """What the gain does as networks grow.

    kind: GROWS or SHRINKS; LARGER or SMALLER at large widths, where that rests on one width; PEAKS at a width between
      the ends; NO_TREND where none of these is shown, and UNKNOWN below two widths or seeds.
    rise: the gain at the largest width less the weighted mean of the smaller half, with its interval.
    p_value: of no trend, two-sided: the larger one of the slope and of the rise; 1 where they disagree.
    rests_on: parameters of each width without which the trend is not shown, and less than half of the slope is left.
    peak: parameters of the width with the largest gain; None but for PEAKS.
    peaks_at: those of the widths that cannot be told from it, a 95 % set.
    is_certain: whether there are three seeds, three widths and some spread from seed to seed.
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
        """1 where the gain grows, -1 where it shrinks, 0 where neither is shown; None where nothing is known."""
        return {GROWS: 1, SHRINKS: -1, UNKNOWN: None}.get(self.kind, 0)


def verdict(found: Scores, *, level: float = 0.95) -> Verdict:
    """Decide whether the gain grows with width.

    It grows if the interval of its weighted slope and that of its rise lie above zero, at the largest width it is above
    that of the smallest, and none of it is due to one width. It shrinks where all of that lies below zero. A slope
    alone would take a gain at the second-last width alone, or one ruined small network, for growth.
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
            if len(found.num_params) > 2 and _is_needed(found, index, slope, level=level)
        )
        words = {1: (GROWS, LARGER), -1: (SHRINKS, SMALLER)}[direction]
        kind = words[bool(rests_on)]
    return Verdict(
        kind=kind,
        rise=rise,
        p_value=_p_value(found, slope, rise),
        rests_on=rests_on,
        peak=found.num_params[int(found.gains.mean(axis=1).argmax())] if peaks_at else None,
        peaks_at=peaks_at,
        is_certain=min(len(found.seeds), len(found.num_params)) >= 3 and not _is_exact(slope),
    )


def holm(found: Sequence[Scores], *, level: float = 0.95) -> list[Verdict]:
    """Decide for each of several domains, so that any trend that is not there is seen in 5 % of tables at most.

    The clearest one is decided at the level 1 - .05 / k, the next at 1 - .05 / (k - 1), and so on up to the first that
    shows no trend; k is the number of domains of which something is known.
    Source: Holm (1979), A simple sequentially rejective multiple test procedure.
    """
    alone = [verdict(one, level=level) for one in found]
    known = [index for index, one in enumerate(alone) if one.kind != UNKNOWN]
    # Where seeds agree to the last digit there is no p-value; the sentences say how far that goes.
    order = sorted(known, key=lambda index: alone[index].p_value if math.isfinite(alone[index].p_value) else 0.0)
    decided, is_open = list(alone), True
    for rank, index in enumerate(order):
        share = (1 - level) / (len(order) - rank)
        one = verdict(found[index], level=1 - share)
        is_open = is_open and not alone[index].p_value > share
        is_trend = one.kind in (GROWS, LARGER, SHRINKS, SMALLER)
        decided[index] = one if is_open or not is_trend else one._replace(kind=NO_TREND, rests_on=())
    return decided


def rise_of(found: Scores, *, level: float = 0.95) -> intervals.Mean:
    """Compute how much larger the gain is at the largest width than in the weighted mean of the smaller half."""
    half = len(found.num_params) // 2
    smaller = np.average(found.gains[:half], axis=0, weights=found.weights[:half])
    return intervals.mean(found.gains[-1] - smaller, level=level, stretch=found.stretch)


def _is_needed(found: Scores, width: int, slope: intervals.Mean, *, level: float) -> bool:
    """Whether the trend is not shown without a width, and less than half of the slope is left.

    Fewer widths make longer intervals, so that the first alone would be true of most widths of a steady trend. The rise
    of one is smaller without an end by itself.
    """
    rest = found.without(width)
    left = slope_of(rest, level=level)
    return not _direction(rest, left, rise_of(rest, level=level)) and left.mean / slope.mean < _MOST_LEFT


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
    """Whether all seeds agree to the last digit, as happens with few test examples: that is no certainty."""
    return one.standard_error <= 1e-12 * abs(one.mean)
