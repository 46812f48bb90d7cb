"""Figures of the gain and the metric: against size, rho and an axis that the study varies, and at equal compute."""

from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from flatwide import paper
from flatwide.analysis import fields
from flatwide.figures.drawing import Row, parameters
from flatwide.figures.gain import gain_against_width, metric_against_width
from flatwide.figures.labels import label
from flatwide.figures.pieces import GAIN, MOST_PARTS, RHO, Figure, Piece, interval, pages, printed, seeds_of, slug
from flatwide.figures.rho import metric_against_rho
from flatwide.figures.style import Style

_MOST_NETWORKS = 8  # in a figure of the metric at every rho


def by_width(group: Sequence[Piece], style: Style, ending: str) -> Iterator[Figure]:
    """Draw gain and metric against size; where there are no parts, also the corrected gain."""
    rows = [row for piece in group for row in seeds_of(piece)]
    corrected = corrected_gain(group[0]) if len(group) == 1 else None
    words = " Each line is one setting of the axes other than width." if len(group) > 1 else ""
    if corrected:
        words = " The second line removes selection bias across seeds: each seed uses the ρ chosen on the others."
    beside = printed(group, style)
    yield from _both(rows, style, f"by_width{ending}", beside=beside, words=words, corrected=corrected)


def by_axes(pieces: Sequence[Piece], style: Style) -> Iterator[Figure]:
    """Draw gain and metric against a numeric axis, such as label noise, one line or panel per size."""
    numeric = [axis for axis in style.axes if any(piece.has_number(axis) for piece in pieces)]
    # Several numeric axes would need a figure for each pair; the figures by width show all their values.
    for axis in numeric if len(numeric) == 1 else []:
        having = [piece for piece in pieces if piece.has_number(axis)]
        others = list(dict.fromkeys(piece.without(axis) for piece in having))
        rows = [
            row
            | {axis: piece.part.settings[axis]}
            | {"part": parameters(row["num_params"]) + (f", {other}" if other else "")}
            for other in others
            for piece in having
            if piece.without(axis) == other
            for row in seeds_of(piece)
        ]
        rows = sorted(rows, key=lambda row: row["num_params"])
        if len({row[axis] for row in rows}) > 1:
            yield from _by_axis(rows, axis, style, is_ordered=len(others) == 1)


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
    for page, some in pages(list(dict.fromkeys(row["panel"] for row in runs)), _MOST_NETWORKS):
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


def by_sparsity(pieces: Sequence[Piece], style: Style) -> Iterator[Figure]:
    """Draw gain and metric against a sparsity that varies with width, as at a fixed number of weights."""
    having = [piece for piece in pieces if len(set(piece.sparsity.values())) > 1]

    def of_sparsity(piece: Piece, rows: Iterable[Row]) -> list[Row]:
        return [row | {"sparsity": piece.sparsity[k]} for row in rows if (k := row["num_params"]) in piece.sparsity]

    rows = [row for piece in having for row in of_sparsity(piece, seeds_of(piece))]
    beside = [row for piece in having for row in of_sparsity(piece, printed([piece], style))]
    yield from _by_axis(rows, "sparsity", style, is_ordered=False, beside=beside)


def at_equal_compute(pieces: Sequence[Piece], style: Style) -> Iterator[Figure]:
    """Draw the gain of SAM over a base trained for twice as long, if there are such runs."""
    rows: list[Row] = []
    beside: list[Row] = []
    for piece in pieces:
        name = next((name for name in reversed(fields.LENGTHS) if piece.part.settings.get(name)), "")
        longer = {**piece.part.settings, name: 2 * piece.part.settings[name]} if name else None
        front = {"part": part} if (part := piece.without(name)) else {}
        for other in (other for other in pieces if other.part.settings == longer):
            rows += [front | row for row in _pairs(piece, other)]
            beside += [front | row for row in fields.records(paper.equal_compute_beside(piece.part.runs))]
    base = f"{style.base} trained for twice as long"
    style = style._replace(base=base, is_ordered=False)
    name, words = f"at_equal_compute{style.ending}", f"{base}, which computes as many gradients"
    yield from _both(rows, style, name, beside=beside, base=words, at=" at equal compute")


