"""The loss around and between minima: along a line, on a plane, and along the training trajectory."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from flatwide.figures import axes
from flatwide.figures.labels import label, wrapped
from flatwide.figures.pieces import short
from flatwide.figures.style import SAM, colors, finish

_MOST_CELLS = 31  # per side; finer planes are thinned evenly
_MOST_POINTS = 200


def line_profiles(
    runs: Sequence[Mapping[str, Any]], *, base: str = "SGD", name: str = "loss_on_line", interactive: bool = False
) -> Any:
    """Draw the loss along the straight line between two minima, one curve per width.

    Args:
      runs: `num_params`, `seed`, `rho`, `line_positions` (0 is the base, 1 is SAM) and `line_losses`, both [points].
      base: name of the base optimizer.
      name, interactive: as for `lines.figure`.
    """
    import altair as alt

    sizes = sorted({run["num_params"] for run in runs})
    scale = alt.Scale(domain=[_of(size) for size in sizes], range=colors(len(sizes), ordered=True))
    rows = []
    for run in runs:
        positions, losses = (
            np.asarray(run[f"line_{quantity}"], dtype=float).ravel() for quantity in ("positions", "losses")
        )
        for index in _evenly(len(positions), _MOST_POINTS):
            if np.isfinite(losses[index]):
                point = {"x": short(positions[index]), "loss": short(losses[index])}
                rows.append(point | {"of": _of(run["num_params"]), "seed": run["seed"], "rho": run["rho"]})
    is_log = rows and 0 < 10 * min(row["loss"] for row in rows) < max(row["loss"] for row in rows)
    y = alt.Scale(type="log", nice=False, padding=8) if is_log else alt.Scale(zero=False)
    ticks = axes.log_axis(row["loss"] for row in rows) if is_log else alt.Axis(tickCount=6)
    tips: dict[str, Any] = {"tooltip": ["of:N", "rho:N", "seed:N", "x:Q", "loss:Q"]} if interactive else {}
    data = alt.NamedData(name=f"{name}_points")
    chart = alt.Chart(data, name=f"{name}_seeds", width=560, height=320).mark_line(strokeWidth=2)
    chart = chart.encode(
        x=alt.X("x:Q", title=f"from {base} (0) to SAM (1)", axis=alt.Axis(grid=False)),
        y=alt.Y("loss:Q", title=label("train_loss"), scale=y, axis=ticks),
        color=alt.Color("of:N", scale=scale, legend=alt.Legend() if len(sizes) > 1 else None),
        detail="seed:N",
        **tips,
    )
    subtitle = [f"linear interpolation between the two networks of one seed ({_seeds(runs)})"]
    title = alt.Title(f"Loss from {base} to SAM", subtitle=subtitle)
    return finish(chart, title=title, datasets={data.name: rows})


def planes(
    runs: Sequence[Mapping[str, Any]],
    *,
    base: str = "SGD",
    heading: str = "The loss around the minima",
    name: str = "loss_on_plane",
    interactive: bool = False,
) -> Any:
    """Draw the loss on planes as colours, one panel per run, on a shared logarithmic scale, with paths on top.

    Args:
      runs: `arm`, `num_params`, `seed`, `rho`, `x` [columns], `y` [rows], `losses` [rows, columns], and
        optionally a `path` [points, 2]; `x_title` and `y_title` name the axes.
      base: name of the base optimizer. name, interactive: as for `lines.figure`.
    """
    import altair as alt

    tables: dict[str, list[dict[str, Any]]] = {}
    cells = [_cells(run) for run in runs]
    losses = [row["loss"] for rows in cells for row in rows]
    kind = "log" if min(losses) > 0 else "linear"
    reach = alt.Scale(type=kind, scheme="viridis", reverse=True, domain=[min(losses), max(losses)])
    legend = alt.Legend(title=label("train_loss"), orient="right", gradientLength=180, titleFontWeight="normal")
    panels = []
    for index, (run, rows) in enumerate(zip(runs, cells, strict=True)):
        stem = f"{name}_{index}"
        tables[f"{stem}_cells"] = rows
        x = alt.X(
            "left:Q", title=wrapped(run.get("x_title", "first direction")), scale=alt.Scale(nice=False, zero=False)
        )
        y = alt.Y(
            "bottom:Q", title=wrapped(run.get("y_title", "second direction")), scale=alt.Scale(nice=False, zero=False)
        )
        chart = alt.Chart(alt.NamedData(name=f"{stem}_cells"), name=f"{stem}_seeds").mark_rect()
        tips: dict[str, Any] = {"tooltip": [alt.Tooltip("loss:Q", title=label("train_loss"))]} if interactive else {}
        color = alt.Color("loss:Q", scale=reach, legend=legend)
        layers: list[Any] = [chart.encode(x=x, y=y, x2="right:Q", y2="top:Q", color=color, **tips)]
        path = [{"left": short(a), "bottom": short(b), "step": k} for k, (a, b) in enumerate(_path(run))]
        if path:
            tables[f"{stem}_path"] = path
            data = alt.NamedData(name=f"{stem}_path")
            at = {"x": alt.X("left:Q"), "y": alt.Y("bottom:Q"), "order": alt.Order("step:Q")}
            layers += [
                alt.Chart(data, name=f"{stem}_{kind}").mark_line(color=color, strokeWidth=width).encode(**at)
                for kind, color, width in (("halo", "white", 4), ("walk", SAM, 2))
            ]
            end = alt.Chart(data, name=f"{stem}_end").transform_filter(f"datum.step == {len(path) - 1}")
            dot = end.mark_point(filled=True, opacity=1, color=SAM, stroke="white", strokeWidth=1, size=70)
            layers.append(dot.encode(x=at["x"], y=at["y"]))
        who = base if run["arm"] == "base" else f"SAM, ρ = {run['rho']:g}"
        title = alt.Title(f"{who}, {_of(run['num_params'])}", fontSize=13)
        panels.append(alt.LayerChart(layer=layers, width=260, height=220, title=title))
    has_path = any(len(_path(run)) for run in runs)
    title = alt.Title(heading, subtitle=[f"{_seeds(runs)} of each{'; point: the end of training' if has_path else ''}"])
    scales = {"color": "shared", "x": "independent", "y": "independent"}
    whole = alt.ConcatChart(concat=panels, columns=2)
    return finish(whole, title=title, datasets=tables, shared_or_independent=scales)


def _cells(run: Mapping[str, Any]) -> list[dict[str, float]]:
    """List the rectangles around the points of a plane."""
    x, y = (np.asarray(run[axis], dtype=float).ravel() for axis in "xy")
    losses = np.asarray(run["losses"], dtype=float).reshape(len(y), len(x))
    columns, rows = _evenly(len(x), _MOST_CELLS), _evenly(len(y), _MOST_CELLS)
    (left, right), (bottom, top) = _edges(x[columns]), _edges(y[rows])
    return [
        {"left": left[i], "right": right[i], "bottom": bottom[j], "top": top[j], "loss": short(losses[row, column])}
        for j, row in enumerate(rows)
        for i, column in enumerate(columns)
        if np.isfinite(losses[row, column])
    ]


def _edges(points: np.ndarray) -> tuple[list[float], list[float]]:
    """Return cell borders midway between their points."""
    middles = (points[1:] + points[:-1]) / 2
    first, last = 2 * points[0] - middles[0], 2 * points[-1] - middles[-1]
    edges = [short(edge) for edge in (first, *middles, last)]
    return edges[:-1], edges[1:]


def _path(run: Mapping[str, Any]) -> np.ndarray:
    path = np.asarray(run.get("path", np.empty((0, 2))), dtype=float).reshape(-1, 2)
    return path[_evenly(len(path), _MOST_POINTS)]


def _evenly(count: int, most: int) -> list[int]:
    return sorted({round(index) for index in np.linspace(0, count - 1, min(count, most)).tolist()}) if count else []


def _of(size: int) -> str:
    return f"{size:,} parameters"


def _seeds(runs: Sequence[Mapping[str, Any]]) -> str:
    seeds = sorted({run["seed"] for run in runs})
    return f"seed{'s' * (len(seeds) > 1)} {' and '.join(map(str, seeds))}"
