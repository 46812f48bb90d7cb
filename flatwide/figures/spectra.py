"""Spectral density of the Hessian."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from flatwide.figures.drawing import Drawing, evenly, panel, parameters, seeds, short
from flatwide.figures.style import BASE, SAM, Style
from flatwide.figures.tables import by_part

_MOST_POINTS = 200
_FLOOR = 1e-6  # of the highest density: below this, only the smoothing kernel is visible


def densities(runs: Sequence[Mapping[str, Any]], *, heading: str, name: str, style: Style) -> Any:
    """Draw the densities of runs on a logarithmic axis, one panel per width, with bands of one standard error.

    Args:
      runs: `arm` ("base" or "sam"), `num_params`, `seed`, `rho`, and `grid`, `density`, `density_error`, all [points].
    """
    import altair as alt

    arms = {"base": (style.base, BASE), "sam": ("SAM", SAM)}
    series = dict(shown for arm, shown in arms.items() if any(run["arm"] == arm for run in runs))
    drawing = Drawing(name, series=series, interactive=style.interactive)
    x = alt.X("x:Q", title="eigenvalue of the Hessian (loss / parameter²)", axis=alt.Axis(grid=False, tickCount=6))
    axis = alt.Axis(tickCount=5, format=".0e")
    y = alt.Y("density:Q", title="density", scale=alt.Scale(type="log", nice=False), axis=axis)
    ends = {"y": alt.Y("low:Q", title="density"), "y2": alt.Y2("high:Q")}
    panels = []
    for size, here in sorted(by_part(runs, "num_params").items()):
        drawing.add(f"{size}", (row | {"of": arms[run["arm"]][0]} for run in here for row in points(run)))
        band = drawing.view(f"{size}", f"{size}_bands").mark_area(clip=True)
        line = drawing.view(f"{size}", f"{size}_seeds").mark_line(strokeWidth=2, clip=True)
        layers = [
            band.encode(x=x, **ends, color=drawing.color, opacity=drawing.opacity(0.25)),
            line.encode(x=x, y=y, color=drawing.color, opacity=drawing.opacity(1)),
        ]
        panels.append(panel(layers, (300, 220), parameters(size)))
    note = f"{seeds(runs)} of each; bands: one standard error"
    return drawing.finish(panels, title=heading, notes=[note], color="shared")


def points(run: Mapping[str, Any]) -> list[dict[str, float]]:
    """List the points of a density that a chart shows: evenly spaced on the grid, above a millionth of the maximum."""
    grid, density = (np.asarray(run[name], dtype=float).ravel() for name in ("grid", "density"))
    error = np.asarray(run.get("density_error", np.zeros_like(density)), dtype=float).ravel()
    density, error = (np.nan_to_num(values) for values in (density, error))
    floor = _FLOOR * float(density.max(initial=0)) or 1e-300
    rows = []
    for at in evenly(len(grid), _MOST_POINTS):
        x, middle, spread = grid[at], density[at], error[at]
        ends = {"density": middle, "low": max(middle - spread, floor), "high": middle + spread}
        rows.append({"x": short(x)} | ({name: short(end) for name, end in ends.items()} if middle > floor else {}))
    return rows
