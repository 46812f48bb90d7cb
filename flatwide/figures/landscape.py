"""The loss around and between minima: along a line, on a plane, and along the training trajectory."""

import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from flatwide.figures import axes
from flatwide.figures.drawing import Drawing, Row, evenly, panel, parameters, seeds, short
from flatwide.figures.labels import label, wrapped
from flatwide.figures.style import BASE, SAM, Style, colors

_MOST_CELLS = 31  # per side; finer planes are thinned evenly
_MOST_POINTS = 200
_MOST_LEVELS = 9  # a legend of ten bands is as high as its panel
_SHAPES = ("circle", "square", "diamond", "cross")


def line_profiles(runs: Sequence[Mapping[str, Any]], *, heading: str, name: str, style: Style) -> Any:
    """Draw the loss along the straight line between two minima, one curve per width.

    Args:
      runs: `num_params`, `seed`, `rho`, `line_positions` (0 is the base, 1 is SAM) and `line_losses`, both [points].
    """
    import altair as alt

    sizes = sorted({run["num_params"] for run in runs})
    series = dict(zip(map(parameters, sizes), colors(len(sizes), ordered=True), strict=True))
    drawing, rows = Drawing(name, series=series, interactive=style.interactive), []
    for run in runs:
        facts = {"of": parameters(run["num_params"]), "seed": run["seed"], "rho": run["rho"]}
        positions, losses = (np.asarray(run[f"line_{axis}"], float).ravel() for axis in ("positions", "losses"))
        for index in evenly(len(positions), _MOST_POINTS):
            if np.isfinite(losses[index]):
                rows.append({"x": short(positions[index]), "loss": short(losses[index])} | facts)
    drawing.add("points", rows)
    curves = drawing.view("points", "seeds").mark_line(strokeWidth=2)
    curves = curves.encode(
        x=alt.X("x:Q", title=f"from {style.base} (0) to SAM (1)", axis=alt.Axis(grid=False)),
        y=alt.Y("loss:Q", title=label("train_loss"), **axes.scaled((row["loss"] for row in rows), log_from=10)),
        color=drawing.color,
        detail="seed:N",
        **drawing.tips({"of": "series", "rho": "ρ", "seed": "seed"}, x="position", loss=label("train_loss")),
    )
    curves.width, curves.height = 560, 320
    note = f"linear interpolation between the two networks of one seed ({seeds(runs)})"
    return drawing.finish([curves], title=heading, notes=[note])


def planes(runs: Sequence[Mapping[str, Any]], *, heading: str, name: str, style: Style) -> Any:
    """Draw the loss on planes as colours, one panel per run, on a shared logarithmic scale, with paths on top.

    Args:
      runs: `arm`, `num_params`, `seed`, `rho`, `x` [columns], `y` [rows], `losses` [rows, columns], and
        optionally a `path` [points, 2]; `x_title` and `y_title` name the axes.
    """
    import altair as alt

    drawing = Drawing(name, interactive=style.interactive)
    cells = [_cells(run) for run in runs]
    ends = [choose(row["loss"] for rows in cells for row in rows) for choose in (min, max)]
    scale = alt.Scale(type="log" if ends[0] > 0 else "linear", scheme="viridis", reverse=True, domain=ends)
    legend = alt.Legend(title=label("train_loss"), orient="right", gradientLength=180, titleFontWeight="normal")
    color = alt.Color("loss:Q", scale=scale, legend=legend)
    panels, has_path = [], False
    for index, (run, rows) in enumerate(zip(runs, cells, strict=True)):
        path = np.asarray(run.get("path", np.empty((0, 2))), dtype=float).reshape(-1, 2)
        points = [{"left": short(a), "bottom": short(b)} for a, b in path[evenly(len(path), _MOST_POINTS)].tolist()]
        walk = _path(drawing, f"{index}", points) if points else []
        has_path |= bool(points)
        panels.append(_plane(drawing, f"{index}", run, rows, color, walk, base=style.base))
    notes = [f"{seeds(runs)} of each{'; point: the end of training' if has_path else ''}"]
    return drawing.finish(panels, title=heading, notes=notes, color="shared", x="independent", y="independent")


