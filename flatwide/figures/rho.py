"""Best rho of each width, and gain and metric against rho and width."""

from collections import Counter
from collections.abc import Sequence
from typing import Any, NamedTuple

from flatwide.figures import axes, lines
from flatwide.figures.labels import is_percent, label, num_seeds
from flatwide.figures.style import GREY, SAM, finish
from flatwide.figures.tables import Table, to_rows

_LEAST_CELL = 44  # pixels: the number does not fit into a narrower cell


def best_rho_against_width(
    best: Table,
    *,
    seeds: Table,
    paper: "Table | None" = None,
    name: str = "best_rho_by_width",
    interactive: bool = False,
) -> Any:
    """Draw the best rho of each width with its confidence set, and the best rho of each seed, one panel per part.

    Args:
      best: the table of `analysis.rho.best_rho`, with a column `part` if there are several.
      seeds: `num_params`, `seed` and `best_rho` of each seed, and `part`.
      paper: rows with `num_params` and `best_rho`, and `part` if there are several.
      name, interactive: as for `lines.figure`.
    """
    import altair as alt

    rows = [row for row in to_rows(best) if "best_rho" in row]
    parts = list(dict.fromkeys(row.get("part", "") for row in rows))
    panels = []
    for part in parts:
        counts = Counter((row["num_params"], row["best_rho"]) for row in to_rows(seeds) if row.get("part", "") == part)
        dots = [{"x": size, "value": value, "count": count} for (size, value), count in sorted(counts.items())]
        means = [
            {"x": row["num_params"], "mean": row["best_rho"]}
            | ({"low": row["best_rho_low"], "high": row["best_rho_high"]} if "best_rho_low" in row else {})
            for row in rows
            if row.get("part", "") == part
        ]
        drawn = [lines.Line("SAM", SAM, dots, means)]
        printed = [row for row in to_rows([] if paper is None else paper) if row.get("part", "") in (part, "")]
        paper_points = [{"x": row["num_params"], "mean": row["best_rho"]} for row in printed if "best_rho" in row]
        drawn += [lines.Line(lines.PAPER, SAM, [], paper_points, is_hollow=True)] if paper_points else []
        panels.append(lines.Panel(part, drawn))
    rhos = sorted(
        {row["best_rho"] for row in [*rows, *to_rows(seeds)]}
        | {e for panel in panels for line in panel.lines for e in _ends(line)}
    )
    scale = alt.Scale(type="log", nice=False, padding=14)
    axis = alt.Axis(values=rhos, format=",~r", labelOverlap="greedy")
    return lines.figure(
        panels,
        name=name,
        title="Best ρ",
        across=lines.Across("num_params", sorted({row["num_params"] for row in rows})),
        y=alt.Y("value:Q", title=label("best_rho"), scale=scale, axis=axis),
        subtitle="large points: best mean over {seeds}; bars: 95 % confidence set; small dots: best ρ of each seed",
        interactive=interactive,
    )


def _ends(line: lines.Line) -> list[float]:
    return [row[end] for row in line.means or [] for end in ("low", "high") if end in row]


