"""Lines against size: a dot per seed, joined means with intervals, and published values as hollow points."""

import itertools
import json
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from flatwide.analysis import estimates
from flatwide.figures.drawing import Drawing, Row, panel, short
from flatwide.figures.labels import label, num_seeds
from flatwide.figures.style import GREY

if TYPE_CHECKING:
    import altair as alt

PAPER = "paper (Shin et al. 2025)"
SEEDS = "small dots: each seed; large points and bars: mean and 95 % t interval of {seeds}"
_MARGIN = 24  # pixels at each end of a logarithmic axis
_SMALL = 300  # pixels: width of one of several panels
_FACTS = {"run": "run", "rho": "ρ", "seed": "seed", "count": "number of seeds"}


class Line(NamedTuple):
    """Line of a figure.

    dots: one per seed: `x`, `value`, and the tooltip's `run`, `rho`, `seed`; or one for `count` seeds.
    means: `x`, `mean`, and for an interval `low` and `high`; None is the mean and t interval of the dots.
    """

    name: str
    color: str
    dots: list[Row]
    means: list[Row] | None = None
    is_hollow: bool = False  # published values: points without a line


class Across(NamedTuple):
    """Horizontal axis: its column, and its values from left to right; those of the lines are added."""

    column: str
    values: Sequence[Any] = ()

    @property
    def is_log(self) -> bool:
        """Whether the axis is logarithmic; otherwise its values are equally spaced."""
        return self.column.startswith("num_") and len(self.values) > 1 and min(self.values) > 0

    def reaching(self, panels: Iterable["Panel"]) -> "Across":
        """Return an axis with all positions of some panels."""
        every = {row["x"] for each in panels for line in each.lines for row in (*line.dots, *(line.means or ()))}
        return Across(self.column, sorted({*self.values, *every}))

    def encode(self) -> "alt.X":
        """Return its encoding channel."""
        import altair as alt

        ticks: Row = {"grid": False, "labelOverlap": "greedy", "labelSeparation": 8}
        if self.is_log:
            # A ratio below 1 is printed as 0.5, not as 500m.
            axis = alt.Axis(values=self.values, format=".3~s" if min(self.values) >= 1 else ".3~g", **ticks)
            scale = alt.Scale(type="log", nice=False, padding=_MARGIN)
        else:
            texts = f"format({json.dumps(self.values)}[datum.value], '{self.number}')"
            axis = alt.Axis(values=list(range(len(self.values))), labelExpr=texts, **ticks)
            scale = alt.Scale(domain=[-0.5, len(self.values) - 0.5], nice=False, zero=False)
        return alt.X("x:Q", title=label(self.column), scale=scale, axis=axis)

    @property
    def number(self) -> str:
        """Format of its values when they are equally spaced."""
        # Sparsities are ratios of counts; radii are printed as they were given.
        return ".3~s" if self.column.startswith("num_") else ".3~r" if self.column == "sparsity" else ",~r"

    def at(self, value: Any, width: int, shift: float) -> float:
        """Return the position of a value, offset by `shift` pixels, in a panel of this width."""
        if self.is_log:
            return short(value * (self.values[-1] / self.values[0]) ** (shift / (width - 2 * _MARGIN)), digits=6)
        return short(self.values.index(value) + shift / self.step(width), digits=6)

    def step(self, width: int) -> float:
        """Return the smallest distance between two values, in pixels, in a panel of this width."""
        if not self.is_log:
            return width / max(len(self.values), 1)
        logarithms = [math.log(value) for value in self.values]
        gaps = [b - a for a, b in itertools.pairwise(logarithms)]
        return (width - 2 * _MARGIN) * min(gaps) / (logarithms[-1] - logarithms[0])


class Panel(NamedTuple):
    """Plot of a figure: its lines, its title if there are several plots, and axes that differ from the figure's."""

    title: str
    lines: list[Line]
    across: Across | None = None
    y: "alt.Y | None" = None
    tip: str = ""  # title of a value in its tooltip; empty is that of the axis


def dots(
    rows: Iterable[Mapping[str, Any]], value: str, *, x: str, factor: float = 1, run: str = "run", rho: str = "rho"
) -> list[Row]:
    """List the dots of a line: the rows that have a value.

    Args:
      x: column of their positions.
      run, rho: columns of what their tooltips say.
    """
    facts = {"run": run, "rho": rho, "seed": "seed", "count": "count"}
    return [
        {"x": row[x], "value": factor * row[value]}
        | {name: row[column] for name, column in facts.items() if row.get(column) is not None}
        for row in rows
        if value in row
    ]


