"""The numbers behind docs/claims.md: committed tables of the studies, slopes, intervals and verdicts.

Not a program: `claims.py` writes the page.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from result_tables import TABLES

from flatwide.analysis import intervals

HOLDS, FAILS, OPEN = "holds", "does not", "not decided"
NEAR_ZERO = 0.5  # points: a gain whose interval lies within is near zero


class Evidence(NamedTuple):
    """The evidence of one study about a claim.

    page: its path from docs/. data: data and networks. number: the number, with its interval. command: that trained its
    runs.
    """

    page: str
    data: str
    number: str
    verdict: str
    command: str


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


def table(folder: str, name: str = "summary.csv") -> pd.DataFrame:
    """Read a committed table."""
    return pd.read_csv(TABLES / folder / name)


def mean_slope(values_by_position: Mapping[float, Mapping[Any, float]]) -> intervals.Mean:
    """Average the slopes of lines through each seed that every position has, from position -> seed -> value."""
    positions = np.array(list(values_by_position), dtype=float)
    centered = positions - positions.mean()
    seeds = sorted(set.intersection(*(set(values) for values in values_by_position.values())))
    lines = [np.array([values[seed] for values in values_by_position.values()]) for seed in seeds]
    return intervals.mean([float(centered @ line / (centered @ centered)) for line in lines])


def interval(estimate: intervals.Mean, unit: str, *, digits: int = 2) -> str:
    """Write a number with its 95 % interval."""
    mean, low, high = (signed(value, digits=digits) for value in (estimate.mean, estimate.low, estimate.high))
    return f"{mean} {unit} ({low} to {high})"


def signed(value: float, *, digits: int = 2) -> str:
    """Write a number with its sign, as in the pages."""
    return f"{value:+.{digits}f}".replace("-", "−")


def measured(folder: str, name: str, quantity: str, **where: Any) -> pd.DataFrame:
    """Select rows of a committed table of measurements."""
    rows = table(folder, name)
    for column, value in (("quantity", quantity), *where.items()):
        rows = rows[rows[column] == value]
    return rows


def by_position(rows: pd.DataFrame, along: str, *, is_size: bool) -> dict[float, dict[int, float]]:
    """Arrange logarithms of measurements: position -> seed -> value."""
    values_by_position: dict[float, dict[int, float]] = {}
    for row in rows.sort_values(along).to_dict("records"):
        position = math.log10(row[along]) if is_size else row[along]
        values_by_position.setdefault(position, {})[int(row["seed"])] = math.log(row["value"])
    return values_by_position


def factor(estimate: intervals.Mean, words: str) -> str:
    """Write a mean logarithm as a factor with its 95 % interval."""
    return f"×{math.exp(estimate.mean):.3g} {words} ({math.exp(estimate.low):.3g} to {math.exp(estimate.high):.3g})"
