"""How a metric is written: its name, its unit and its digits."""

import math
from typing import Any, NamedTuple

from flatwide.analysis import fields
from flatwide.columns import FRACTION_METRICS


class Units(NamedTuple):
    """How a metric, and gains in it, are written.

    title: of the metric with its unit, such as "test accuracy (%)". name: as prose calls it.
    """

    title: str
    name: str
    factor: int
    digits: int
    lower_is_better: bool

    @property
    def is_percent(self) -> bool:
        """Whether the metric is a fraction, written as a percentage."""
        return self.factor == 100

    @property
    def value_unit(self) -> str:
        """The unit of values for the heading of a column, with a space before it; empty where the name suffices."""
        return " (%)" if self.is_percent else ""

    @property
    def gain_unit(self) -> str:
        """The unit of gains for the heading of a column, with a space before it."""
        return " (points)" if self.is_percent else ""

    def value(self, number: Any, sign: str = "") -> str:
        """Write a value, or a dash if it is missing."""
        if number is None or (isinstance(number, float) and math.isnan(number)):
            return "–"
        return format(self.factor * number, f"{sign}.{self.digits}f")

    def gain(self, number: Any) -> str:
        """Write a gain with its sign."""
        return self.value(number, "+")

    def interval(self, low: Any, high: Any) -> str:
        """Write the two ends of the interval of a gain."""
        return "–" if self.gain(low) == "–" else f"{self.gain(low)} to {self.gain(high)}"

    def amount(self, gain: float) -> str:
        """Write a gain in prose, positive where SAM is better; for a loss, "less" or "more" replaces the sign."""
        is_unnamed = self.name == "metric"  # "0.1 metric" would say nothing
        if not self.lower_is_better:
            return self.gain(gain) + ("" if is_unnamed else f" {'points' if self.is_percent else self.name}")
        if is_unnamed:
            return f"{self.value(abs(gain))} {'lower' if gain >= 0 else 'higher'}"
        points = "points " if self.is_percent else ""
        return f"{self.value(abs(gain))} {points}{'less' if gain >= 0 else 'more'} {self.name}"

    def change(self, slope: float) -> str:
        """Write a change of a gain in prose, such as its slope."""
        if self.name == "metric":
            return self.gain(slope)
        what = "points" if self.is_percent else ("of " if self.lower_is_better else "") + self.name
        return f"{self.gain(slope)} {what}"


def units(runs: fields.Frame, metric: str) -> Units:
    """Return the units of the metric of some runs."""
    higher = all(runs["higher_is_better"].dropna()) if "higher_is_better" in runs.columns else True
    return units_of(fields.metric_name(runs), metric, lower_is_better=not higher)


def units_of(metric_name: str, metric: str, *, lower_is_better: bool = False) -> Units:
    """Return the units of a column of a metric of this name."""
    is_loss = metric.endswith("loss")
    title = metric.replace("_", " ").replace("metric", metric_name.replace("_", " "))
    name = "loss" if is_loss else metric_name.replace("_", " ")
    if metric_name in FRACTION_METRICS and not is_loss:
        return Units(title=f"{title} (%)", name=name, factor=100, digits=2, lower_is_better=lower_is_better)
    return Units(title=title, name=name, factor=1, digits=4, lower_is_better=is_loss or lower_is_better)
