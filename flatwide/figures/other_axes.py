"""Gain and metric against axes other than width: a number that the study varies, or sparsity."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from flatwide.figures.gain import gain_against_width, metric_against_width
from flatwide.figures.labels import label, setting
from flatwide.figures.pieces import GAIN, MOST_PARTS, Figure, Look, Piece, capital, interval, printed, seeds_of, slug


def by_axes(pieces: Sequence[Piece], look: Look) -> Iterator[Figure]:
    """Draw gain and metric against a numeric axis, such as label noise, one line or panel per size."""
    numeric = [axis for axis in look.axes if any(isinstance(piece.values.get(axis), (int, float)) for piece in pieces)]
    # Several numeric axes would need a figure for each pair; the figures by width show all their values.
    for axis in numeric if len(numeric) == 1 else []:
        having = [piece for piece in pieces if isinstance(piece.values.get(axis), (int, float))]
        others = list(dict.fromkeys(_without(piece, axis) for piece in having))
        rows = [
            row
            | {axis: piece.values[axis], "part": ", ".join(filter(None, [f"{row['num_params']:,} parameters", other]))}
            for other in others
            for piece in having
            if _without(piece, axis) == other
            for row in seeds_of(piece)
        ]
        rows = sorted(rows, key=lambda row: row["num_params"])
        if len({row[axis] for row in rows}) > 1:
            yield from _against(rows, axis, look, is_ordered=len(others) == 1)


def _without(piece: Piece, axis: str) -> str:
    return setting(", ".join(f"{name}={value}" for name, value in piece.values.items() if name != axis))


def by_sparsity(pieces: Sequence[Piece], look: Look) -> Iterator[Figure]:
    """Draw gain and metric against a sparsity that varies with width, as at a fixed number of weights."""
    having = [piece for piece in pieces if len(set(piece.sparsity.values())) > 1]

    def of_sparsity(piece: Piece, rows: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
        return [row | {"sparsity": piece.sparsity[k]} for row in rows if (k := row["num_params"]) in piece.sparsity]

    rows = [row for piece in having for row in of_sparsity(piece, seeds_of(piece))]
    if rows:
        beside = [row for piece in having for row in of_sparsity(piece, printed([piece], look))]
        yield from _against(rows, "sparsity", look, is_ordered=False, beside=beside)


def _against(
    rows: Sequence[dict[str, Any]],
    axis: str,
    look: Look,
    *,
    is_ordered: bool,
    beside: list[dict[str, Any]] | None = None,
) -> Iterator[Figure]:
    """Draw gain and metric against a column, with at most six parts per figure, and the paper's values."""
    words = " Hollow points are the paper's values for the same networks." if beside else ""
    parts = list(dict.fromkeys(row.get("part", "") for row in rows))
    word = label(axis)
    for start in range(0, len(parts), MOST_PARTS):
        here = [row for row in rows if row.get("part", "") in parts[start : start + MOST_PARTS]]
        ending = look.ending + (f"_{start // MOST_PARTS + 1}" if len(parts) > MOST_PARTS else "")
        each = " Each line is one network." if len(parts) > 1 else ""
        gains = [row for row in here if "gain" in row]
        bars = interval(here, "part", axis)
        if gains:
            name = f"gain_by_{slug(axis)}{ending}"
            yield Figure(
                name=name,
                title=f"Gain of SAM over {look.base}, by {word}",
                caption=f"Improvement of SAM at its best ρ over {look.base}, against {word}. Each small dot is one "
                f"seed. {bars}" + each + words,
                chart=gain_against_width(
                    gains, **look.of_metric, across=axis, paper=beside, is_ordered=is_ordered, name=name
                ),
                data=gains,
                section=GAIN,
            )
        name = f"metric_by_{slug(axis)}{ending}"
        yield Figure(
            name=name,
            title=f"{capital(label(look.metric, metric_name=look.metric_name))}, by {word}",
            caption=f"Final value of {look.base} and of SAM (at its best ρ), against {word}. Each small dot is one "
            "run. " + bars + words,
            chart=metric_against_width(
                here, **look.of_metric, metric=look.metric, across=axis, paper=beside, name=name
            ),
            data=here,
            section=GAIN,
        )
