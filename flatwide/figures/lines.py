"""Lines against size: a dot per seed, joined means with intervals, and published values as hollow points."""

import itertools
import math
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from flatwide.analysis import estimates
from flatwide.figures.labels import label, num_seeds
from flatwide.figures.style import GREY, finish

if TYPE_CHECKING:
    import altair as alt

PAPER = "paper (Shin et al. 2025)"
NO_INTERVAL = "one seed: no interval"
_TOOLTIPS = {"run": "run", "rho": "ρ", "seed": "seed", "count": "number of seeds"}


class Line(NamedTuple):
    """Line of a figure.

    dots: one per seed: `x`, `value`, and the tooltip's `run`, `rho`, `seed`; or one for `count` seeds.
    means: `x`, `mean`, and for an interval `low` and `high`; None is the mean and t interval of the dots.
    """

    name: str
    color: str
    dots: list[dict[str, Any]]
    means: list[dict[str, Any]] | None = None
    is_hollow: bool = False  # published values: points without a line


class Across(NamedTuple):
    """Horizontal axis: its column, and its values from left to right."""

    column: str
    values: list[Any]

    @property
    def is_log(self) -> bool:
        """Whether the axis is logarithmic; otherwise its values are equally spaced."""
        return self.column.startswith("num_") and len(self.values) > 1 and min(self.values) > 0

    def encode(self) -> "alt.X":
        """Return its encoding channel."""
        import altair as alt

        if self.is_log:
            # A ratio below 1 is printed as 0.5, not as 500m.
            number = ".3~s" if min(self.values) >= 1 else ".3~g"
            ticks = alt.Axis(values=self.values, format=number, grid=False, labelOverlap="greedy", labelSeparation=8)
            return alt.X(
                "x:Q", title=label(self.column), scale=alt.Scale(type="log", nice=False, padding=24), axis=ticks
            )
        return self.encode_ordinal()

    def encode_ordinal(self) -> "alt.X":
        """Return its encoding channel with equally spaced values."""
        import altair as alt

        title, counts = label(self.column), self.column.startswith("num_")
        # Sparsities are ratios of counts; radii are printed as they were given.
        number = ".3~s" if counts else ".3~r" if self.column == "sparsity" else ",~r"
        ticks = alt.Axis(labelAngle=0, grid=False, labelOverlap="greedy", format=number)
        return alt.X("x:O", title=title, sort=self.values, axis=ticks)

    def step(self, width: int) -> float:
        """Return the smallest distance between two values, in pixels, in a panel of this width."""
        if not self.is_log:
            return width / max(len(self.values), 1)
        logarithms = [math.log(value) for value in self.values]
        gaps = [b - a for a, b in itertools.pairwise(logarithms)]
        return (width - 48) * min(gaps) / (logarithms[-1] - logarithms[0])


class Panel(NamedTuple):
    """Plot of a figure: its lines, its title if there are several plots, and axes that differ from the figure's."""

    title: str
    lines: list[Line]
    across: Across | None = None
    y: "alt.Y | None" = None


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
    """Draw panels side by side, with one legend, and a subtitle that explains dots and bars.

    Args:
      name: prefix of all names inside the chart, so that several figures can share a page.
      subtitle: meaning of dots, points and bars; `{seeds}` is replaced by their number.
      note: second line of the subtitle.
      has_zero: draw a line at zero.
      interactive: add tooltips, and a legend whose entries hide their series.
    """
    import altair as alt

    size = (560, 320) if len(panels) == 1 else (300, 200)
    if not across.is_log and len(panels) == 1:
        size = (min(560, 150 + 90 * len(across.values)), 320)
    every = sorted((line for panel in panels for line in panel.lines), key=lambda line: line.is_hollow)
    entries = {line.name: GREY if line.is_hollow else line.color for line in every}
    columns = 3 if max(map(len, entries), default=0) <= 28 else 2
    legend = alt.Legend(columns=columns) if len(entries) > 1 else None
    scale = alt.Scale(domain=list(entries), range=list(entries.values()))
    color = alt.Color("of:N", scale=scale, legend=legend)
    hide = f"{name}_hidden" if interactive and legend is not None else None
    # Named data sets: altair copies a chart at every call, and would copy inline rows each time.
    tables: dict[str, list[dict[str, Any]]] = {}
    charts = []
    for index, panel in enumerate(panels):
        axes = panel.across or across, size[0], panel.y or y
        layers = _layers(panel.lines, f"{name}_{index}", *axes, color, tables, hide, interactive)
        if has_zero:
            tables[f"{name}_{index}_zero"] = [{"value": 0}]
            layers.insert(0, _zero(f"{name}_{index}_zero"))
        charts.append(panel_chart(layers, size, title=panel.title if len(panels) > 1 else None))
    hollow = "hollow: the paper's values" if any(line.is_hollow for line in every) else ""
    if any("low" in row for line in every if line.is_hollow for row in line.means or []):
        hollow += "; dashed: their bands"
    heading = alt.Title(title, subtitle=[with_seeds(panels, subtitle), *filter(None, [note, hollow])])
    if len(charts) == 1:
        whole, scales = charts[0], None
    else:
        whole = alt.ConcatChart(concat=charts, columns=2)
        has_own = any(panel.y is not None for panel in panels)
        scales = {"color": "shared", "y": "independent" if has_own else "shared"}
    params = [legend_selection(whole, name)] if hide is not None else []
    return finish(whole, title=heading, datasets=tables, params=params, shared_or_independent=scales)