def contours(runs: Sequence[Mapping[str, Any]], *, heading: str, name: str, style: Style) -> Any:
    """Draw filled contours of the loss, one panel with its own levels per run, with marked networks on top.

    Args:
      runs: as for `planes`, and `marked`, the names and points [2] of at most four networks, the same names in each
        run, and `note`, which is printed above the panel.
    """
    import altair as alt

    drawing, panels = Drawing(name, interactive=style.interactive), []
    for index, run in enumerate(runs):
        losses = np.asarray(run["losses"], float).reshape(len(np.ravel(run["y"])), -1)
        levels = _levels(losses)
        names = _names(levels)
        sides = {axis: _edges(np.asarray(run[axis], float).ravel()) for axis in "xy"}
        scale = alt.Scale(domain=names, scheme="viridis", reverse=True)
        legend = alt.Legend(title="training loss", orient="right", symbolType="square", symbolSize=180, columns=1)
        color = alt.Color("loss:N", scale=scale, legend=legend, sort=names)
        points = [{"left": short(a), "bottom": short(b), "network": who} for who, (a, b) in run["marked"]]
        marks = _marks(drawing, f"{index}", points)
        rows = _bands(losses, levels, names, **sides)
        panels.append(_plane(drawing, f"{index}", run, rows, color, [marks], base=style.base))
    notes = [f"{seeds(runs)} of each"]
    own: Row = dict.fromkeys(("color", "x", "y"), "independent")
    return drawing.finish(panels, title=heading, notes=notes, shape="shared", **own)


def _plane(
    drawing: Drawing,
    stem: str,
    run: Mapping[str, Any],
    cells: Iterable[Row],
    color: Any,
    marks: list[Any],
    *,
    base: str,
) -> Any:
    """Draw the plane of a run as coloured rectangles, with marks on top."""
    import altair as alt

    share: Row = {"scale": alt.Scale(nice=False, zero=False), "axis": alt.Axis(grid=False, tickCount=5)}
    x = alt.X("left:Q", title=wrapped(run.get("x_title", "first direction")), **share)
    y = alt.Y("bottom:Q", title=wrapped(run.get("y_title", "second direction")), **share)
    drawing.add(f"{stem}_cells", cells)
    shown = drawing.view(f"{stem}_cells", f"{stem}_seeds").mark_rect()
    tips = drawing.tips({"loss": label("train_loss")})
    layers = [shown.encode(x=x, y=y, x2="right:Q", y2="top:Q", color=color, **tips), *marks]
    who = base if run["arm"] == "base" else f"SAM, ρ = {run['rho']:g}"
    note = {"subtitle": [run["note"]]} if "note" in run else {}
    return panel(layers, (250, 230), f"{who}, {parameters(run['num_params'])}", fontSize=13, **note)


def _path(drawing: Drawing, stem: str, points: list[Row]) -> list[Any]:
    """Draw a path in a plane, with a dot at its end."""
    import altair as alt

    drawing.add(f"{stem}_path", (point | {"step": step} for step, point in enumerate(points)))
    at = {"x": alt.X("left:Q"), "y": alt.Y("bottom:Q")}
    halo, walk, end = (drawing.view(f"{stem}_path", f"{stem}_{kind}") for kind in ("halo", "walk", "end"))
    end = end.transform_filter(f"datum.step == {len(points) - 1}")
    dot = end.mark_point(filled=True, opacity=1, color=SAM, stroke="white", strokeWidth=1, size=70)
    return [
        halo.mark_line(color="white", strokeWidth=4).encode(**at, order="step:Q"),
        walk.mark_line(color=SAM, strokeWidth=2).encode(**at, order="step:Q"),
        dot.encode(**at),
    ]


