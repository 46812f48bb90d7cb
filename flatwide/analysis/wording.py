"""Wording of the numbers in an answer: units, intervals, sizes and verdicts."""

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from flatwide.analysis import fields, gain, verdict
from flatwide.analysis.estimates import Estimate
from flatwide.columns import FRACTION_METRICS

if TYPE_CHECKING:
    import pandas as pd

WIDTH, DEPTH, SIZE = "width", "depth", "size"
_DEPTHS = ("num_blocks", "num_layers")


class Units(NamedTuple):
    """Units of a metric, and how many digits its numbers have."""

    factor: int
    digits: int
    unit: str  # of a difference; "" where the metric's name suffices
    name: str
    lower_is_better: bool

    @property
    def is_percent(self) -> bool:
        """Whether the metric is a fraction, written as a percentage."""
        return self.factor == 100

    def number(self, value: float, sign: str = "+") -> str:
        """Write a number in these units."""
        return f"{self.factor * value:{sign}.{self.digits}f}"

    def amount(self, gain: float) -> str:
        """Write a gain, positive where SAM is better; for a loss, "less" or "more" replaces the sign."""
        if self.name == "metric":  # an unnamed metric: "0.1 metric" would say nothing
            return self.number(gain) if not self.lower_is_better else self._less(gain)
        if not self.lower_is_better:
            return f"{self.number(gain)} {self.unit or self.name}"
        return f"{self.number(abs(gain), '')} {self.unit} {'less' if gain >= 0 else 'more'} {self.name}".replace(
            "  ", " "
        )

    def _less(self, gain: float) -> str:
        return f"{self.number(abs(gain), '')} {'lower' if gain >= 0 else 'higher'}"

    def change(self, slope: float) -> str:
        """Write a change of a gain, such as its slope."""
        if self.name == "metric":
            return self.number(slope)
        return f"{self.number(slope)} {self.unit or ('of ' if self.lower_is_better else '') + self.name}"


def units(runs: "pd.DataFrame", metric: str) -> Units:
    """Return the units of the metric of some runs."""
    name, loss = gain.metric_name(runs), metric.endswith("loss")
    lower = loss or not all(runs["higher_is_better"].dropna())
    if name in FRACTION_METRICS and not loss:
        return Units(factor=100, digits=2, unit="points", name=name, lower_is_better=lower)
    return Units(factor=1, digits=3, unit="", name="loss" if loss else name.replace("_", " "), lower_is_better=lower)


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
    seems = "" if decided.is_certain else "seems to "
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
    reach = ends(difference.low, difference.high, units)
    return f"largest {word} minus the mean of the smaller half: {units.number(difference.value)}, {reach}"


def ends(low: float, high: float, units: Units) -> str:
    """Write the two ends of an interval."""
    return f"{units.number(low)} to {units.number(high)}"


def sizes(counts: Sequence[int]) -> str:
    """List numbers of parameters."""
    return " and ".join(
        filter(None, [", ".join(f"{size:,}" for size in counts[:-1]), *(f"{size:,}" for size in counts[-1:])])
    )