def panel_chart(layers: Sequence[Any], size: tuple[int, int], *, title: str | None) -> "alt.LayerChart":
    """Return a panel of layers, with a title if there are several panels."""
    import altair as alt

    chart = alt.LayerChart(layer=list(layers), width=size[0], height=size[1])
    if title is not None:
        chart.title = alt.Title(title, fontSize=14)
    return chart


def legend_selection(chart: Any, name: str) -> Any:
    """Return the selection `<name>_hidden`: a click on a legend entry hides its series, a second click shows it again.

    Only the first view of seeds has it: altair's `add_params` would add it to each panel, which Vega rejects.
    """
    import altair as alt

    # Joining charts renames their views.
    view = next(view_name for view_name in _view_names(chart) if view_name.startswith(name) and "_seeds" in view_name)
    select = alt.PointSelectionConfig(type="point", fields=["of"], toggle="true")
    return alt.TopLevelSelectionParameter(name=f"{name}_hidden", select=select, bind="legend", views=[view])


def _view_names(chart: Any) -> Iterator[str]:
    import altair as alt

    for kind in ("layer", "concat", "hconcat", "vconcat"):
        inner = getattr(chart, kind, alt.Undefined)
        for child in inner if isinstance(inner, list) else []:
            yield from _view_names(child)
    if isinstance(chart, alt.Chart):
        yield str(chart.name)


