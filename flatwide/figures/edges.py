"""Curvature over training with the edge of stability: a panel for each width and a colour for each rho."""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from flatwide import catalogue
from flatwide.analysis import widths
from flatwide.catalogue.entries import DYNAMICS
from flatwide.figures import axes
from flatwide.figures.labels import wrapped
from flatwide.figures.lines import legend_selection, opacity, panel_chart
from flatwide.figures.pieces import Figure, Look, Piece, capital, short
from flatwide.figures.style import colors, finish

Row = dict[str, Any]

# Columns of the measurement `edge`: for SGD and for Adam.
_PAIRS = (("top_eigenvalue", "edge_of_stability"), ("preconditioned_eigenvalue", "preconditioned_edge"))
_MOST_WIDTHS, _MOST_RHOS, _MOST_POINTS = 3, 4, 60


def edge_figures(
    piece: Piece, look: Look, *, series: Mapping[str, Sequence[Mapping[str, Any]]], ending: str
) -> Iterator[Figure]:
    """Draw the top eigenvalue and its edge at every measured network, if there are several.

    Args:
      series: name of a run -> rows with `epoch`, `measurement`, `quantity` and `value`.
      ending: of the figure's name.
    """
    if not series or "edge.edge_ratio" not in piece.runs.columns:
        return
    for eigenvalue, edge in _PAIRS:
        rows = [row for facts, run in _chosen(piece) for row in _rows(facts | {"run": run}, series, eigenvalue, edge)]
        if len({row["epoch"] for row in rows}) < 2:
            continue
        adam = "_of_adam" if eigenvalue == "preconditioned_eigenvalue" else ""
        name, quantity = f"edge_over_training{adam}{ending}", catalogue.quantity(f"edge.{eigenvalue}")
        yield Figure(
            name=name,
            title="Curvature over training" + (f", {piece.name}" if piece.name else ""),
            caption=f"The {quantity.title} at the networks saved during training, and the value above which full-batch "
            "steps of the run's update rule become unstable (dashed). Full-batch training settles near this edge, "
            "training with small batches below it. The edge of SAM moves with the gradient norm.",
            chart=edge_over_training(
                rows, title=capital(quantity.label), base=look.base, name=name, interactive=look.interactive
            ),
            data=rows,
            section=DYNAMICS,
        )


def edge_over_training(
    rows: Sequence[Mapping[str, Any]], *, title: str, base: str = "SGD", name: str, interactive: bool = False
) -> Any:
    """Draw eigenvalues and edges against epochs, each seed as a thin line and their geometric mean as a thick one.

    Args:
      rows: `num_params`, `rho`, `seed`, `epoch`, `eigenvalue` and `edge` if it is finite.
      title: of the vertical axis. base: name of the base optimizer.
      name: prefix of all names inside the chart. interactive: add tooltips, and a legend that hides series.
    """
    import altair as alt

    rhos, sizes = (sorted({row[column] for row in rows}) for column in ("rho", "num_params"))
    names = {rho: f"SAM, ρ = {rho:g}" if rho else base for rho in rhos}
    scale = alt.Scale(domain=list(names.values()), range=colors(len(rhos), ordered=True))
    color = alt.Color("of:N", scale=scale, legend=alt.Legend())
    hide = f"{name}_hidden" if interactive else None
    x = axes.epochs(row["epoch"] for row in rows)
    y_scale = alt.Scale(type="log", nice=False, padding=8)
    ticks = axes.log_axis(row[column] for row in rows for column in ("eigenvalue", "edge") if column in row)
    tables: dict[str, list[Row]] = {}
    panels = []
    for size in sizes:
        here = [row for row in rows if row["num_params"] == size]
        seeds, means = f"{name}_{size}", f"{name}_{size}_means"
        tables[seeds] = [
            {"of": names[row["rho"]], "seed": row["seed"], "epoch": short(row["epoch"])}
            | {"value": short(row["eigenvalue"])}
            for row in here
            if row["eigenvalue"] > 0
        ]
        tables[means] = _means(here, names)
        value, edge = (
            alt.Y(f"{column}:Q", title=wrapped(title), scale=y_scale, axis=ticks) for column in ("value", "edge")
        )
        tips: dict[str, Any] = {}
        if interactive:
            tooltips = [
                alt.Tooltip("of:N", title="series"),
                *(alt.Tooltip(f"{c}:Q", title=c) for c in ("seed", "epoch")),
            ]
            tips["tooltip"] = [*tooltips, alt.Tooltip("value:Q", title=title, format=".4~g")]
        each = alt.Chart(alt.NamedData(name=seeds), name=f"{seeds}_seeds").mark_line(strokeWidth=1)
        mean = alt.Chart(alt.NamedData(name=means), name=f"{seeds}_mean").mark_line(strokeWidth=2.2)
        limit = alt.Chart(alt.NamedData(name=means), name=f"{seeds}_edge").mark_line(strokeWidth=1.6, strokeDash=[5, 3])
        layers = [
            limit.encode(x=x, y=edge, color=color, opacity=opacity(0.9, hide)),
            each.encode(x=x, y=value, color=color, detail="seed:N", opacity=opacity(0.35, hide), **tips),
            mean.encode(x=x, y=value, color=color, opacity=opacity(1, hide)),
        ]
        panels.append(panel_chart(layers, (300, 260), title=f"{size:,} parameters"))
    whole = alt.HConcatChart(hconcat=panels)
    most = max(len({r["seed"] for r in rows if (r["rho"], r["num_params"]) == k}) for k in _cells(rows))
    words = f"dashed: the edge of stability; thick lines: geometric mean of {most} seeds; thin lines: each seed"
    if most == 1:
        words = "dashed: the edge of stability; one seed"
    params = [legend_selection(whole, name)] if interactive else []
    heading = alt.Title("Curvature over training", subtitle=words)
    shared = {"color": "shared", "y": "shared"}
    return finish(whole, title=heading, datasets=tables, params=params, shared_or_independent=shared)


