"""The metric at every rho beside the paper's values."""

from collections.abc import Iterator, Sequence

import numpy as np

from flatwide import paper
from flatwide.analysis import fields
from flatwide.figures.drawing import Row, parameters
from flatwide.figures.pieces import RHO, Figure, Piece, interval, pages
from flatwide.figures.rho import metric_against_rho
from flatwide.figures.style import Style

_MOST_PANELS = 8


def by_rho(group: Sequence[Piece], style: Style, ending: str) -> Iterator[Figure]:
    """Draw the metric at every rho for the networks that the paper reports."""
    runs: list[Row] = []
    printed: list[Row] = []
    for piece in group:
        rows = fields.records(paper.rho_beside(piece.part.runs, metric=style.metric))
        sizes = {row["num_params"] for row in rows if row["metric"] == style.metric_name}
        for width in (width for width in piece.part.widths if width.num_params in sizes):
            panel = ", ".join(filter(None, [piece.name, parameters(width.num_params)]))
            front: Row = {"panel": panel, "num_params": width.num_params}
            runs += [
                front | {"rho": rho, "seed": seed, "value": value, "run": piece.names.get((width.value, rho, seed))}
                for rho, column in zip((0.0, *width.rhos), width.values.T.tolist(), strict=True)
                for seed, value in zip(width.seeds, column, strict=True)
                if np.isfinite(value)
            ]
            printed += [{**front, **row} for row in rows if row["num_params"] == width.num_params]
    for page, some in pages(list(dict.fromkeys(row["panel"] for row in runs)), _MOST_PANELS):
        name = f"metric_by_rho{ending}{page}"
        shown = [row for row in runs if row["panel"] in some]
        yield Figure(
            name=name,
            title=f"{style.metric_title}, by ρ",
            caption=f"Final value at each ρ, from {style.base} at ρ = 0 upwards, with one panel per network. Each "
            f"small dot is one run. {interval(shown, 'panel', 'rho')} Hollow points are the paper's values for the "
            "same networks.",
            chart=metric_against_rho(shown, paper=printed, name=name, style=style),
            data=shown,
            section=RHO,
        )