def _pairs(piece: Piece, longer: Piece) -> Iterator[Row]:
    """Pair the runs of SAM at the best rho of each width with the longer base runs of the same seeds."""
    bases = {(row["num_params"], row["seed"]): row for row in seeds_of(longer) if "base" in row}
    sign = piece.part.widths[0].sign
    for row in seeds_of(piece):
        other = bases.get((row["num_params"], row["seed"]))
        if other is not None and "sam" in row:
            facts = {name: row[name] for name in ("num_params", "seed", "best_rho")}
            gain = {"gain": float(sign * (row["sam"] - other["base"])), "base": other["base"]}
            yield facts | gain | {"base_run": other["base_run"], "sam": row["sam"], "sam_run": row["sam_run"]}


def _by_axis(
    rows: Sequence[Row], axis: str, style: Style, *, is_ordered: bool, beside: list[Row] | None = None
) -> Iterator[Figure]:
    """Draw gain and metric against a column, with at most six parts per figure."""
    parts = list(dict.fromkeys(row.get("part", "") for row in rows))
    words = " Each line is one network." if len(parts) > 1 else ""
    for page, some in pages(parts, MOST_PARTS):
        here = [row for row in rows if row.get("part", "") in some]
        name = f"by_{slug(axis)}{style.ending}{page}"
        ordered = style._replace(is_ordered=is_ordered)
        yield from _both(here, ordered, name, x=axis, beside=beside, words=words)


def _both(
    rows: list[Row],
    style: Style,
    name: str,
    *,
    x: str = "num_params",
    beside: list[Row] | None,
    corrected: list[Row] | None = None,
    base: str = "",
    at: str = "",
    words: str = "",
) -> Iterator[Figure]:
    """Draw the gain and the metric against a column, with the paper's values beside them.

    Args:
      name: ending of the names of both figures.
      base: what the captions call the base. at: end of the title of the metric. words: end of the gain's caption.
    """
    if not rows:
        return
    word, what = ("size", "network size") if x == "num_params" else (label(x), label(x))
    base = base or style.base
    hollow = " Hollow points are the paper's values for the same networks." if beside else ""
    bars = interval(rows, "part", x)
    gains = [row for row in rows if "gain" in row]
    gain_name, metric_name = f"gain_{name}", f"metric_{name}"
    if gains:
        yield Figure(
            name=gain_name,
            title=f"Gain of SAM over {style.base}, by {word}",
            caption=f"Improvement of SAM at its best ρ over {base}, against {what}. Above the dashed line SAM is "
            f"better. {style.dots} {bars}{words}{hollow}",
            chart=gain_against_width(gains, across=x, corrected=corrected, paper=beside, name=gain_name, style=style),
            data=gains + (corrected or []),
            section=GAIN,
        )
    yield Figure(
        name=metric_name,
        title=f"{style.metric_title}{at}, by {word}",
        caption=f"Final value of SAM at its best ρ and of {base}, against {what}. Each small dot is one run. "
        f"{bars}{hollow}",
        chart=metric_against_width(rows, across=x, paper=beside, name=metric_name, style=style),
        data=rows,
        section=GAIN,
    )


def corrected_gain(piece: Piece) -> list[Row] | None:
    """List the corrected gain of each seed and width; None if there was no choice to correct."""
    rows = []
    for width in piece.part.widths:
        comparison = width.comparison
        if comparison.is_usable and comparison.num_sam > 1:
            front = {"num_params": width.num_params, "of": "corrected"}
            scores = zip(comparison.seeds, comparison.scored.values[0].tolist(), strict=True)
            rows += [front | {"seed": seed, "gain": score} for seed, score in scores]
            gain = comparison.gain
            rows.append(front | {"gain": gain.value, "low": gain.low, "high": gain.high})
    return rows or None
