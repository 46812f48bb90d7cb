"""A table of a page that is read, and how its numbers are written."""

import math
from typing import Any, NamedTuple

from flatwide.columns import FRACTION_METRICS

Row = dict[str, Any]


class KeyTable(NamedTuple):
    """A table that is read, not sorted: every cell is text, and the first of a row is its name."""

    name: str
    title: str
    note: str
    columns: list[str]
    rows: list[list[str]]


class Units(NamedTuple):
    """How a metric is written."""

    metric: str  # with its unit, such as "test accuracy (%)"
    unit: str  # of the metric, in brackets, or nothing
    points: str  # of a gain
    factor: float
    digits: int

    def value(self, number: Any, sign: str = "") -> str:
        """Write a value, or a dash where there is none."""
        return "–" if is_missing(number) else format(self.factor * number, f"{sign}.{self.digits}f")

    def gain(self, number: Any) -> str:
        """Write a gain with its sign."""
        return self.value(number, "+")

    def interval(self, low: Any, high: Any) -> str:
        """Write the ends of the interval of a gain."""
        return "–" if is_missing(low) else f"{self.gain(low)} to {self.gain(high)}"


def units(runs: list[Row], *, metric: str) -> Units:
    """Tell how the metric of some runs is written: fractions in percent, others as they are."""
    name = next((str(run["metric_name"]) for run in runs if run.get("metric_name")), "metric")
    title = metric.replace("_", " ").replace("metric", name.replace("_", " "))
    if name in FRACTION_METRICS and not metric.endswith("loss"):
        return Units(metric=f"{title} (%)", unit=" (%)", points=" (points)", factor=100, digits=2)
    return Units(metric=title, unit="", points="", factor=1, digits=4)


def is_missing(value: Any) -> bool:
    """Whether a cell is empty, or no number."""
    return value is None or (isinstance(value, float) and math.isnan(value))


def rho(value: Any) -> str:
    """Write a radius, or a dash where there is none."""
    return "–" if is_missing(value) else f"{value:g}"
