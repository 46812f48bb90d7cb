"""Axes that several figures share."""

import itertools
import math
from collections.abc import Iterable, Sequence
from typing import Any

from flatwide.figures.labels import label

_MOST_TICKS = 7
_MARGIN = 12  # pixels: more than the radius of a mark
# Multiples of every so many powers of ten, from many ticks to few.
_LADDERS: tuple[tuple[Sequence[int], int], ...] = (((1, 2, 5), 1), *(((1,), step) for step in (1, 2, 3, 5, 10)))


def epochs(values: Iterable[float]) -> Any:
    """Return the horizontal axis of epochs, with ticks at whole epochs if at least two of them are in range.

    Args:
      values: epochs that the chart shows.
    """
    import altair as alt

    values = list(values)
    first, last = math.ceil(min(values, default=0)), math.floor(max(values, default=0))
    ticks: dict[str, Any] = {"tickCount": 6}
    if last > first:
        # Vega's `tickMinStep` allows halves: the least round step with few ticks.
        steps = (multiple * 10**power for power in itertools.count() for multiple in (1, 2, 5))
        step = next(step for step in steps if (last - first) // step < _MOST_TICKS)
        ticks = {"values": list(range(-(-first // step) * step, last + 1, step)), "format": ",d"}
    axis = alt.Axis(grid=False, **ticks)
    return alt.X("epoch:Q", title=label("epoch"), scale=alt.Scale(nice=False), axis=axis)


def log_axis(values: Iterable[float], **options: Any) -> Any:
    """Return a logarithmic axis with a few round ticks, such as 1, 2, 5, 10 or powers of ten; a grid line at each.

    Args:
      values: values that the axis shows; only positive, finite ones count.
      options: of altair's axis.
    """
    import altair as alt

    shown = [value for value in values if 0 < value < math.inf]
    low, high = min(shown, default=1), max(shown, default=1)
    every = round_numbers(low, high, most=_MOST_TICKS)
    inside = [tick for tick in every if low <= tick <= high]
    # In less than a factor of three there may be one round number only: then the renderer chooses.
    ticks: dict[str, Any] = {"values": every} if len(inside) > 1 else {"tickCount": 4}
    return alt.Axis(**{**options, **ticks, "format": ",~g"})


def round_numbers(low: float, high: float, *, most: int) -> list[float]:
    """Return round numbers around two positive ones, such as 1, 2, 5, 10 or powers of ten, few of them between.

    Args:
      most: as many as possible lie between, but no more than this.
    """
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    every: list[float] = []
    for multiples, step in _LADDERS:
        every = [float(f"{multiple}e{power}") for power in powers if power % step == 0 for multiple in multiples]
        if sum(low <= number <= high for number in every) <= most:
            break
    return every


def scaled(values: Iterable[float] = (), *, log_from: float = math.inf, **options: Any) -> dict[str, Any]:
    """Return scale and ticks of an axis, as arguments of its channel; a margin keeps points off the frame of the plot.

    Args:
      values: values that the axis shows.
      log_from: a logarithmic axis is for positive values that span more than this factor.
      options: of altair's axis.
    """
    import altair as alt

    values = list(values)
    if min(values, default=0) > 0 and log_from * min(values) < max(values):
        return {"scale": alt.Scale(type="log", nice=False, padding=_MARGIN), "axis": log_axis(values, **options)}
    scale = alt.Scale(zero=False, nice=False, padding=_MARGIN)
    return {"scale": scale, "axis": alt.Axis(**{"tickCount": 6, **options})}
