"""Functions learned by networks with one input, and their spread between seeds."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from flatwide.figures.drawing import Drawing, Row, evenly, panel, parameters, short
from flatwide.figures.style import BASE, SAM, Style

_MOST_POINTS = 121
_MARGIN = 0.15  # of the range of the targets, above and below it


def functions(runs: Sequence[Mapping[str, Any]], *, heading: str, name: str, style: Style) -> Any:
    """Draw the outputs of networks against their input: the base above, SAM below, one column per width.

    Each seed is a thin line, their mean a thick one, and the band is one standard deviation (n - 1) to either side. All
    panels share one vertical range, slightly larger than that of the targets; values outside it are clipped.

    Args:
      runs: `arm` ("base" or "sam"), `num_params`, `seed`, `rho`, `grid` and `outputs`, both [points], and
        optionally `inputs` and `targets` [n] of the training examples.
    """
    import altair as alt

    sizes, drawing = sorted({run["num_params"] for run in runs}), Drawing(name, interactive=style.interactive)
    reach: Row = {"scale": alt.Scale(domain=list(_range(runs)), nice=False, zero=False), "axis": alt.Axis(tickCount=5)}
    panels = []
    for arm, title, color in (("base", style.base, BASE), ("sam", "SAM", SAM)):
        of_arm = [run for run in runs if run["arm"] == arm]
        for size in sizes if of_arm else ():
            here = [run for run in of_arm if run["num_params"] == size]
            # Only the leftmost panel of a row has an axis title.
            y = alt.Y("output:Q", title="output" if size == sizes[0] else None, **reach)
            layers = _layers(drawing, here, f"{arm}_{size}", y, color)
            rho = f", ρ = {here[0]['rho']:g}" if arm == "sam" and here else ""
            words = [f"spread {spread(here):.2g}"] if len(here) > 1 else []
            who = f"{title}{rho}, {parameters(size)}"
            panels.append(panel(layers, (230, 190), who, subtitle=words, fontSize=13))
    num_seeds = len({run["seed"] for run in runs})
    band = f"mean and one standard deviation of {num_seeds} seeds" if num_seeds > 1 else "one seed: no spread"
    notes = [f"thin lines: each seed; thick and band: {band}"]
    return drawing.finish(panels, title=heading, notes=notes, columns=len(sizes))


def spread(runs: Sequence[Mapping[str, Any]]) -> float:
    """Compute the distance between the functions of several seeds, in output units.

    Returns: the root mean square over grid points of the standard deviation (n - 1) of the outputs between seeds. If
      training examples are known, only grid points between the outermost ones count: nothing is learned beyond them.
    """
    grid = np.asarray(runs[0]["grid"], float).ravel()
    outputs = np.stack([np.asarray(run["outputs"], float).ravel() for run in runs])
    inputs = np.ravel(runs[0].get("inputs", grid))
    is_between = (grid >= inputs.min()) & (grid <= inputs.max())
    return float(np.sqrt(np.mean(np.var(outputs[:, is_between], axis=0, ddof=1))))


def points(run: Mapping[str, Any]) -> list[Row]:
    """List the points of a function that a chart shows, evenly spaced on its grid."""
    grid, outputs = (np.asarray(run[name], float).ravel() for name in ("grid", "outputs"))
    return [{"input": short(grid[at]), "output": short(outputs[at])} for at in evenly(len(grid), _MOST_POINTS)]


def _layers(drawing: Drawing, runs: Sequence[Mapping[str, Any]], stem: str, y: Any, color: str) -> list[Any]:
    """Draw the functions of one arm and width."""
    import altair as alt

    x = alt.X("input:Q", title="input", scale=alt.Scale(nice=False, zero=False), axis=alt.Axis(grid=False, tickCount=5))
    drawing.add(f"{stem}_lines", (row | {"seed": run["seed"]} for run in runs for row in points(run)))
    drawing.add(f"{stem}_averages", _averages(runs))
    drawing.add(f"{stem}_examples", _examples(runs))
    band, mean = (drawing.view(f"{stem}_averages", f"{stem}_{kind}") for kind in ("band", "mean"))
    seeds = drawing.view(f"{stem}_lines", f"{stem}_seeds")
    dots = drawing.view(f"{stem}_examples", f"{stem}_dots").mark_circle(color="black", size=30, opacity=1)
    band = band.mark_area(color=color, opacity=0.2, clip=True)
    seeds = seeds.mark_line(color=color, strokeWidth=1, opacity=0.55, clip=True)
    mean = mean.mark_line(color=color, strokeWidth=2.5, clip=True)
    return [
        band.encode(x=x, y=alt.Y("low:Q"), y2=alt.Y2("high:Q")),
        seeds.encode(x=x, y=y, detail="seed:N", **drawing.tips({"seed": "seed"}, input="input", output="output")),
        mean.encode(x=x, y=alt.Y("output:Q")),
        dots.encode(x=x, y=alt.Y("output:Q")),
    ]


def _averages(runs: Sequence[Mapping[str, Any]]) -> list[Row]:
    """Average the functions of several seeds at the drawn points; a single seed has no band."""
    averages = []
    for rows in zip(*map(points, runs), strict=True):
        values = np.array([row["output"] for row in rows])
        row: Row = {"input": rows[0]["input"], "output": short(values.mean())}
        if len(values) > 1:
            deviation = values.std(ddof=1)
            row |= {"low": short(values.mean() - deviation), "high": short(values.mean() + deviation)}
        averages.append(row)
    return averages


def _examples(runs: Sequence[Mapping[str, Any]]) -> list[Row]:
    """List the training examples, each once."""
    pairs = {
        (short(x), short(y))
        for run in runs
        for x, y in zip(np.ravel(run.get("inputs", ())), np.ravel(run.get("targets", ())), strict=True)
    }
    return [{"input": x, "output": y} for x, y in sorted(pairs)]


def _range(runs: Sequence[Mapping[str, Any]]) -> tuple[float, float]:
    """Choose the vertical range from the targets, or from most of the outputs if there are none."""
    targets = [row["output"] for row in _examples(runs)]
    outputs = np.concatenate([np.asarray(run["outputs"], float).ravel() for run in runs])
    low, high = (min(targets), max(targets)) if targets else np.quantile(outputs, [0.02, 0.98])
    reach = _MARGIN * (high - low) or 1.0
    return short(low - reach), short(high + reach)
