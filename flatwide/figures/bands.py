"""Bands of a contour plot: levels, their names, and the rectangles of a plane that lie in each."""

import itertools
import math
from collections.abc import Sequence

import numpy as np

from flatwide.figures.drawing import Row

_MOST_BANDS = 9
_LADDERS = ((1, 2, 5), (1,))  # levels within a decade; the finest ladder with few enough bands is used


def levels(losses: np.ndarray) -> list[float]:
    """Choose round levels between the smallest and the largest loss, as fine as the number of bands allows."""
    losses = losses[np.isfinite(losses)]
    least, most = float(losses.min(initial=math.inf)), float(losses.max(initial=0))
    if not 0 < least < most:
        return []
    powers = range(math.floor(math.log10(least)), math.ceil(math.log10(most)) + 1)
    ladders = [[float(f"{step}e{power}") for power in powers for step in steps] for steps in _LADDERS]
    ladders += [[10.0**power for power in powers if power % 2 == 0]]
    inside = [[level for level in ladder if least < level < most] for ladder in ladders]
    return next((levels for levels in inside if len(levels) < _MOST_BANDS), inside[-1])


def names(levels: Sequence[float]) -> list[str]:
    """Name the bands between levels, from the lowest."""
    if not levels:
        return ["all"]
    texts = [f"{level:g}" if 1e-3 <= level < 1e4 else f"1e{round(math.log10(level))}" for level in levels]
    between = [f"{low} to {high}" for low, high in itertools.pairwise(texts)]
    return [f"below {texts[0]}", *between, f"above {texts[-1]}"]


def rectangle(left: float, right: float, bottom: float, top: float) -> Row:
    """Return a row of a rectangle."""
    return {"left": left, "right": right, "bottom": bottom, "top": top}


def rectangles(
    losses: np.ndarray, levels: Sequence[float], names: Sequence[str], *, x: Sequence[float], y: Sequence[float]
) -> list[Row]:
    """List rectangles around the points of a plane, merging neighbours in a row that lie in the same band.

    Args:
      losses: [rows, columns]; what is not a number lies above all levels.
      x, y: borders of the columns and rows.
    """
    band = np.searchsorted(levels, np.where(np.isnan(losses), np.inf, losses), side="right")
    shown = []
    for j, row in enumerate(band):
        starts = [0, *(np.flatnonzero(np.diff(row)) + 1).tolist(), len(row)]
        for start, end in itertools.pairwise(starts):
            shown.append(rectangle(x[start], x[end], y[j], y[j + 1]) | {"loss": names[row[start]]})
    return shown
