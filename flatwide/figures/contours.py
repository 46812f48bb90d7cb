"""Filled contour plots of the loss on planes through several minima."""

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from flatwide.figures.pieces import short
from flatwide.figures.style import BASE, SAM, finish

_MOST_BANDS = 9
_LADDERS = ((1, 2, 5), (1,))  # levels within a decade; the finest ladder with few enough bands is used
_SHAPES = ("circle", "square", "diamond", "cross")

Row = dict[str, Any]


def contours(
    runs: Sequence[Mapping[str, Any]],
    *,
    base: str = "SGD",
    heading: str = "The loss between minima",
    name: str = "loss_between_minima",
    interactive: bool = False,
) -> Any:
    """Draw filled contours of the loss, one panel with its own levels per run, with marked networks on top.

    Args:
      runs: `arm`, `num_params`, `seed`, `rho`, `x` [columns], `y` [rows], `losses` [rows, columns], `marked`, the names
        and points [2] of at most four networks, the same names in each run; `x_title` and `y_title` name the axes, and
        `note` is printed above the panel.
      base: name of the base optimizer. name, interactive: as for `lines.figure`.
    """
    import altair as alt

    tables: dict[str, list[Row]] = {}
    panels = []
    for index, run in enumerate(runs):
        stem = f"{name}_{index}"
        x = alt.X("left:Q", title=run["x_title"], scale=alt.Scale(nice=False, zero=False), axis=_ticks())
        y = alt.Y("bottom:Q", title=run["y_title"], scale=alt.Scale(nice=False, zero=False), axis=_ticks())
        levels = _levels(np.asarray(run["losses"], float))
        names = _names(levels)
        tables[f"{stem}_cells"] = _bands(run, levels, names)
        shades = alt.Scale(domain=names, scheme="viridis", reverse=True)
        legend = alt.Legend(title="training loss", orient="right", symbolType="square", symbolSize=180, columns=1)
        cells = alt.Chart(alt.NamedData(name=f"{stem}_cells"), name=f"{stem}_seeds").mark_rect()
        tips: Row = {"tooltip": [alt.Tooltip("loss:N", title="training loss")]} if interactive else {}
        color = alt.Color("loss:N", scale=shades, legend=legend, sort=names)
        layers = [cells.encode(x=x, y=y, x2="right:Q", y2="top:Q", color=color, **tips)]
        tables[f"{stem}_networks"] = [
            {"left": short(a), "bottom": short(b), "network": who} for who, (a, b) in run["marked"]
        ]
        layers.append(_marks(f"{stem}_networks", [who for who, _ in run["marked"]]))
        who = base if run["arm"] == "base" else f"SAM, ρ = {run['rho']:g}"
        above = alt.Title(f"{who}, {run['num_params']:,} parameters", subtitle=[run["note"]], fontSize=13)
        panels.append(alt.LayerChart(layer=layers, width=250, height=250, title=above))
    seeds = sorted({run["seed"] for run in runs})
    title = alt.Title(heading, subtitle=[f"seed{'s' * (len(seeds) > 1)} {' and '.join(map(str, seeds))} of each"])
    scales = {"color": "independent", "shape": "shared", "x": "independent", "y": "independent"}
    whole = alt.ConcatChart(concat=panels, columns=2)
    return finish(whole, title=title, datasets=tables, shared_or_independent=scales)


def _marks(data: str, names: Sequence[str]) -> Any:
    """Mark networks, each with a different shape."""
    import altair as alt

    fill = alt.Scale(domain=list(names), range=[BASE, BASE, SAM, "white"][: len(names)])
    legend = alt.Legend(symbolType=alt.Undefined, symbolStrokeWidth=1.5, symbolSize=110, columns=2)
    shape = alt.Shape("network:N", scale=alt.Scale(domain=list(names), range=list(_SHAPES)), legend=legend)
    points = alt.Chart(alt.NamedData(name=data), name=data)
    points = points.mark_point(size=110, stroke="black", strokeWidth=1.5, opacity=1)
    at = {"x": alt.X("left:Q"), "y": alt.Y("bottom:Q")}
    return points.encode(**at, shape=shape, fill=alt.Fill("network:N", scale=fill, legend=legend))


def _levels(losses: np.ndarray) -> list[float]:
    """Choose round levels between the smallest and the largest loss, as fine as the number of bands allows."""
    losses = losses[np.isfinite(losses)]
    least, most = float(losses.min(initial=math.inf)), float(losses.max(initial=0))
    if not 0 < least < most:
        return []
    powers = range(math.floor(math.log10(least)), math.ceil(math.log10(most)) + 1)
    ladders = [[float(f"{step}e{power}") for power in powers for step in steps] for steps in _LADDERS]
    ladders += [[10.0**power for power in powers if power % 2 == 0]]
    inside = [[level for level in ladder if least < level < most] for ladder in ladders]
    return next((levels for levels in inside if len(levels) < _MOST_BANDS), inside[-1])


def _names(levels: Sequence[float]) -> list[str]:
    """Name the bands between levels, from the lowest."""
    if not levels:
        return ["all"]
    texts = [f"{level:g}" if 1e-3 <= level < 1e4 else f"1e{round(math.log10(level))}" for level in levels]
    between = [f"{low} to {high}" for low, high in itertools.pairwise(texts)]
    return [f"below {texts[0]}", *between, f"above {texts[-1]}"]


def _bands(run: Mapping[str, Any], levels: Sequence[float], names: Sequence[str]) -> list[Row]:
    """List rectangles around the points of a plane, merging neighbours in a row that lie in the same band."""
    x, y = (np.asarray(run[axis], float).ravel() for axis in "xy")
    losses = np.asarray(run["losses"], float).reshape(len(y), len(x))
    band = np.searchsorted(levels, np.where(np.isnan(losses), np.inf, losses), side="right")
    columns, rows = _edges(x), _edges(y)
    rectangles = []
    for j, row in enumerate(band):
        starts = [0, *(np.flatnonzero(np.diff(row)) + 1).tolist()]
        for start, end in zip(starts, [*starts[1:], len(row)], strict=True):
            ends = {"left": columns[start], "right": columns[end], "bottom": rows[j], "top": rows[j + 1]}
            rectangles.append(ends | {"loss": names[row[start]]})
    return rectangles


def _edges(points: np.ndarray) -> list[float]:
    """Return cell borders midway between their points."""
    middles = (points[1:] + points[:-1]) / 2
    return [short(edge) for edge in (2 * points[0] - middles[0], *middles, 2 * points[-1] - middles[-1])]


def _ticks() -> Any:
    import altair as alt

    return alt.Axis(grid=False, tickCount=5)
