"""Lines over sizes: each seed a dot, means with their intervals joined, and what others have found as hollow points."""

import math
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from flatwide.analysis import intervals
from flatwide.figures.labels import label
from flatwide.figures.style import GREY, styled

if TYPE_CHECKING:
    import altair as alt

PAPER = "paper (Shin et al. 2025)"
_TOOLTIPS = {"run": "run", "rho": "ρ", "seed": "seed", "count": "number of seeds"}


class Line(NamedTuple):
    """One line of a figure.

    dots: one a seed: `x`, `value`, and what a tooltip tells (`run`, `rho`, `seed`); or one for `count` seeds.
    means: `x`, `mean`, and where there is an interval `low` and `high`; None is the mean and t interval of the dots.
    """

    name: str
    color: str
    dots: list[dict[str, Any]]
    means: list[dict[str, Any]] | None = None
    is_hollow: bool = False  # points without a line, from elsewhere


class Across(NamedTuple):
    """The horizontal axis: its column, and its values from left to right."""

    column: str
    values: list[Any]

    @property
    def is_log(self) -> bool:
        """Tell whether it is a logarithmic axis; the others set each value apart by the same step."""
        return self.column.startswith("num_") and len(self.values) > 1 and min(self.values) > 0

    def encode(self) -> "alt.X":
        """Give its channel of a chart."""
        import altair as alt

        if self.is_log:
            ticks = alt.Axis(values=self.values, format=".3~s", grid=False, labelOverlap="greedy", labelSeparation=8)
            return alt.X(
                "x:Q", title=label(self.column), scale=alt.Scale(type="log", nice=False, padding=24), axis=ticks
            )
        return self.encode_ordinal()

    def encode_ordinal(self) -> "alt.X":
        """Give its channel of a chart that sets each value apart by the same step."""
        import altair as alt

        title, counts = label(self.column), self.column.startswith("num_")
        ticks = alt.Axis(labelAngle=0, grid=False, labelOverlap="greedy", **({"format": ".3~s"} if counts else {}))
        return alt.X("x:O", title=title, sort=self.values, axis=ticks)

    def step(self, width: int) -> float:
        """Give the least distance of two values in a panel of so many pixels."""
        if not self.is_log:
            return width / max(len(self.values), 1)
        places = [math.log(value) for value in self.values]
        gaps = [b - a for a, b in zip(places, places[1:], strict=False)]
        return (width - 48) * min(gaps) / (places[-1] - places[0])


class Panel(NamedTuple):
    """One plot of a figure: its lines, and a title where there are several plots."""

    title: str
    lines: list[Line]


def figure(
    panels: Sequence[Panel],
    *,
    name: str,
    title: str,
    across: Across,
    y: "alt.Y",
    subtitle: str = "small dots: each seed; large points and bars: mean and 95 % t interval of {seeds}",
    note: str = "",
    has_zero: bool = False,
    interactive: bool = False,
) -> Any:
    """Put panels side by side, with one legend, and a subtitle that says what dots and bars are.

    Args:
      name: begins the name of everything inside, so that several figures can share a page.
      subtitle: what dots, points and bars are; `{seeds}` becomes their number.
      note: one more line below the title.
      has_zero: draw the line of zero.
      interactive: add tooltips, and a legend whose entries hide their series.
    """
    import altair as alt

    size = (560, 320) if len(panels) == 1 else (300, 200)
    if not across.is_log and len(panels) == 1:
        size = (min(560, 150 + 90 * len(across.values)), 320)
    entries = {line.name: GREY if line.is_hollow else line.color for panel in panels for line in panel.lines}
    legend = alt.Legend() if len(entries) > 1 else None
    scale = alt.Scale(domain=list(entries), range=list(entries.values()))
    color = alt.Color("of:N", scale=scale, legend=legend)
    hide = alt.selection_point(name=f"{name}_hidden", fields=["of"], bind="legend", toggle="true")
    charts = []
    for place, panel in enumerate(panels):
        layers = [_zero(f"{name}_{place}_zero")] if has_zero else []
        drawn = _layers(panel.lines, f"{name}_{place}", across, size[0], y, color, hide if interactive else None)
        if interactive and legend is not None and drawn and not charts:
            drawn[0] = drawn[0].add_params(hide)
        chart = alt.LayerChart(layer=[*layers, *drawn], width=size[0], height=size[1])
        charts.append(chart.properties(title=alt.Title(panel.title, fontSize=14)) if len(panels) > 1 else chart)
    heading = alt.Title(title, subtitle=[_seeds(panels, subtitle), *filter(None, [note])])
    if len(charts) == 1:
        return styled(charts[0].properties(title=heading))
    whole = alt.ConcatChart(concat=charts, columns=2, title=heading).resolve_scale(color="shared", y="shared")
    return styled(whole)


def means(dots: list[dict[str, Any]], values: Sequence[Any]) -> list[dict[str, Any]]:
    """Summarize the dots of each place; one alone has no interval."""
    rows = []
    for value in values:
        here = [dot["value"] for dot in dots if dot["x"] == value]
        found = intervals.mean(here)._asdict()
        if here:
            rows.append({"x": value} | {k: v for k, v in found.items() if math.isfinite(v)})
    return rows


