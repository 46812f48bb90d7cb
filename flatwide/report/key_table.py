"""A table of text cells for a page, and the formatting of its numbers."""

import math
import re
from typing import Any, NamedTuple

from flatwide.columns import FRACTION_METRICS

Row = dict[str, Any]
_SIZES = re.compile(r"\((\d+,)*\d+,?\)")  # `(300,100)` or `(30,)`, as the results table has them


class KeyTable(NamedTuple):
    """A table of text cells; the first cell of a row is its header.

    caption: a short one for papers, where the title is a question; empty is the title.
    """

    name: str
    title: str
    note: str
    columns: list[str]
    rows: list[list[str]]
    caption: str = ""


class Units(NamedTuple):
    """Formatting of a metric and of gains in it."""

    metric: str  # with its unit, such as "test accuracy (%)"
    unit: str  # of the metric, in parentheses, or empty
    points: str  # of a gain
    factor: float
    digits: int

    def value(self, number: Any, sign: str = "") -> str:
        """Return a value as text, or a dash if it is missing."""
        return "–" if is_missing(number) else format(self.factor * number, f"{sign}.{self.digits}f")

    def gain(self, number: Any) -> str:
        """Return a gain as text with its sign."""
        return self.value(number, "+")

    def interval(self, low: Any, high: Any) -> str:
        """Return the ends of the interval of a gain as text."""
        return "–" if is_missing(low) else f"{self.gain(low)} to {self.gain(high)}"


def units(runs: list[Row], *, metric: str) -> Units:
    """Return the formatting of the metric of some runs: fractions in percent, others unchanged."""
    metric_name = next((str(run["metric_name"]) for run in runs if run.get("metric_name")), "metric")
    title = metric.replace("_", " ").replace("metric", metric_name.replace("_", " "))
    if metric_name in FRACTION_METRICS and not metric.endswith("loss"):
        return Units(metric=f"{title} (%)", unit=" (%)", points=" (points)", factor=100, digits=2)
    return Units(metric=title, unit="", points="", factor=1, digits=4)


def is_missing(value: Any) -> bool:
    """Whether a cell is empty or NaN."""
    return value is None or (isinstance(value, float) and math.isnan(value))


def width_text(value: Any) -> Any:
    """Return a tuple of layer sizes of the results table as `300-100`; any other value unchanged."""
    return "-".join(re.findall(r"\d+", value)) if isinstance(value, str) and _SIZES.fullmatch(value) else value


def rho(value: Any) -> str:
    """Return a radius as text, or a dash if it is missing."""
    return "–" if is_missing(value) else f"{value:g}"
