"""Quantities measured on trained networks: against width, against rho, and against the metric.

Each figure takes a long table with one row per run and quantity: `quantity` (its column), `num_params`, `rho`, `seed`,
`value`, `is_best` (whether rho is the best of the width), and optionally `run`, `part` and `metric`. There is a panel
for each quantity, or for each part if there are several. A quantity whose values are all positive has geometric means
and intervals of the mean logarithm.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from flatwide import catalogue
from flatwide.analysis import measured, widths
from flatwide.analysis.measured import RATIO
from flatwide.catalogue.entries import Quantity
from flatwide.figures import lines
from flatwide.figures.axes import padded_scale
from flatwide.figures.labels import is_percent, label, wrapped
from flatwide.figures.measured_axes import Axis, Positions, axes_of, short
from flatwide.figures.style import BASE, GREY, SAM, colors, finish
from flatwide.figures.tables import Table, to_rows

Row = dict[str, Any]
MOST_DOTS = 1200  # per figure, so that a page of ten thousand runs opens quickly
_MOST_LINES = 8
_FEW_RHOS = 4  # up to this many rhos have separate lines
_WORDS = "small dots: each seed; large points and bars: mean and 95 % t interval of {seeds}"


class _Panel(NamedTuple):
    """Plot with its own vertical axis."""

    title: str
    lines: list[lines.Line]
    axis: Axis

    @property
    def quantity(self) -> Quantity:
        """Catalogue entry of the quantity that it shows."""
        return catalogue.quantity(self.axis.quantity)


def against_width(
    table: Table,
    *,
    base: str = "SGD",
    beside: Mapping[str, Sequence[Row]] | None = None,
    paper: "Table | None" = None,
    name: str = "measured_by_width",
    interactive: bool = False,
) -> Any:
    """Draw quantities of the base and of SAM at its best rho against width; up to four rhos also have lines.

    Args:
      table: as above.
      base: name of the base optimizer.
      beside: quantity -> rows with `num_params`, `value` and `of`: reference values, such as the learning rate that was
        used.
      paper: rows with `quantity`, `num_params`, `value`, and, if the paper states them, `rho` and `part`.
      name, interactive: as for `lines.figure`.
    """
    rows = to_rows(table)
    axes = axes_of(rows)
    panels = []
    for quantity, part, here in _panels(rows):
        axis = axes[quantity]
        rhos = sorted({row["rho"] for row in here if row["rho"] > 0})
        drawn = [_line(base, BASE, [row for row in here if row["rho"] == 0], "num_params", axis)]
        drawn.append(_line("SAM at its best ρ", SAM, [row for row in here if row["is_best"]], "num_params", axis))
        few = rhos if 1 < len(rhos) <= _FEW_RHOS else []
        for value, color in zip(few, colors(len(few), ordered=True), strict=True):
            rho_rows = [row for row in here if row["rho"] == value]
            line = _line(f"mean at ρ = {value:g}", color, rho_rows, "num_params", axis)
            bare = [{"x": row["x"], "mean": row["mean"]} for row in line.means or []]
            drawn.append(line._replace(dots=[], means=bare))
        drawn += _beside((beside or {}).get(quantity, ()), here)
        drawn += _printed(paper, quantity, part, here)
        panels.append(
            _Panel(
                part or catalogue.quantity(quantity).title, [line for line in drawn if line.dots or line.means], axis
            )
        )
    return _figure(panels, rows, axes, "num_params", f"{base} and SAM", name=name, interactive=interactive)


def against_rho(
    table: Table,
    *,
    base: str = "SGD",
    paper: "Table | None" = None,
    most_dots: int = MOST_DOTS,
    name: str = "measured_by_rho",
    interactive: bool = False,
) -> Any:
    """Draw quantities against rho, one line per width, for at most eight widths.

    Args: as for `against_width`, and
      most_dots: limit per figure; with more runs, only the first seeds (at least two) have dots.
    """
    rows = to_rows(table)
    axes = axes_of(rows)
    sizes = widths.evenly(sorted({row["num_params"] for row in rows}), _MOST_LINES)
    palette = [SAM] if len(sizes) == 1 else colors(len(sizes), ordered=True)
    shown_seeds = _first_seeds([row for row in rows if row["num_params"] in sizes], most_dots)
    panels = []
    for quantity, part, here in _panels([row for row in rows if row["num_params"] in sizes]):
        drawn = []
        for size, color in zip(sizes, palette, strict=True):
            size_rows = [row for row in here if row["num_params"] == size]
            line = _line(f"{size:,} parameters", color, size_rows, "rho", axes[quantity])
            drawn.append(line._replace(dots=[dot for dot in line.dots if dot["seed"] in shown_seeds]))
            printed = [row for row in _of_paper(paper, quantity, part) if row["num_params"] == size and "rho" in row]
            means = [{"x": row["rho"], "mean": row["value"]} for row in printed]
            drawn += [lines.Line(lines.PAPER, color, [], means, is_hollow=True)] if means else []
        drawn = [line for line in drawn if line.dots or line.is_hollow]
        panels.append(_Panel(part or catalogue.quantity(quantity).title, drawn, axes[quantity]))
    all_seeds = {row["seed"] for row in rows}
    words = _WORDS
    if len(shown_seeds) < len(all_seeds):
        words = f"small dots: {len(shown_seeds)} of the seeds; large points and bars: mean and 95 % t interval of "
        words += f"{len(all_seeds)} seeds"
    title = f"From {base} (ρ = 0) to large ρ"
    return _figure(panels, rows, axes, "rho", title, words=words, name=name, interactive=interactive)


def against_metric(
    table: Table,
    *,
    most_dots: int = MOST_DOTS,
    correlations: Mapping[str, measured.Correlation],
    metric: str = "test_metric",
    metric_name: str = "accuracy",
    name: str = "metric_by_measured",
    interactive: bool = False,
) -> Any:
    """Draw the metric of every run against quantities, coloured by width.

    Args:
      table: as above, with `metric`. correlations: quantity -> its rank correlation with the metric, for the titles.
      most_dots: as for `against_rho`. metric, metric_name: its column, and its name.
    """
    import altair as alt

    rows, factor = to_rows(table), 100 if is_percent(metric_name) else 1
    rows = [row for row in rows if "metric" in row]
    shown_seeds = _first_seeds(rows, most_dots)
    sizes = sorted({row["num_params"] for row in rows})
    names = {size: f"{size:,} parameters" for size in sizes}
    scale = alt.Scale(domain=list(names.values()), range=colors(len(sizes), ordered=True))
    color = alt.Color("of:N", scale=scale, legend=alt.Legend(symbolType="circle") if len(sizes) > 1 else None)
    hide = f"{name}_hidden" if interactive and len(sizes) > 1 else None
    y_title = label(metric, metric_name=metric_name)
    y = alt.Y("metric:Q", title=y_title, scale=padded_scale())
    tables: dict[str, list[Row]] = {}
    axes, charts = axes_of(rows), []
    for index, quantity in enumerate(dict.fromkeys(row["quantity"] for row in rows)):
        stem = f"{name}_{index}_seeds"
        tables[stem] = [
            {"x": short(row["value"]), "metric": short(factor * row["metric"]), "of": names[row["num_params"]]}
            | {column: row[column] for column in ("rho", "seed", "run") if column in row}
            for row in rows
            if row["quantity"] == quantity and row["seed"] in shown_seeds
        ]
        title = catalogue.quantity(quantity).label
        x = alt.X("x:Q", title=title, scale=axes[quantity].scale(padding=8), axis=axes[quantity].ticks(grid=False))
        tooltips = [alt.Tooltip(f"{c}:N", title=label(c)) for c in ("of", "run", "rho", "seed") if c in tables[stem][0]]
        tooltips.append(alt.Tooltip("x:Q", title=title, format=".4~g"))
        tooltips.append(alt.Tooltip("metric:Q", title=y_title, format=".4~g"))
        chart = alt.Chart(alt.NamedData(name=stem), name=stem, width=300, height=220).mark_circle(size=34)
        opacity = lines.opacity(0.6, hide)
        tips: dict[str, Any] = {"tooltip": tooltips} if interactive else {}
        chart = chart.encode(x=x, y=y, color=color, opacity=opacity, **tips)
        chart.title = alt.Title(correlations[quantity].text, fontSize=13, fontWeight="normal")
        charts.append(chart)
    all_seeds = {row["seed"] for row in rows}
    each = "each dot is one run" + (
        f", of {len(shown_seeds)} of the seeds" if len(shown_seeds) < len(all_seeds) else ""
    )
    number = f"{len(all_seeds)} seed{'s' * (len(all_seeds) > 1)}"
    words = f"{each}; rank correlations are within each width and seed, of {number}"
    title = alt.Title("Is flatness correlated with the metric?", subtitle=[words])
    whole = alt.ConcatChart(concat=charts, columns=2)
    params = [lines.legend_selection(whole, name)] if hide else []
    scales = {"color": "shared", "x": "independent", "y": "shared"}
    return finish(whole, title=title, datasets=tables, params=params, shared_or_independent=scales)


def _figure(
    panels: Sequence[_Panel],
    rows: Sequence[Row],
    axes: Mapping[str, Axis],
    across: str,
    title: str,
    *,
    words: str = _WORDS,
    name: str,
    interactive: bool,
) -> Any:
    """Draw panels side by side, each with its own axis, and with few layers, since altair copies them many times."""
    import altair as alt

    size = (560, 320) if len(panels) == 1 else (300, 200)
    every = sorted((line for panel in panels for line in panel.lines), key=lambda line: line.is_hollow)
    entries = {line.name: GREY if line.is_hollow else line.color for line in every}
    hide = f"{name}_hidden" if interactive and len(entries) > 1 else None
    positions = Positions(across, sorted({row["x"] for panel in panels for row in _marks(panel)}))
    scale = alt.Scale(domain=list(entries), range=list(entries.values()))
    color = alt.Color("of:N", scale=scale, legend=alt.Legend(columns=3) if len(entries) > 1 else None)
    tables: dict[str, list[Row]] = {}
    charts = []
    for index, panel in enumerate(panels):
        layers = _layers(panel, f"{name}_{index}", positions, size[0], color, tables, hide, interactive)
        charts.append(lines.panel_chart(layers, size, title=panel.title if len(panels) > 1 else None))
    if len(panels) == 1:
        title = f"{title}: {catalogue.quantity(rows[0]['quantity']).title}"
    heading = alt.Title(title, subtitle=_notes(panels, axes, words))
    if len(charts) == 1:
        whole, scales = charts[0], None
    else:
        whole = alt.ConcatChart(concat=charts, columns=2)
        scales = {"color": "shared", "x": "independent", "y": "independent"}
    params = [lines.legend_selection(whole, name)] if hide is not None else []
    return finish(whole, title=heading, datasets=tables, params=params, shared_or_independent=scales)


def _layers(
    panel: _Panel,
    name: str,
    positions: Positions,
    width: int,
    color: Any,
    tables: dict[str, list[Row]],
    hide: str | None,
    has_tooltips: bool,
) -> list[Any]:
    """Draw the dots of a panel, then lines, bars and means; lines are offset from each other at each position."""
    import altair as alt

    solid = [line for line in panel.lines if not line.is_hollow]
    with_dots = [line for line in solid if line.dots]
    dots, means, hollow = [], [], []
    for line in panel.lines:
        shift = 10 * (with_dots.index(line) - (len(with_dots) - 1) / 2) if line in with_dots else 0
        aside = 5 if len(with_dots) < 3 and line in with_dots else 0
        dots += [_drawn(row, line, positions, width, shift + math.copysign(aside, shift)) for row in line.dots]
        (hollow if line.is_hollow else means).extend(
            _drawn(row, line, positions, width, shift) for row in line.means or ()
        )
    data = {kind: alt.NamedData(name=f"{name}_{kind}") for kind in ("dots", "averages", "hollow")}
    tables |= {f"{name}_dots": dots, f"{name}_averages": means} | ({f"{name}_hollow": hollow} if hollow else {})
    quantity = panel.quantity
    says_all = panel.title == quantity.title  # then the axis needs only the unit
    x, y = (
        positions.encode(),
        panel.axis.encode(quantity.unit if says_all and quantity.unit else wrapped(quantity.label)),
    )
    mean, low, high = alt.Y("mean:Q"), alt.Y("low:Q"), alt.Y2("high:Q")
    # A page removes the legend from each layer, so each layer needs the complete channel.
    plain, full = {"x": alt.X("x:Q"), "color": color}, lines.opacity(1, hide)
    tips: dict[str, Any] = {"tooltip": _tooltips(dots, quantity.label)} if has_tooltips else {}
    seeds = alt.Chart(data["dots"], name=f"{name}_seeds").mark_circle(size=22)
    line = alt.Chart(data["averages"], name=f"{name}_line").mark_line(strokeWidth=2)
    bars = alt.Chart(data["averages"], name=f"{name}_intervals").mark_rule(strokeWidth=2)
    points = alt.Chart(data["averages"], name=f"{name}_means").mark_point(size=50, filled=True)
    layers = [
        seeds.encode(x=x, y=y, color=color, opacity=lines.opacity(0.4, hide), **tips),
        line.encode(**plain, y=mean, opacity=full),
        bars.transform_filter("isValid(datum.low)").encode(**plain, y=low, y2=high, opacity=full),
        points.transform_filter("isValid(datum.has_dots)").encode(**plain, y=mean, opacity=full),
    ]
    if hollow:
        marks = alt.Chart(data["hollow"], name=f"{name}_printed")
        marks = marks.mark_point(size=75, filled=False, strokeWidth=1.8, shape="diamond")
        stroke = alt.Stroke("shade:N", scale=None)
        layers.append(marks.encode(x=alt.X("x:Q"), y=mean, stroke=stroke, detail="of:N", opacity=full))
    return layers


def _drawn(row: Row, line: lines.Line, positions: Positions, width: int, shift: float) -> Row:
    """Return a row at its drawn position, offset by `shift` pixels."""
    numbers = {name: short(row[name]) for name in ("value", "mean", "low", "high") if name in row}
    facts = {name: row[name] for name in ("run", "rho", "seed", "num_params") if name in row}
    shade = {"shade": line.color} if line.is_hollow else {}
    dots = {"has_dots": 1} if line.dots and "mean" in row else {}
    return {"x": positions.at(row["x"], width, shift), "of": line.name} | numbers | facts | shade | dots


def _tooltips(dots: Sequence[Row], title: str) -> list[Any]:
    import altair as alt

    names = [name for name in ("of", "run", "num_params", "rho", "seed") if any(name in dot for dot in dots)]
    titles = {"of": "series", "run": "run", "seed": "seed"}
    tooltips = [alt.Tooltip(f"{name}:N", title=titles.get(name, label(name))) for name in names]
    return [*tooltips, alt.Tooltip("value:Q", title=title, format=".4~g")]


def _notes(panels: Sequence[_Panel], axes: Mapping[str, Axis], words: str) -> list[str]:
    """List the lines of the subtitle, which explain dots and bars."""
    rows = [row for panel in panels for row in _marks(panel)]
    notes = [lines.with_seeds([lines.Panel(panel.title, panel.lines) for panel in panels], words)]
    ratios = [axis.comparison == RATIO for axis in axes.values()]
    if any(ratios) and notes != [lines.NO_INTERVAL]:
        scope = "" if all(ratios) else " of positive quantities"
        notes.append(f"means{scope} are geometric, with intervals of the mean logarithm")
    if any("is_cut" in row for row in rows):
        notes.append("bars that extend far beyond the dots are cut off")
    if any(line.is_hollow for panel in panels for line in panel.lines):
        notes.append("hollow: the paper's values")
    return notes


def _marks(panel: _Panel) -> list[Row]:
    return [row for line in panel.lines for row in (*line.dots, *(line.means or ()))]


def _panels(rows: Sequence[Row]) -> list[tuple[str, str, list[Row]]]:
    """Group rows by quantity and part."""
    keys = dict.fromkeys((row["quantity"], row.get("part", "")) for row in rows)
    return [(q, part, [r for r in rows if (r["quantity"], r.get("part", "")) == (q, part)]) for q, part in keys]


def _line(name: str, color: str, rows: Sequence[Row], across: str, axis: Axis) -> lines.Line:
    """Return a line with a dot per seed and their means."""
    dots, values_at = [], {}
    for row in sorted(rows, key=lambda row: (row[across], row["seed"])):
        facts = {column: row[column] for column in ("run", "rho", "seed", "num_params") if column in row}
        dots.append({"x": row[across], "value": row["value"]} | facts)
        values_at.setdefault(row[across], []).append(row["value"])
    return lines.Line(name, color, dots, [{"x": x} | _mean(values, axis) for x, values in values_at.items()])


def _mean(values: Sequence[float], axis: Axis) -> Row:
    estimate = measured.mean(values, comparison=axis.comparison)
    row: Row = {"mean": estimate.value}
    if math.isfinite(estimate.low):
        row |= {"low": max(estimate.low, axis.low), "high": min(estimate.high, axis.high)}
        row |= {"is_cut": True} if (row["low"], row["high"]) != (estimate.low, estimate.high) else {}
    return row


def _beside(given: Sequence[Row], here: Sequence[Row]) -> list[lines.Line]:
    sizes = {row["num_params"] for row in here}
    means = [{"x": row["num_params"], "mean": row["value"]} for row in given if row["num_params"] in sizes]
    return [lines.Line(given[0]["of"], GREY, [], means)] if means else []


def _printed(paper: "Table | None", quantity: str, part: str, here: Sequence[Row]) -> list[lines.Line]:
    """Return the paper's points of the base, and of SAM at the best rho of each width or at an unstated rho."""
    best = {row["num_params"]: row["rho"] for row in here if row["is_best"]}
    rows = _of_paper(paper, quantity, part)
    sizes = {row["num_params"] for row in here}
    groups = {BASE: [row for row in rows if row.get("rho") == 0]}
    groups[SAM] = [row for row in rows if row.get("rho", best.get(row["num_params"])) == best.get(row["num_params"])]
    paper_lines = []
    for color, group in groups.items():
        means = [{"x": row["num_params"], "mean": row["value"]} for row in group if row["num_params"] in sizes]
        paper_lines += [lines.Line(lines.PAPER, color, [], means, is_hollow=True)] if means else []
    return paper_lines


def _of_paper(paper: "Table | None", quantity: str, part: str) -> list[Row]:
    rows = [row for row in to_rows([] if paper is None else paper) if row["quantity"] == quantity]
    return [row for row in rows if row.get("part", part) == part]


def _first_seeds(rows: Sequence[Row], most_dots: int) -> set[int]:
    """Return as many seeds as the limit on dots allows, at least two."""
    seeds = sorted({row["seed"] for row in rows})
    return set(seeds[: max(2, int(len(seeds) * most_dots / max(len(rows), 1)))])
