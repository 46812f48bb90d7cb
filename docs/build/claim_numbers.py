"""The numbers behind docs/claims.md: committed tables of the studies, slopes, intervals and verdicts.

Not a program.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from result_tables import decimal

from flatwide.analysis import estimates
from flatwide.analysis.estimates import Estimate

HOLDS, FAILS, OPEN = "holds", "does not", "not decided"
NEAR_ZERO = 0.5  # points: a gain whose interval lies within is near zero


class Evidence(NamedTuple):
    """The evidence of one study about a claim.

    page: its path from docs/. data: data and networks. number: the number, with its interval.
    """

    page: str
    data: str
    number: str
    verdict: str


def verdict_of(low: float, high: float, *, positive: bool = True) -> str:
    """Return the verdict on a claim that a number is positive, or negative: open where its interval contains zero."""
    if math.isnan(low) or low <= 0 <= high:
        return OPEN
    return HOLDS if (low > 0) == positive else FAILS


def near_zero(low: float, high: float, *, margin: float = NEAR_ZERO) -> str:
    """Return the verdict on a claim that a number is near zero, by its whole interval."""
    if -margin <= low and high <= margin:
        return HOLDS
    return FAILS if low > margin or high < -margin else OPEN


def all_hold(kinds: Sequence[str]) -> str:
    """Join the verdicts on the parts of a claim: it holds where each does, and does not where any does not."""
    return FAILS if FAILS in kinds else OPEN if OPEN in kinds else HOLDS


def interval(estimate: Estimate, unit: str, *, digits: int = 2) -> str:
    """Write a number with its 95 % interval; no unit is that of the table."""
    mean, low, high = (decimal(value, digits=digits) for value in (estimate.value, estimate.low, estimate.high))
    return f"{mean} {unit}{' ' if unit else ''}({low} to {high})"


def log_slope(rows: pd.DataFrame, along: str, *, is_size: bool) -> Estimate:
    """Average the slopes of lines through the logarithm of each seed's measurements, of seeds with all of them.

    Args:
      rows: of a table of measurements. along: its column of positions. is_size: whether to take their log10.
    """
    wide = rows.pivot(index=along, columns="seed", values="value").dropna(axis="columns")
    positions = wide.index.to_numpy(dtype=float)
    positions = np.log10(positions) if is_size else positions
    centered = positions - positions.mean()
    return estimates.mean((centered @ np.log(wide.to_numpy()) / (centered @ centered)).tolist())


def factor(estimate: Estimate, words: str) -> str:
    """Write a mean logarithm as a factor with its 95 % interval."""
    words = f"{words} " if words else ""
    return f"×{math.exp(estimate.value):.3g} {words}({math.exp(estimate.low):.3g} to {math.exp(estimate.high):.3g})"
