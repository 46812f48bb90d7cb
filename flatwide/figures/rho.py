"""Best rho of each width, and gain and metric against rho and width."""

from collections import Counter
from typing import Any

from flatwide.figures import lines
from flatwide.figures.drawing import Drawing, panel, short
from flatwide.figures.gain import against, value_axis
from flatwide.figures.labels import capital, label, num_seeds
from flatwide.figures.style import DEFAULT, GREY, SAM, Style
from flatwide.figures.tables import Table, by_part, to_rows

_LEAST_CELL = 44  # pixels: the number does not fit into a narrower cell


def best_rho_against_width(
    best: Table,
    *,
    seeds: Table,
    paper: "Table | None" = None,
    name: str = "best_rho_by_width",
    style: Style = DEFAULT,
) -> Any:
    """Draw the best rho of each width with its confidence set, and the best rho of each seed, one panel per part.

    Args:
      best: the table of `analysis.rho.best_rho`, with a column `part` if there are several.
      seeds: `num_params`, `seed` and `best_rho` of each seed, and `part`.
      paper: rows with `num_params` and `best_rho`, and `part` if there are several.
    """
    import altair as alt

    each, x = by_part(to_rows(seeds)), "num_params"
    panels = []
    for part, rows in by_part(row for row in to_rows(best) if "best_rho" in row).items():
        counts = Counter((row["num_params"], row["best_rho"]) for row in each.get(part, ()))
        counted = [{"num_params": size, "best_rho": rho, "count": n} for (size, rho), n in sorted(counts.items())]
        means = lines.intervals(rows, "best_rho", x=x, low="best_rho_low", high="best_rho_high")
        drawn = [lines.Line("SAM", SAM, lines.dots(counted, "best_rho", x=x), means)]
        panels.append(lines.Panel(part, drawn + lines.hollow(to_rows(paper), "best_rho", SAM, part=part, x=x)))
    marks = [row for part in panels for line in part.lines if not line.is_hollow for row in line.dots + line.means]
    rhos = {row[end] for row in marks for end in ("value", "mean", "low", "high") if end in row}
    scale = alt.Scale(type="log", nice=False, padding=14)
    axis = alt.Axis(values=sorted(rhos), format=",~r", labelOverlap="greedy")
    return lines.figure(
        panels,
        name=name,
        title="Best ρ",
        across=lines.Across("num_params"),
        y=alt.Y("value:Q", title=label("best_rho"), scale=scale, axis=axis),
        subtitle="large points: best mean over {seeds}; bars: 95 % confidence set; small dots: best ρ of each seed",
        interactive=style.interactive,
    )


def heat_map(
    cells: Table, *, of: str = "gain", down: str = "rho", name: str = "rho_by_width", style: Style = DEFAULT
) -> Any:
    """Draw the mean gain, or the mean metric, of each rho and width as a heat map, one panel per part.

    Args:
      cells: one row per width and rho, with `num_params`, `rho`, the column `of` (missing if every seed diverged),
        `num_seeds`, `num_diverged`, `is_best`, and `part` if there are several.
      down: column of the vertical axis: "rho", or "part" for a single panel.
      of: "gain", or "mean" of the metric.
    """
    rows, is_gain, times = to_rows(cells), of == "gain", style.factor
    parts = by_part(rows) if down == "rho" else {"": rows}
    sizes, levels = sorted({row["num_params"] for row in rows}), list(dict.fromkeys(row[down] for row in rows))
    most_wide, most_high = (560, 320) if len(parts) == 1 else (300, 200)
    width = min(most_wide, 90 * len(sizes))
    height = min(most_high, 40 * len(levels)) if down == "rho" else 22 * len(levels)
    values = [times * row[of] for row in rows if of in row]
    reach = _reach(values)
    title = label("gain" if is_gain else style.metric, metric_name=style.metric_name)
    drawing = Drawing(name, interactive=style.interactive)
    facts = {"x": label("num_params"), down: label(down)}
    tips = drawing.tips(facts, value=title, seeds="number of seeds", diverged="diverged runs")
    at = _cell_axes(sizes, levels, down)
    color = _colors(title, reach if is_gain else None, max(60, height - 40))
    step, panels = width / len(sizes), []
    for index, (part, here) in enumerate(parts.items()):
        stem = f"{index}_means"
        drawing.add(
            stem,
            (
                {"x": row["num_params"], down: row[down], "seeds": row["num_seeds"], "diverged": row["num_diverged"]}
                | ({"value": short(times * row[of], digits=6)} if of in row else {})
                | ({"best": 1} if row["is_best"] else {})
                for row in here
            ),
        )
        cell, best, lost = (drawing.view(stem, f"{index}_{kind}") for kind in ("cells", "best", "diverged"))
        framed = best.transform_filter("isValid(datum.best)")
        crosses = lost.transform_filter("datum.diverged > 0")
        layers = [
            cell.mark_rect(stroke="white").encode(**at, color=color, **tips),
            framed.mark_rect(filled=False, stroke="black", strokeWidth=2.5).encode(**at),
            crosses.mark_text(text="×", fontSize=13, color=GREY, dx=9 - step / 2, dy=-6).encode(**at),
        ]
        if step >= _LEAST_CELL and len(parts) == 1:
            digits = ("+" * is_gain + ".2f") if times == 100 else ".3~g"
            middle = sum(values) / max(len(values), 1)
            dark = f"abs(datum.value) > {0.6 * reach}" if is_gain else f"datum.value < {middle}"
            numbers = drawing.view(stem, f"{index}_numbers").mark_text(fontSize=12)
            layers.append(numbers.encode(**at, **_numbers(digits, dark)))
        panels.append(panel(layers, (width, height), part if len(parts) > 1 else None))
    number = num_seeds(row["num_seeds"] for row in rows)
    words = f"gain of SAM over {style.base}" if is_gain else title
    notes = [
        number if number == "one seed" else f"mean of {number}",
        "black frame: best ρ of the width" if any(row["is_best"] for row in rows) else "",
        f"colours saturate at ±{reach:.3g}" if is_gain and reach < max(map(abs, values), default=0) else "",
        "×: a seed diverged" if any(row["num_diverged"] for row in rows) else "",
    ]
    heading = capital(words) if number == "one seed" else f"Mean {words}"
    return drawing.finish(panels, title=heading, notes=["; ".join(filter(None, notes))], color="shared")


