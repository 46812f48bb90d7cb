"""Means over a few seeds, with standard errors and confidence intervals."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np


class Mean(NamedTuple):
    """A mean over seeds with its Student's t interval; the last three are NaN for fewer than two seeds."""

    mean: float
    standard_error: float
    low: float
    high: float


NONE = Mean(math.nan, math.nan, math.nan, math.nan)


def mean(values: Sequence[float] | np.ndarray, *, level: float = 0.95, stretch: float = 1.0) -> Mean:
    """Compute the mean of independent values, its standard error and its t interval.

    Args:
      values: [n], one for each seed.
      level: coverage of the interval for normal values.
      stretch: factor of its length, for values that are not fully independent.
    Equation: standard_error = s / sqrt(n), s with n - 1 in its denominator; mean -/+ stretch t standard_error
      with t the (1 + level) / 2 quantile of Student's t with n - 1 degrees of freedom.
    """
    from scipy.special import stdtrit  # scipy.stats has the same, but takes a second to import

    n = len(values)
    center = float(np.mean(values)) if n else math.nan
    if n < 2:
        return Mean(center, math.nan, math.nan, math.nan)
    error = float(np.std(values, ddof=1)) / math.sqrt(n)
    reach = stretch * float(stdtrit(n - 1, (1 + level) / 2)) * error
    return Mean(center, error, center - reach, center + reach)


def sidak(count: int, *, level: float = 0.95) -> float:
    """Return the level of each of `count` independent intervals at which all cover jointly at `level`."""
    return level ** (1 / max(count, 1))