def intervals(
    rows: Iterable[Mapping[str, Any]],
    value: str,
    *,
    x: str,
    factor: float = 1,
    low: str = "low",
    high: str = "high",
) -> list[Row]:
    """List the means of a line: the rows that have a value, with the ends of its interval if they have them."""
    ends = {"mean": value, "low": low, "high": high}
    return [
        {"x": row[x]} | {name: factor * row[end] for name, end in ends.items() if row.get(end) is not None}
        for row in rows
        if row.get(value) is not None
    ]


def hollow(
    rows: Iterable[Mapping[str, Any]], value: str, color: str, *, x: str, part: str = "", factor: float = 1
) -> list[Line]:
    """Return the paper's points among some rows, with the bands that it gives, in the colour of their line.

    Args:
      part: whose points these are; rows without a part belong to each.
    """
    here = [row for row in rows if row.get("part", "") in (part, "")]
    banded = [
        {**row, "low": row[value] - band, "high": row[value] + band}
        if (band := row.get(f"{value}_band")) is not None
        else row
        for row in here
    ]
    points = intervals(banded, value, x=x, factor=factor)
    return [Line(PAPER, color, [], points, is_hollow=True)] if points else []


def means(dots: Sequence[Row]) -> list[Row]:
    """Summarize the dots at each position; a single dot has no interval."""
    values_at: dict[Any, list[float]] = {}
    for dot in dots:
        values_at.setdefault(dot["x"], []).append(dot["value"])
    rows = []
    for x, values in sorted(values_at.items()):
        mean = estimates.mean(values)
        numbers = {"mean": mean.value, "low": mean.low, "high": mean.high}
        rows.append({"x": x} | {name: number for name, number in numbers.items() if math.isfinite(number)})
    return rows


def figure(
    panels: Sequence[Panel],
    *,
    name: str,
    title: str,
    across: Across,
    y: "alt.Y",
    subtitle: str = SEEDS,
    note: str = "",
    has_zero: bool = False,
    interactive: bool = False,
) -> Any:
    """Draw panels side by side, with one legend, and a subtitle that explains dots and bars.

    Args:
      name: prefix of all names inside the chart, so that several figures can share a page.
      subtitle: meaning of dots, points and bars; `{seeds}` is replaced by their number.
      note: further lines of the subtitle.
      has_zero: draw a line at zero.
      interactive: add tooltips, and a legend whose entries hide their series.
    """
    is_single = len(panels) == 1
    shared = across.reaching(each for each in panels if each.across is None)
    every = sorted((line for each in panels for line in each.lines), key=lambda line: line.is_hollow)
    series = {line.name: GREY if line.is_hollow else line.color for line in every}
    columns = 3 if max(map(len, series), default=0) <= 28 else 2
    drawing = Drawing(name, series=series, interactive=interactive, columns=columns)
    charts = []
    for index, each in enumerate(panels):
        own = shared if each.across is None else each.across.reaching([each])
        width = min(560, 150 + 90 * len(own.values)) if is_single and not own.is_log else 560 if is_single else _SMALL
        layers = _layers(drawing, str(index), each, own, each.y or y, width, has_zero=has_zero)
        charts.append(panel(layers, (width, 320 if is_single else 200), None if is_single else each.title))
    paper = "hollow: the paper's values" if any(line.is_hollow for line in every) else ""
    if any("low" in row for line in every if line.is_hollow for row in line.means or ()):
        paper += "; dashed: their bands"
    kind = "independent" if any(each.y is not None for each in panels) else "shared"
    notes = [_with_seeds(every, subtitle), *note.splitlines(), paper]
    return drawing.finish(charts, title=title, notes=notes, color="shared", x="independent", y=kind)


