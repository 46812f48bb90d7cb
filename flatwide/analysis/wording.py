"""How the numbers of an answer read: units, intervals, sizes, and what a gain does with them."""

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from flatwide.analysis import fields, gain, intervals
from flatwide.analysis import verdict as verdicts
from flatwide.columns import FRACTION_METRICS

if TYPE_CHECKING:
    import pandas as pd

WIDTH, DEPTH, SIZE = "width", "depth", "size"
_DEPTHS = ("num_blocks", "num_layers")


class Units(NamedTuple):
    """How the numbers of a metric read."""

    factor: int
    digits: int
    unit: str  # of a difference; "" where the metric's name is enough
    name: str
    lower_is_better: bool

    @property
    def is_percent(self) -> bool:
        """Whether the metric is a fraction, written in percent."""
        return self.factor == 100

    def number(self, value: float, sign: str = "+") -> str:
        """Write a number in these units."""
        return f"{self.factor * value:{sign}.{self.digits}f}"

    def amount(self, gain: float) -> str:
        """Write a gain, positive where SAM is better: less of what should be low."""
        if self.name == "metric":  # it has no name of its own, and "0.1 metric" says nothing
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
    """Name what makes the networks of some runs larger: WIDTH, DEPTH, or SIZE where both do."""
    shapes = [name for name in fields.SHAPES if name in runs.columns]
    varying = {name: set(map(str, runs[name].dropna())) for name in shapes}
    found = set()
    for name, values in varying.items():
        if len(values) < 2:
            continue
        layers = [re.findall(r"\d+", value) for value in values]
        if name in _DEPTHS:
            found.add(DEPTH)
            continue
        found |= {DEPTH} if len(set(map(len, layers))) > 1 else set()
        found |= {WIDTH} if len({tuple(sorted(set(one))) for one in layers}) > 1 else set()
    return SIZE if len(found) > 1 else next(iter(found), WIDTH)


def verb(decided: verdicts.Verdict, word: str = WIDTH) -> str:
    """Write what a gain does with size, `word` being what makes the size."""
    rests = f"; this rests on {sizes(decided.rests_on)} parameters"
    seems = "" if decided.is_certain else "seems to "
    if decided.kind == verdicts.PEAKS:
        several = len(decided.peaks_at) > 1
        ends = f" (95 % set {decided.peaks_at[0]:,} to {decided.peaks_at[-1]:,})" if several else ""
        return f"{'seems to peak' if seems else 'peaks'} at {decided.peak:,} parameters{ends}"
    return {
        verdicts.GROWS: f"{seems}grow{'' if seems else 's'} with {word}",
        verdicts.SHRINKS: f"{seems}shrink{'' if seems else 's'} with {word}",
        verdicts.LARGER: f"{'seems to be' if seems else 'is'} larger at large {word}s{rests}",
        verdicts.SMALLER: f"{'seems to be' if seems else 'is'} smaller at large {word}s{rests}",
    }.get(decided.kind, f"shows no clear trend with {word}")


def rise(found: intervals.Mean, units: Units, word: str) -> str:
    """Write how much larger something is at the largest width."""
    reach = ends(found.low, found.high, units)
    return f"largest {word} less the smaller half {units.number(found.mean)}, {reach}"


def ends(low: float, high: float, units: Units) -> str:
    """Write the ends of an interval."""
    return f"{units.number(low)} to {units.number(high)}"


def sizes(counts: Sequence[int]) -> str:
    """List numbers of parameters."""
    return " and ".join(
        filter(None, [", ".join(f"{size:,}" for size in counts[:-1]), *(f"{size:,}" for size in counts[-1:])])
    )
