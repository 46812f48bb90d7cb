"""Figures that compare every value with the paper's: the metric at every rho, and the gain at equal compute."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from flatwide import paper
from flatwide.analysis import fields
from flatwide.figures.gain import gain_against_width, metric_against_width
from flatwide.figures.labels import label, setting
from flatwide.figures.pieces import GAIN, RHO, Figure, Look, Piece, capital, interval
from flatwide.figures.rho import metric_against_rho

Row = dict[str, Any]
_MOST_PANELS = 8


def by_rho(group: Sequence[Piece], look: Look, ending: str) -> Iterator[Figure]:
    """Draw the metric at every rho for the networks that the paper reports."""
    runs: list[Row] = []
    printed: list[Row] = []
    for piece in group:
        rows = fields.records(paper.rho_beside(piece.runs, metric=look.metric))
        sizes = {row["num_params"] for row in rows if row["metric"] == look.metric_name}
        for width in (width for width in piece.widths if width.num_params in sizes):
            panel = ", ".join(filter(None, [piece.name, f"{width.num_params:,} parameters"]))
            front = {"panel": panel, "num_params": width.num_params}
            for index, rho in enumerate((0.0, *width.rhos)):
                for seed, value in zip(width.seeds, width.values[:, index], strict=True):
                    if np.isfinite(value):
                        run = piece.names.get((width.value, rho, seed))
                        runs.append(front | {"rho": rho, "seed": seed, "value": float(value), "run": run})
            size_rows = [row for row in rows if row["num_params"] == width.num_params]
            printed += [front | {"rho": row["rho"], "value": row["value"]} for row in size_rows]
    panels = list(dict.fromkeys(row["panel"] for row in runs))
    for start in range(0, len(panels), _MOST_PANELS):
        some = panels[start : start + _MOST_PANELS]
        name = f"metric_by_rho{ending}" + (f"_{start // _MOST_PANELS + 1}" if len(panels) > _MOST_PANELS else "")
        shown = [row for row in runs if row["panel"] in some]
        yield Figure(
            name=name,
            title=f"{capital(label(look.metric, metric_name=look.metric_name))}, by ρ",
            caption=f"Final value at each ρ, from {look.base} at ρ = 0 upwards, with one panel per network. Each small "
            f"dot is one run. {interval(shown, 'panel', 'rho')} Hollow points are the paper's values for the same "
            "networks.",
            chart=metric_against_rho(shown, paper=printed, metric=look.metric, **look.of_metric, name=name),
            data=shown,
            section=RHO,
        )


def at_equal_compute(pieces: Sequence[Piece], look: Look) -> Iterator[Figure]:
    """Draw the gain of SAM over a base trained for twice as long, if there are such runs."""
    rows: list[Row] = []
    beside: list[Row] = []
    for piece in pieces:
        name = next((name for name in reversed(fields.LENGTHS) if piece.values.get(name)), "")
        longer = {**piece.values, name: 2 * piece.values[name]} if name else None
        part = setting(", ".join(f"{field}={value}" for field, value in piece.values.items() if field != name))
        for other in (other for other in pieces if other.values == longer):
            rows += [({"part": part} if part else {}) | row for row in _pairs(piece, other)]
            printed = fields.records(paper.equal_compute_beside(piece.runs))
            beside += [({"part": part} if part else {}) | row for row in printed]
    if not rows:
        return
    words = interval(rows, "part", "num_params")
    words += " Hollow points are the paper's values for the same networks." if beside else ""
    base = f"{look.base} trained for twice as long"
    share = look.of_metric | {"base": base, "paper": beside}
    longer_base = f"{base}, which computes as many gradients"
    yield Figure(
        name=f"gain_at_equal_compute{look.ending}",
        title=f"Gain of SAM over {base}, by size",
        caption=f"How much better SAM at its best ρ is than {longer_base}. Above the dashed line SAM is better. Each "
        f"small dot is one seed. {words}",
        chart=gain_against_width(rows, **share, name=f"gain_at_equal_compute{look.ending}"),
        data=rows,
        section=GAIN,
    )
    yield Figure(
        name=f"metric_at_equal_compute{look.ending}",
        title=f"{capital(label(look.metric, metric_name=look.metric_name))} at equal compute, by size",
        caption=f"Final value of SAM at its best ρ and of {longer_base}. Each small dot is one run. {words}",
        chart=metric_against_width(rows, **share, metric=look.metric, name=f"metric_at_equal_compute{look.ending}"),
        data=rows,
        section=GAIN,
    )


def _pairs(piece: Piece, longer: Piece) -> Iterator[Row]:
    """Pair the runs of SAM at the best rho of each width with the longer base runs of the same seeds."""
    bases = {width.num_params: width for width in longer.widths}
    for width in piece.widths:
        other = bases.get(width.num_params)
        if other is None or width.best is None:
            continue
        base = dict(zip(other.seeds, other.values[:, 0].tolist(), strict=True))
        for seed, sam in zip(width.seeds, width.values[:, 1 + width.best].tolist(), strict=True):
            gain = width.sign * (sam - base.get(seed, np.nan))
            if np.isfinite(gain):
                row = {"num_params": width.num_params, "seed": seed, "best_rho": width.best_rho, "gain": float(gain)}
                row |= {"base": base[seed], "base_run": longer.names.get((other.value, 0.0, seed))}
                yield row | {"sam": sam, "sam_run": piece.names.get((width.value, width.best_rho, seed))}
