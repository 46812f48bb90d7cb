"""Curvature over training with the edge of stability: a panel for each width and a colour for each rho."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from flatwide import catalogue
from flatwide.analysis import widths
from flatwide.catalogue.entries import DYNAMICS
from flatwide.figures.drawing import Row, short
from flatwide.figures.labels import capital
from flatwide.figures.pieces import Figure, Piece, by_epoch
from flatwide.figures.study_curves import Column, over_epochs
from flatwide.figures.style import DEFAULT, Style, colors
from flatwide.figures.tables import by_part

# Columns of the measurement `edge`: for SGD and for Adam.
_PAIRS = (("top_eigenvalue", "edge_of_stability"), ("preconditioned_eigenvalue", "preconditioned_edge"))
_MOST_WIDTHS, _MOST_RHOS, _MOST_POINTS = 3, 4, 60


def edge_figures(
    piece: Piece, style: Style, *, series: Mapping[str, Sequence[Mapping[str, Any]]], ending: str
) -> Iterator[Figure]:
    """Draw the top eigenvalue and its edge at every measured network, if there are several.

    Args:
      series: name of a run -> rows with `epoch`, `measurement`, `quantity` and `value`.
      ending: of the figure's name.
    """
    if not series or "edge.edge_ratio" not in piece.part.runs.columns:
        return
    for eigenvalue, edge in _PAIRS:
        rows = [row for facts, run in _chosen(piece) for row in _rows(facts | {"run": run}, series, eigenvalue, edge)]
        if len({row["epoch"] for row in rows}) < 2:
            continue
        adam = "_of_adam" if eigenvalue == "preconditioned_eigenvalue" else ""
        quantity = catalogue.quantity(f"edge.{eigenvalue}")
        name = f"edge_over_training{adam}{ending}"
        yield Figure(
            name=name,
            title=piece.titled("Curvature over training"),
            caption=f"The {quantity.title} at the networks saved during training, and the value above which full-batch "
            "steps of the run's update rule become unstable (dashed). Full-batch training settles near this edge, "
            "training with small batches below it. The edge of SAM moves with the gradient norm.",
            chart=edge_over_training(rows, title=capital(quantity.label), name=name, style=style),
            data=rows,
            section=DYNAMICS,
        )


def edge_over_training(rows: Sequence[Mapping[str, Any]], *, title: str, name: str, style: Style = DEFAULT) -> Any:
    """Draw eigenvalues and edges against epochs, each seed as a thin line and their geometric mean as a thick one.

    Args:
      rows: `num_params`, `rho`, `seed`, `epoch`, `eigenvalue` and `edge` if it is finite.
      title: of the vertical axis.
    """
    rhos = sorted({row["rho"] for row in rows})
    names = {rho: f"SAM, ρ = {rho:g}" if rho else style.base for rho in rhos}
    shown = [
        {"num_params": row["num_params"], "of": names[row["rho"]], "seed": row["seed"], "epoch": short(row["epoch"])}
        | {column: short(row[column]) for column in ("eigenvalue", "edge") if row.get(column, 0) > 0}
        for row in rows
    ]
    most = max(len({row["seed"] for row in here}) for here in by_part(rows, "rho").values())
    words = f"; thick lines: geometric mean of {most} seeds; thin lines: each seed" if most > 1 else "; one seed"
    return over_epochs(
        shown,
        [Column("eigenvalue", title, log_from=0, limit="edge")],
        series=dict(zip(names.values(), colors(len(rhos), ordered=True), strict=True)),
        title="Curvature over training",
        notes=[f"dashed: the edge of stability{words}"],
        name=name,
        interactive=style.interactive,
    )


def _chosen(piece: Piece) -> Iterator[tuple[Row, Any]]:
    """List the runs of a few evenly spaced widths and rhos, including both ends."""
    shown = list({width.value: width for width in piece.part.widths}.values())
    for width in widths.evenly(shown, _MOST_WIDTHS):
        for rho in widths.evenly((0.0, *width.rhos), _MOST_RHOS):
            for seed in width.seeds:
                if (run := piece.names.get((width.value, rho, seed))) is not None:
                    yield {"num_params": width.num_params, "rho": rho, "seed": seed}, run


def _rows(facts: Row, series: Mapping, eigenvalue: str, edge: str) -> list[Row]:
    """List the networks of a run for which an eigenvalue was measured; many are thinned evenly."""
    rows = []
    for row in by_epoch(series.get(facts["run"], ())):
        if (top := row.get(f"edge.{eigenvalue}")) is not None:
            limit = row.get(f"edge.{edge}", 0)
            rows.append(facts | {"epoch": row["epoch"], "eigenvalue": top} | ({"edge": limit} if limit > 0 else {}))
    return widths.evenly(rows, _MOST_POINTS)