def heat_map(
    cells: Table,
    *,
    of: str = "gain",
    down: str = "rho",
    metric: str = "test_metric",
    metric_name: str = "accuracy",
    base: str = "SGD",
    name: str = "rho_by_width",
    interactive: bool = False,
) -> Any:
    """Draw the mean gain, or the mean metric, of each rho and width as a heat map, one panel per part.

    Args:
      cells: one row per width and rho, with `num_params`, `rho`, the column `of` (missing if every seed diverged),
        `num_seeds`, `num_diverged`, `is_best`, and `part` if there are several.
      down: column of the vertical axis: "rho", or "part" for a single panel.
      of: "gain", or "mean" of `metric`.
      metric_name, base: as for `gain.gain_against_width`.
      name, interactive: as for `lines.figure`.
    """
    import altair as alt

    rows = to_rows(cells)
    parts = list(dict.fromkeys(row.get("part", "") for row in rows)) if down == "rho" else [""]
    shape, is_cut = _shape(rows, of=of, down=down, num_parts=len(parts), metric=metric, metric_name=metric_name)
    tables: dict[str, list[dict[str, Any]]] = {}
    panels = []
    for index, part in enumerate(parts):
        stem = f"{name}_{index}"
        tables[f"{stem}_means"] = [
            {"x": row["num_params"], down: row[down], "seeds": row["num_seeds"], "diverged": row["num_diverged"]}
            | ({"value": float(f"{shape.factor * row[of]:.6g}")} if of in row else {})
            | ({"best": 1} if row["is_best"] else {})
            for row in rows
            if part in ("", row.get("part", ""))
        ]
        layers = _map_layers(shape, stem, has_numbers=len(parts) == 1, has_tooltips=interactive)
        panels.append(lines.panel_chart(layers, (shape.width, shape.height), title=part if len(parts) > 1 else None))
    seeds = num_seeds(row["num_seeds"] for row in rows)
    words = f"gain of SAM over {base}" if of == "gain" else label(metric, metric_name=metric_name)
    words = words[:1].upper() + words[1:] if seeds == "one seed" else f"Mean {words}"
    notes = [
        seeds if seeds == "one seed" else f"mean of {seeds}",
        "black frame: best ρ of the width" if any(row["is_best"] for row in rows) else "",
        f"colours saturate at ±{shape.reach:.3g}" if of == "gain" and is_cut else "",
        "×: a seed diverged" if any(row["num_diverged"] for row in rows) else "",
    ]
    heading = alt.Title(words, subtitle="; ".join(filter(None, notes)))
    if len(panels) == 1:
        return finish(panels[0], title=heading, datasets=tables)
    whole = alt.ConcatChart(concat=panels, columns=2)
    return finish(whole, title=heading, datasets=tables, shared_or_independent={"color": "shared"})


class _Shape(NamedTuple):
    """Axes, colours and size that the panels of a heat map share."""

    of: str
    down: str
    title: str  # of the colours
    factor: int  # 100 for percent
    sizes: list[int]
    levels: list[Any]
    width: int
    height: int
    reach: float  # gain with the darkest colour
    middle: float  # mean of all values


def _shape(
    rows: Sequence[dict[str, Any]], *, of: str, down: str, num_parts: int, metric: str, metric_name: str
) -> tuple[_Shape, bool]:
    """Return what the panels share, and whether some gains exceed the darkest colour."""
    factor = 100 if is_percent(metric_name) else 1
    values = [factor * row[of] for row in rows if of in row]
    reach, is_cut = _reach(values)
    sizes, levels = sorted({row["num_params"] for row in rows}), list(dict.fromkeys(row[down] for row in rows))
    most_wide, most_high = (560, 320) if num_parts == 1 else (300, 200)
    shape = _Shape(
        of=of,
        down=down,
        title=label("gain" if of == "gain" else metric, metric_name=metric_name),
        factor=factor,
        sizes=sizes,
        levels=sorted(levels, reverse=True) if down == "rho" else levels,
        width=min(most_wide, 90 * len(sizes)),
        height=min(most_high, 40 * len(levels)) if down == "rho" else 22 * len(levels),
        reach=reach,
        middle=sum(values) / max(len(values), 1),
    )
    return shape, is_cut


def _map_layers(shape: _Shape, stem: str, *, has_numbers: bool, has_tooltips: bool) -> list[Any]:
    """Draw the cells of a panel, the frames of the best, crosses at diverged seeds and, if they fit, numbers."""
    import altair as alt

    x, y = lines.Across("num_params", shape.sizes).encode_ordinal(), _down(shape.down, shape.levels)
    chart = alt.Chart(alt.NamedData(name=f"{stem}_means"))
    tips: dict[str, Any] = {}
    if has_tooltips:
        titles = {"x:Q": label("num_params"), f"{shape.down}:N": label(shape.down), "value:Q": shape.title}
        titles |= {"seeds:Q": "number of seeds", "diverged:Q": "diverged runs"}
        tips["tooltip"] = [alt.Tooltip(field, title=title) for field, title in titles.items()]
    step = shape.width / len(shape.sizes)
    crosses = chart.mark_text(text="×", fontSize=13, color=GREY, dx=9 - step / 2, dy=-6)
    layers = [
        chart.properties(name=f"{stem}_cells")
        .mark_rect(stroke="white")
        .encode(x=x, y=y, color=_map_color(shape), **tips),
        chart.transform_filter("isValid(datum.best)")
        .mark_rect(filled=False, stroke="black", strokeWidth=2.5)
        .encode(x=x, y=y),
        crosses.transform_filter("datum.diverged > 0").encode(x=x, y=y),
    ]
    if step >= _LEAST_CELL and has_numbers:
        digits = {(True, True): "+.2f", (True, False): ".2f"}.get((shape.factor == 100, shape.of == "gain"), ".3~g")
        dark = f"abs(datum.value) > {0.6 * shape.reach}" if shape.of == "gain" else f"datum.value < {shape.middle}"
        ink = alt.when(dark).then(alt.value("white")).otherwise(alt.value("#222222"))
        text = alt.Text("value:Q", format=digits)
        layers.append(chart.mark_text(fontSize=12).encode(x=x, y=y, text=text, color=ink))
    return layers