def _zero(name: str) -> "alt.Chart":
    import altair as alt

    zero = alt.Chart(alt.Data(values=[{"value": 0}]), name=name)
    return zero.mark_rule(color=GREY, strokeDash=[5, 4]).encode(y="value:Q")


def _layers(
    lines: Sequence[Line], name: str, across: Across, width: int, y: "alt.Y", color: "alt.Color", hide: Any
) -> list[Any]:
    """Draw every seed as a dot, and means with their intervals, joined by a line."""
    import altair as alt

    own = [line for line in lines if not line.is_hollow]
    between = min(10.0, 0.7 * across.step(width) / max(len(own), 1))
    x, layers = across.encode(), []

    def opacity(value: float) -> dict[str, Any]:
        return (
            {}
            if hide is None
            else {"opacity": alt.when(hide, empty=False).then(alt.value(0)).otherwise(alt.value(value))}
        )

    def plain(value: float) -> dict[str, Any]:
        return {"opacity": value} if hide is None else {}

    for place, line in enumerate(own):
        shift = round(between * (place - (len(own) - 1) / 2), 1)
        aside = shift + (math.copysign(min(9.0, 0.9 * between), shift) if len(own) < 3 else 0)
        stem = f"{name}_{place}"
        dots = alt.Chart(_data(line.dots, line.name), name=f"{stem}_seeds")
        averages = line.means if line.means is not None else means(line.dots, across.values)
        center = alt.Chart(_data(averages, line.name))
        counted = any("count" in dot for dot in line.dots)  # a dot may stand for several seeds
        size = {} if counted else {"size": 26}
        sized = {"size": alt.Size("area:Q", scale=None)} if counted else {}
        if counted:
            dots = dots.transform_calculate(area="26 * datum.count")
        tips = {} if hide is None else {"tooltip": _tooltips(line, across, y)}
        layers += [
            dots.mark_circle(**size, xOffset=aside, **plain(0.45)).encode(
                x=x, y=y, color=color, **opacity(0.45), **sized, **tips
            ),
            center.properties(name=f"{stem}_line")
            .mark_line(strokeWidth=2, xOffset=shift)
            .encode(x=x, y=alt.Y("mean:Q"), color=color, **opacity(1)),
            center.properties(name=f"{stem}_interval")
            .transform_filter("isValid(datum.low)")
            .mark_rule(strokeWidth=2, xOffset=shift)
            .encode(x=x, y=alt.Y("low:Q"), y2="high:Q", color=color, **opacity(1)),
            center.properties(name=f"{stem}_means")
            .mark_point(size=70, filled=True, xOffset=shift, **plain(1))
            .encode(x=x, y=alt.Y("mean:Q"), color=color, **opacity(1)),
        ]
    for place, line in enumerate(line for line in lines if line.is_hollow):
        rows = [{"x": row["x"], "value": row["mean"]} for row in line.means or []]
        layers += [
            alt.Chart(_data(rows, line.name), name=f"{name}_hollow{place}")
            .mark_point(size=75, filled=False, strokeWidth=1.8, shape="diamond", stroke=line.color, **plain(1))
            .encode(
                x=x, y=y, detail="of:N", **opacity(1), **({} if hide is None else {"tooltip": ["of:N", "value:Q"]})
            ),
        ]
    return layers


def _data(rows: list[dict[str, Any]], name: str) -> Any:
    """Inline rows, with six digits, which are more than a screen shows."""
    import altair as alt

    short = [{k: float(f"{v:.6g}") if isinstance(v, float) else v for k, v in row.items()} for row in rows]
    return alt.Data(values=[row | {"of": name} for row in short])


def _tooltips(line: Line, across: Across, y: "alt.Y") -> list[Any]:
    import altair as alt

    known = [name for name in _TOOLTIPS if any(name in dot for dot in line.dots)]
    shown = [alt.Tooltip(f"{name}:N", title=_TOOLTIPS[name]) for name in known]
    size = alt.Tooltip("x:Q", title=label(across.column), format=",") if across.is_log else None
    size = size or alt.Tooltip("x:N", title=label(across.column))
    value = alt.Tooltip("value:Q", title=y.to_dict()["title"], format=".4~g")
    return [alt.Tooltip("of:N", title="series"), *shown, size, value]


def _num_seeds(line: Line) -> Counter:
    """Count the seeds at each place."""
    found: Counter = Counter()
    for dot in line.dots:
        found[dot["x"]] += dot.get("count", 1)
    return found


def _seeds(panels: Sequence[Panel], subtitle: str) -> str:
    """Say what dots and bars are, and of how many seeds."""
    own = [line for panel in panels for line in panel.lines if not line.is_hollow]
    counts = [count for line in own for count in _num_seeds(line).values()]
    if not counts:
        return "no seed is done yet"
    if max(counts) == 1:
        return "one seed at each place, so there is no interval"
    least, most = min(counts), max(counts)
    return subtitle.format(seeds=f"{most} seeds" if least == most else f"{least} to {most} seeds")