def _marks(drawing: Drawing, stem: str, points: list[Row]) -> Any:
    """Mark networks in a plane, each with a different shape."""
    import altair as alt

    drawing.add(f"{stem}_networks", points)
    names = [point["network"] for point in points]
    fill = alt.Scale(domain=names, range=[BASE, BASE, SAM, "white"][: len(names)])
    legend = alt.Legend(symbolType=alt.Undefined, symbolStrokeWidth=1.5, symbolSize=110, columns=2)
    shape = alt.Shape("network:N", scale=alt.Scale(domain=names, range=list(_SHAPES)), legend=legend)
    marks = drawing.view(f"{stem}_networks", f"{stem}_networks")
    marks = marks.mark_point(size=110, stroke="black", strokeWidth=1.5, opacity=1)
    at = {"x": alt.X("left:Q"), "y": alt.Y("bottom:Q")}
    return marks.encode(**at, shape=shape, fill=alt.Fill("network:N", scale=fill, legend=legend))


def _cells(run: Mapping[str, Any]) -> list[Row]:
    """List the rectangles around the points of a plane."""
    x, y = (np.asarray(run[axis], dtype=float).ravel() for axis in "xy")
    losses = np.asarray(run["losses"], dtype=float).reshape(len(y), len(x))
    columns, rows = evenly(len(x), _MOST_CELLS), evenly(len(y), _MOST_CELLS)
    across, down = _edges(x[columns]), _edges(y[rows])
    return [
        _rectangle(across[i], across[i + 1], down[j], down[j + 1]) | {"loss": short(losses[row, column])}
        for j, row in enumerate(rows)
        for i, column in enumerate(columns)
        if np.isfinite(losses[row, column])
    ]


def _edges(points: np.ndarray) -> list[float]:
    """Return cell borders midway between their points."""
    middles = (points[1:] + points[:-1]) / 2
    return [short(edge) for edge in (2 * points[0] - middles[0], *middles, 2 * points[-1] - middles[-1])]


def _levels(losses: np.ndarray) -> list[float]:
    """Choose round levels between the smallest and the largest loss, as fine as their number allows."""
    losses = losses[np.isfinite(losses)]
    least, most = float(losses.min(initial=math.inf)), float(losses.max(initial=0))
    if not 0 < least < most:
        return []
    return [level for level in axes.round_numbers(least, most, most=_MOST_LEVELS) if least < level < most]


def _names(levels: Sequence[float]) -> list[str]:
    """Name the bands between levels, from the lowest."""
    if not levels:
        return ["all"]
    texts = [f"{level:g}" if 1e-3 <= level < 1e4 else f"1e{round(math.log10(level))}" for level in levels]
    between = [f"{low} to {high}" for low, high in itertools.pairwise(texts)]
    return [f"below {texts[0]}", *between, f"above {texts[-1]}"]


def _rectangle(left: float, right: float, bottom: float, top: float) -> Row:
    """Return a row of a rectangle."""
    return {"left": left, "right": right, "bottom": bottom, "top": top}


def _bands(
    losses: np.ndarray, levels: Sequence[float], names: Sequence[str], *, x: Sequence[float], y: Sequence[float]
) -> list[Row]:
    """List rectangles around the points of a plane, merging neighbours in a row that lie in the same band.

    Args:
      losses: [rows, columns]; what is not a number lies above all levels.
      x, y: borders of the columns and rows.
    """
    band = np.searchsorted(levels, np.where(np.isnan(losses), np.inf, losses), side="right")
    shown = []
    for j, row in enumerate(band):
        starts = [0, *(np.flatnonzero(np.diff(row)) + 1).tolist(), len(row)]
        for start, end in itertools.pairwise(starts):
            shown.append(_rectangle(x[start], x[end], y[j], y[j + 1]) | {"loss": names[row[start]]})
    return shown