def _cells(rows: Sequence[Mapping[str, Any]]) -> set[tuple[float, int]]:
    return {(row["rho"], row["num_params"]) for row in rows}


def _chosen(piece: Piece) -> Iterator[tuple[Row, Any]]:
    """List the runs of a few evenly spaced widths and rhos, including both ends."""
    shown = list({width.value: width for width in piece.widths}.values())
    for width in widths.evenly(shown, _MOST_WIDTHS):
        for rho in widths.evenly((0.0, *width.rhos), _MOST_RHOS):
            for seed in width.seeds:
                if (run := piece.names.get((width.value, rho, seed))) is not None:
                    yield {"num_params": width.num_params, "rho": rho, "seed": seed}, run


def _rows(facts: Row, series: Mapping, eigenvalue: str, edge: str) -> list[Row]:
    """List the networks of a run for which an eigenvalue was measured; many are thinned evenly."""
    by_epoch: dict[float, dict[str, float]] = {}
    for row in series.get(facts["run"], ()):
        if row["measurement"] == "edge" and row["value"] is not None and math.isfinite(row["value"]):
            by_epoch.setdefault(row["epoch"], {})[row["quantity"]] = row["value"]
    rows = []
    for epoch in sorted(epoch for epoch, values in by_epoch.items() if eigenvalue in values):
        limit = {"edge": by_epoch[epoch][edge]} if by_epoch[epoch].get(edge, 0) > 0 else {}
        rows.append(facts | {"epoch": epoch, "eigenvalue": by_epoch[epoch][eigenvalue]} | limit)
    return widths.evenly(rows, _MOST_POINTS)


def _means(rows: Sequence[Mapping[str, Any]], names: Mapping[float, str]) -> list[Row]:
    """Average the logarithms over the seeds of each rho, at the epochs that all seeds share."""
    groups: dict[tuple[float, float], list[Mapping[str, Any]]] = {}
    seeds: dict[float, set[int]] = {}
    for row in rows:
        groups.setdefault((row["rho"], row["epoch"]), []).append(row)
        seeds.setdefault(row["rho"], set()).add(row["seed"])
    means = []
    for (rho, epoch), group in groups.items():
        mean: Row = {"of": names[rho], "epoch": short(epoch)}
        for column, name in (("eigenvalue", "value"), ("edge", "edge")):
            values = [row[column] for row in group if row.get(column, 0) > 0]
            if len(values) == len(seeds[rho]):
                mean[name] = short(float(np.exp(np.mean(np.log(values)))))
        means.append(mean)
    return means