def _map_color(shape: _Shape) -> Any:
    """Return the colours of a heat map: diverging around 0 for gains, viridis for metrics."""
    import altair as alt

    scale = alt.Scale(scheme="viridis")
    if shape.of == "gain":
        ends = [-shape.reach, 0, shape.reach]
        scale = alt.Scale(domain=ends, range=["#2166ac", "#f7f7f7", "#c2560a"], interpolate="lab", clamp=True)
    length = max(60, shape.height - 40)
    legend = alt.Legend(title=shape.title, orient="right", gradientLength=length, titleFontWeight="normal")
    return alt.Color("value:Q", scale=scale, legend=legend)


def _down(column: str, levels: list[Any]) -> Any:
    import altair as alt

    if column == "rho":
        return alt.Y("rho:O", title=label("rho"), sort=levels, axis=alt.Axis(format=",~r", labelOverlap="greedy"))
    return alt.Y(f"{column}:N", title=None, sort=levels, axis=alt.Axis(labelLimit=360))


def _reach(values: list[float]) -> tuple[float, bool]:
    """Return the gain with the darkest colour, and whether some values exceed it.

    Otherwise large negative gains, at rhos that break training, would leave the positive ones almost white.
    """
    most = max(map(abs, values), default=0.0) or 1.0
    gain = 1.5 * max([*values, 0.0])
    return (gain, True) if 0 < gain < most else (most, False)


def metric_against_rho(
    runs: Table,
    *,
    paper: Table,
    metric: str = "test_metric",
    metric_name: str = "accuracy",
    base: str = "SGD",
    name: str = "metric_by_rho",
    interactive: bool = False,
) -> Any:
    """Draw the metric against rho, with the base at 0 and the paper's values, one panel per network.

    Args:
      runs: one row per run with `panel`, `rho`, `seed` and `value`.
      paper: rows with `panel`, `rho` and `value`.
      metric, metric_name, base: as for `gain.metric_against_width`. name, interactive: as for `lines.figure`.
    """
    import altair as alt

    rows, printed = to_rows(runs), to_rows(paper)
    factor = 100 if is_percent(metric_name) else 1
    panels = []
    for title in dict.fromkeys(row["panel"] for row in rows):
        panel_rows = [row for row in rows if row["panel"] == title]
        dots = [
            {"x": row["rho"], "value": factor * row["value"]}
            | {column: row[column] for column in ("run", "rho", "seed") if column in row}
            for row in panel_rows
        ]
        paper_points = [{"x": row["rho"], "mean": factor * row["value"]} for row in printed if row["panel"] == title]
        drawn = [lines.Line(f"{base} (ρ = 0) and SAM", SAM, dots)]
        drawn += [lines.Line(lines.PAPER, SAM, [], paper_points, is_hollow=True)] if paper_points else []
        # Small and large networks differ too much to share an axis.
        y = alt.Y("value:Q", title=label(metric, metric_name=metric_name), scale=axes.padded_scale())
        panels.append(lines.Panel(title, drawn, y=y))
    return lines.figure(
        panels,
        name=name,
        title=f"From {base} to large ρ",
        across=lines.Across("rho", sorted({row["rho"] for row in [*rows, *printed]})),
        y=alt.Y("value:Q"),
        interactive=interactive,
    )
