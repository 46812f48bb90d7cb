"""Wording of the numbers in an answer: units, intervals, sizes and verdicts."""

import math
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from flatwide.analysis import fields, verdict
from flatwide.analysis.estimates import Estimate
from flatwide.columns import FRACTION_METRICS

if TYPE_CHECKING:
    import pandas as pd

WIDTH, DEPTH, SIZE = "width", "depth", "size"
_DEPTHS = ("num_blocks", "num_layers")


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


def units(runs: "pd.DataFrame", metric: str) -> Units:
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


def what_grows(runs: "pd.DataFrame") -> str:
    """Return what makes the networks of some runs larger: WIDTH, DEPTH, or SIZE where both do."""
    shapes = [name for name in fields.SHAPES if name in runs.columns]
    varying = {name: set(map(str, runs[name].dropna())) for name in shapes}
    growing = set()
    for name, values in varying.items():
        if len(values) < 2:
            continue
        layers = [re.findall(r"\d+", value) for value in values]
        if name in _DEPTHS:
            growing.add(DEPTH)
            continue
        growing |= {DEPTH} if len(set(map(len, layers))) > 1 else set()
        growing |= {WIDTH} if len({tuple(sorted(set(numbers))) for numbers in layers}) > 1 else set()
    return SIZE if len(growing) > 1 else next(iter(growing), WIDTH)


def verb(decided: verdict.Verdict, word: str = WIDTH) -> str:
    """Write the verdict on how a gain depends on size; `word` names what makes networks larger."""
    rests = f"; this rests on the networks with {sizes(decided.rests_on)} parameters"
    seems = "seems to " if decided.is_tentative else ""
    if decided.kind == verdict.PEAKS:
        several = len(decided.peaks_at) > 1
        ends = f" (95 % set {decided.peaks_at[0]:,} to {decided.peaks_at[-1]:,})" if several else ""
        return f"{'seems to peak' if seems else 'peaks'} at {decided.peak:,} parameters{ends}"
    return {
        verdict.GROWS: f"{seems}grow{'' if seems else 's'} with {word}",
        verdict.SHRINKS: f"{seems}shrink{'' if seems else 's'} with {word}",
        verdict.LARGER: f"{'seems to be' if seems else 'is'} larger at large {word}s{rests}",
        verdict.SMALLER: f"{'seems to be' if seems else 'is'} smaller at large {word}s{rests}",
    }.get(decided.kind, f"shows no clear trend with {word}")


def rise(difference: Estimate, units: Units, word: str) -> str:
    """Write how much larger a value is at the largest width than at the smaller half of the widths."""
    reach = units.interval(difference.low, difference.high)
    return f"largest {word} minus the mean of the smaller half: {units.gain(difference.value)}, {reach}"


def sizes(counts: Sequence[int]) -> str:
    """List numbers of parameters."""
    return " and ".join(
        filter(None, [", ".join(f"{size:,}" for size in counts[:-1]), *(f"{size:,}" for size in counts[-1:])])
    )
