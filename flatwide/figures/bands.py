"""Bands of a contour plot: levels, their names, and the rectangles of a plane that lie in each."""

import itertools
import math
from collections.abc import Sequence

import numpy as np

from flatwide.figures import axes
from flatwide.figures.drawing import Row

_MOST_LEVELS = 9  # a legend of ten bands is as high as its panel


def levels(losses: np.ndarray) -> list[float]:
    """Choose round levels between the smallest and the largest loss, as fine as their number allows."""
    losses = losses[np.isfinite(losses)]
    least, most = float(losses.min(initial=math.inf)), float(losses.max(initial=0))
    if not 0 < least < most:
        return []
    return [level for level in axes.round_numbers(least, most, most=_MOST_LEVELS) if least < level < most]


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
