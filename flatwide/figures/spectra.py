"""Spectral density of the Hessian."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from flatwide.figures.lines import legend_selection, opacity, panel_chart
from flatwide.figures.pieces import short
from flatwide.figures.style import BASE, SAM, finish

_MOST_POINTS = 200
_FLOOR = 1e-6  # of the highest density: below this, only the smoothing kernel is visible


def densities(
    runs: Sequence[Mapping[str, Any]], *, base: str = "SGD", name: str = "spectra", interactive: bool = False
) -> Any:
    """Draw the densities of runs on a logarithmic axis, one panel per width, with bands of one standard error.

    Args:
      runs: `arm` ("base" or "sam"), `num_params`, `seed`, `rho`, and `grid`, `density`, `density_error`, all [points].
      base: name of the base optimizer.
      name, interactive: as for `lines.figure`.
    """
    import altair as alt

    arms = {"base": (base, BASE), "sam": ("SAM", SAM)}
    used = [arm for arm in arms if any(run["arm"] == arm for run in runs)]
    scale = alt.Scale(domain=[arms[arm][0] for arm in used], range=[arms[arm][1] for arm in used])
    color = alt.Color("of:N", scale=scale, legend=alt.Legend() if len(used) > 1 else None)
    hide = f"{name}_hidden" if interactive and len(used) > 1 else None
    tables: dict[str, list[dict[str, Any]]] = {}
    panels = []
    for size in sorted({run["num_params"] for run in runs}):
        data = alt.NamedData(name=f"{name}_{size}")
        here = [run for run in runs if run["num_params"] == size]
        tables[data.name] = [row | {"of": arms[run["arm"]][0]} for run in here for row in points(run)]
        x = alt.X("x:Q", title="eigenvalue of the Hessian (loss / parameter²)", axis=alt.Axis(grid=False, tickCount=6))
        axis = alt.Axis(tickCount=5, format=".0e")
        y = alt.Y("density:Q", title="density", scale=alt.Scale(type="log", nice=False), axis=axis)
        ends = (alt.Y("low:Q", title="density"), alt.Y2("high:Q"))
        band = alt.Chart(data, name=f"{name}_{size}_bands").mark_area(clip=True)
        line = alt.Chart(data, name=f"{name}_{size}_seeds").mark_line(strokeWidth=2, clip=True)
        layers = [
            band.encode(x=x, y=ends[0], y2=ends[1], color=color, opacity=opacity(0.25, hide)),
            line.encode(x=x, y=y, color=color, opacity=opacity(1, hide)),
        ]
        panels.append(panel_chart(layers, (300, 220), title=f"{size:,} parameters"))
    seeds = sorted({run["seed"] for run in runs})
    words = f"seed {seeds[0]} of each" if len(seeds) == 1 else f"one seed of each ({' and '.join(map(str, seeds))})"
    title = alt.Title("Spectral density of the Hessian", subtitle=[f"{words}; bands: one standard error"])
    whole = alt.ConcatChart(concat=panels, columns=2)
    params = [legend_selection(whole, name)] if hide else []
    return finish(whole, title=title, datasets=tables, params=params, shared_or_independent={"color": "shared"})


def points(run: Mapping[str, Any]) -> list[dict[str, float]]:
    """List the points of a density that a chart shows: evenly spaced on the grid, above a millionth of the maximum."""
    grid, density = (np.asarray(run[name], dtype=float).ravel() for name in ("grid", "density"))
    error = np.asarray(run.get("density_error", np.zeros_like(density)), dtype=float).ravel()
    density, error = (np.nan_to_num(values) for values in (density, error))
    floor = _FLOOR * float(density.max(initial=0)) or 1e-300
    chosen = np.unique(np.linspace(0, len(grid) - 1, min(len(grid), _MOST_POINTS)).round().astype(int))
    rows = zip(grid[chosen], density[chosen], error[chosen], strict=True)
    return [
        {"x": short(x)}
        | ({"density": short(middle)} if middle > floor else {})
        | ({"low": short(max(middle - spread, floor)), "high": short(middle + spread)} if middle > floor else {})
        for x, middle, spread in rows
    ]