def _layers(
    drawing: Drawing, stem: str, shown: Panel, across: Across, y: "alt.Y", width: int, *, has_zero: bool
) -> list[Any]:
    """Draw every seed as a dot, then means joined by lines with their intervals, then the paper's points."""
    import altair as alt

    tables = _tables(shown.lines, across, width)
    for kind, rows in tables.items():
        if rows or kind != "hollow":
            drawing.add(f"{stem}_{kind}", rows)

    def view(data: str, name: str) -> Any:
        return drawing.view(f"{stem}_{data}", f"{stem}_{name}")

    x, full, ends = alt.X("x:Q"), drawing.opacity(1), {"y": alt.Y("low:Q"), "y2": alt.Y2("high:Q")}
    shared: Row = {"x": x, "color": drawing.color, "opacity": full}
    encoded: Any = y.to_dict()
    title = shown.tip or encoded["title"]
    known = {fact for dot in tables["dots"] for fact in dot} - {across.column}
    facts = {fact: name for fact, name in _FACTS.items() if fact in known}
    facts = {"of": "series"} | facts | {"position": label(across.column)}
    size = {"size": alt.Size("area:Q", scale=None)} if any("area" in dot for dot in tables["dots"]) else {}
    layers = [
        view("dots", "seeds")
        .mark_circle(size=26)
        .encode(
            x=across.encode(),
            y=y,
            color=drawing.color,
            opacity=drawing.opacity(0.45),
            **size,
            **drawing.tips(facts, value=title),
        ),
        view("averages", "line").mark_line(strokeWidth=2).encode(**shared, y=alt.Y("mean:Q")),
        view("averages", "intervals")
        .transform_filter("isValid(datum.low)")
        .mark_rule(strokeWidth=2)
        .encode(**shared, **ends),
        view("averages", "means")
        .transform_filter("!datum.bare")
        .mark_point(size=70 if width > _SMALL else 50, filled=True)
        .encode(**shared, y=alt.Y("mean:Q")),
    ]
    if has_zero:
        drawing.add(f"{stem}_zero", [{"value": 0}])
        zero = view("zero", "rule").mark_rule(color=GREY, strokeDash=[5, 4])
        layers.insert(0, zero.encode(y=alt.Y("value:Q")))
    shade = {"x": x, "opacity": full, "stroke": alt.Stroke("shade:N", scale=None)}
    if any("low" in row for row in tables["hollow"]):
        bands = view("hollow", "bands").transform_filter("isValid(datum.low)")
        layers.append(bands.mark_rule(strokeWidth=1, strokeDash=[2, 2]).encode(**shade, **ends))
    if tables["hollow"]:
        points = view("hollow", "printed").mark_point(size=75, filled=False, strokeWidth=1.8, shape="diamond")
        tips = drawing.tips({"of": "series", "position": label(across.column)}, value=title)
        layers.append(points.encode(**shade, y=y, detail="of:N", **tips))
    return layers


def _tables(lines: Sequence[Line], across: Across, width: int) -> dict[str, list[Row]]:
    """List the dots, the means and the paper's points of a panel, each line beside the others."""
    num_dotted = sum(bool(line.dots) for line in lines)
    between = min(10.0, 0.7 * across.step(width) / max(num_dotted, 1))
    shifts = iter(between * (index - (num_dotted - 1) / 2) for index in range(num_dotted))
    tables: dict[str, list[Row]] = {"dots": [], "averages": [], "hollow": []}
    for line in lines:
        shift = next(shifts) if line.dots else 0.0
        aside = math.copysign(min(9.0, 0.9 * between), shift) if num_dotted < 3 else 0
        for row in line.dots:
            area = {"area": 26 * row["count"]} if "count" in row else {}
            facts = {fact: row[fact] for fact in _FACTS if fact in row} | {"position": row["x"]}
            at = {"x": across.at(row["x"], width, shift + aside), "of": line.name}
            tables["dots"].append(at | {"value": short(row["value"], digits=6)} | area | facts)
        for row in means(line.dots) if line.means is None else line.means:
            names = {"mean": "value" if line.is_hollow else "mean", "low": "low", "high": "high"}
            numbers = {name: short(row[end], digits=6) for end, name in names.items() if end in row}
            point = {"x": across.at(row["x"], width, shift), "of": line.name} | numbers
            kind = {"shade": line.color, "position": row["x"]} if line.is_hollow else {} if line.dots else {"bare": 1}
            tables["hollow" if line.is_hollow else "averages"].append(point | kind)
    return tables


def _with_seeds(lines: Iterable[Line], subtitle: str) -> str:
    """Return the subtitle with the number of seeds."""
    counts: Counter = Counter()
    for index, line in enumerate(lines):
        for dot in line.dots:
            counts[index, dot["x"]] += dot.get("count", 1)
    if not counts:
        return "no finished run yet"
    return "one seed: no interval" if max(counts.values()) == 1 else subtitle.format(seeds=num_seeds(counts.values()))