def _cell_axes(sizes: list[int], levels: list[Any], down: str) -> dict[str, Any]:
    """Return the channels of both positions."""
    import altair as alt

    ticks: dict[str, Any] = {"labelOverlap": "greedy"}
    across = alt.Axis(labelAngle=0, grid=False, format=lines.Across("num_params").number, **ticks)
    x = alt.X("x:O", title=label("num_params"), sort=sizes, axis=across)
    if down == "rho":
        levels, axis = sorted(levels, reverse=True), alt.Axis(format=",~r", **ticks)
        return {"x": x, "y": alt.Y("rho:O", title=label("rho"), sort=levels, axis=axis)}
    return {"x": x, "y": alt.Y(f"{down}:N", title=None, sort=levels, axis=alt.Axis(labelLimit=360))}


def _colors(title: str, reach: float | None, length: int) -> Any:
    """Return the colours of a heat map: diverging around 0 for gains, which have a reach, viridis for metrics."""
    import altair as alt

    scale = alt.Scale(scheme="viridis")
    if reach is not None:
        ends = [-reach, 0, reach]
        scale = alt.Scale(domain=ends, range=["#2166ac", "#f7f7f7", "#c2560a"], interpolate="lab", clamp=True)
    legend = alt.Legend(title=title, orient="right", gradientLength=length, titleFontWeight="normal")
    return alt.Color("value:Q", scale=scale, legend=legend)


def _numbers(digits: str, dark: str) -> dict[str, Any]:
    """Return the channels of a cell's number, which is white where the cell is `dark`."""
    import altair as alt

    ink = alt.when(dark).then(alt.value("white")).otherwise(alt.value("#222222"))
    return {"text": alt.Text("value:Q", format=digits), "color": ink}


def _reach(values: list[float]) -> float:
    """Return the gain with the darkest colour; larger ones have it too.

    Otherwise large negative gains, at rhos that break training, would leave the positive ones almost white.
    """
    most = max(map(abs, values), default=0.0) or 1.0
    gain = 1.5 * max([*values, 0.0])
    return gain if 0 < gain < most else most


def metric_against_rho(
    runs: Table, *, paper: "Table | None", name: str = "metric_by_rho", style: Style = DEFAULT
) -> Any:
    """Draw the metric against rho, with the base at 0 and the paper's values, one panel per network.

    Args:
      runs: one row per run with `panel`, `rho`, `seed` and `value`.
      paper: rows with `panel`, `rho` and `value`.
    """
    printed = by_part(to_rows(paper), "panel")
    share: dict[str, Any] = {"x": "rho", "factor": style.factor}
    # Small and large networks differ too much to share an axis.
    y = value_axis(style.metric, style)
    panels = [
        lines.Panel(
            title,
            [
                lines.Line(f"{style.base} (ρ = 0) and SAM", SAM, lines.dots(rows, "value", **share)),
                *lines.hollow(printed.get(title, ()), "value", SAM, **share),
            ],
            y=y,
        )
        for title, rows in by_part(to_rows(runs), "panel").items()
    ]
    return against(panels, "rho", style.metric, title=f"From {style.base} to large ρ", name=name, style=style)