def means(dots: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Summarize the dots at each position; a single dot has no interval."""
    values_at: dict[Any, list[float]] = {}
    for dot in dots:
        values_at.setdefault(dot["x"], []).append(dot["value"])
    rows = []
    for x, values in sorted(values_at.items()):
        mean = estimates.mean(values)
        numbers = {"mean": mean.value, "standard_error": mean.error, "low": mean.low, "high": mean.high}
        rows.append({"x": x} | {name: number for name, number in numbers.items() if math.isfinite(number)})
    return rows


def _zero(name: str) -> "alt.Chart":
    import altair as alt

    zero = alt.Chart(alt.NamedData(name=name), name=f"{name}_rule")
    return zero.mark_rule(color=GREY, strokeDash=[5, 4]).encode(y=alt.Y("value:Q"))


def _layers(
    lines: Sequence[Line],
    name: str,
    across: Across,
    width: int,
    y: "alt.Y",
    color: "alt.Color",
    tables: dict[str, list[dict[str, Any]]],
    hide: str | None,
    has_tooltips: bool,
) -> list[Any]:
    """Draw every seed as a dot, and the means with their intervals joined by a line; add the rows to `tables`."""
    import altair as alt

    solid, hollow = ([line for line in lines if line.is_hollow == kind] for kind in (False, True))
    between = min(10.0, 0.7 * across.step(width) / max(len(solid), 1))
    x = across.encode()
    mean, low, high = alt.Y("mean:Q"), alt.Y("low:Q"), alt.Y2("high:Q")
    faint, full = (opacity(value, hide) for value in (0.45, 1))
    layers = []
    for index, line in enumerate(solid):
        shift = round(between * (index - (len(solid) - 1) / 2), 1)
        aside = shift + (math.copysign(min(9.0, 0.9 * between), shift) if len(solid) < 3 else 0)
        stem = f"{name}_{index}"
        tables[f"{stem}_dots"] = _rows(line.dots, line.name)
        tables[f"{stem}_averages"] = _rows(means(line.dots) if line.means is None else line.means, line.name)
        data = {kind: alt.NamedData(name=f"{stem}_{kind}") for kind in ("dots", "averages")}
        tips: dict[str, Any] = {"tooltip": _tooltips(line, across, y)} if has_tooltips else {}
        seeds = alt.Chart(data["dots"], name=f"{stem}_seeds")
        if any("count" in dot for dot in line.dots):  # a dot may represent several seeds
            seeds = seeds.transform_calculate(area="26 * datum.count").mark_circle(xOffset=aside)
            tips["size"] = alt.Size("area:Q", scale=None)
        else:
            seeds = seeds.mark_circle(size=26, xOffset=aside)
        joined = alt.Chart(data["averages"], name=f"{stem}_line").mark_line(strokeWidth=2, xOffset=shift)
        bars = alt.Chart(data["averages"], name=f"{stem}_intervals").mark_rule(strokeWidth=2, xOffset=shift)
        points = alt.Chart(data["averages"], name=f"{stem}_means").mark_point(size=70, filled=True, xOffset=shift)
        layers += [
            seeds.encode(x=x, y=y, color=color, opacity=faint, **tips),
            joined.encode(x=x, y=mean, color=color, opacity=full),
            bars.transform_filter("isValid(datum.low)").encode(x=x, y=low, y2=high, color=color, opacity=full),
            points.encode(x=x, y=mean, color=color, opacity=full),
        ]
    for index, line in enumerate(hollow):
        stem = f"{name}_hollow{index}"
        values = [{"value" if k == "mean" else k: v for k, v in row.items()} for row in line.means or []]
        tables[f"{stem}_values"] = _rows(values, line.name)
        tips = {"tooltip": _tooltips(line, across, y)} if has_tooltips else {}
        data = alt.NamedData(name=f"{stem}_values")
        if any("low" in row for row in values):
            bands = alt.Chart(data, name=f"{stem}_bands").transform_filter("isValid(datum.low)")
            bands = bands.mark_rule(strokeWidth=1, strokeDash=[2, 2], stroke=line.color)
            layers.append(bands.encode(x=x, y=low, y2=high, opacity=full))
        points = alt.Chart(data, name=stem)
        points = points.mark_point(size=75, filled=False, strokeWidth=1.8, shape="diamond", stroke=line.color)
        layers.append(points.encode(x=x, y=y, detail=alt.Detail("of:N"), opacity=full, **tips))
    return layers


def opacity(value: float, hide: str | None) -> Any:
    """Return the opacity of a mark, 0 while its series is in the selection `hide`."""
    import altair as alt

    if hide is None:
        return alt.OpacityValue(value)
    return alt.OpacityValue(value, condition={"param": hide, "empty": False, "value": 0})


def _rows(rows: Sequence[dict[str, Any]], name: str) -> list[dict[str, Any]]:
    """Add the name of the line to rows, rounded to six digits, more than a screen resolves."""
    short = [{k: float(f"{v:.6g}") if isinstance(v, float) else v for k, v in row.items()} for row in rows]
    return [row | {"of": name} for row in short]


def _tooltips(line: Line, across: Across, y: "alt.Y") -> list[Any]:
    import altair as alt

    columns = [name for name in _TOOLTIPS if any(name in dot for dot in line.dots)]
    shown = [alt.Tooltip(f"{name}:N", title=_TOOLTIPS[name]) for name in columns]
    size = alt.Tooltip("x:Q", title=label(across.column), format=",") if across.is_log else None
    size = size or alt.Tooltip("x:N", title=label(across.column))
    encoded: Any = y.to_dict()
    value = alt.Tooltip("value:Q", title=encoded["title"], format=".4~g")
    return [alt.Tooltip("of:N", title="series"), *shown, size, value]


def _num_seeds(line: Line) -> Counter:
    """Count the seeds at each position."""
    counts: Counter = Counter()
    for dot in line.dots:
        counts[dot["x"]] += dot.get("count", 1)
    return counts


def with_seeds(panels: Sequence[Panel], subtitle: str) -> str:
    """Return the subtitle with the number of seeds."""
    solid = [line for panel in panels for line in panel.lines if not line.is_hollow]
    counts = [count for line in solid for count in _num_seeds(line).values()]
    if not counts:
        return "no finished run yet"
    if max(counts) == 1:
        return NO_INTERVAL
    return subtitle.format(seeds=num_seeds(counts))
