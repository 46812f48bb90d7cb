"""All figures of quantities measured on trained networks that a table and its arrays have data for."""

import functools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from flatwide import catalogue, paper
from flatwide.analysis import fields, measured, quantities
from flatwide.analysis.measured import Measured
from flatwide.catalogue.entries import CURVATURE, DRAWN, DYNAMICS, HEADLINE, ArrayFigure, Quantity
from flatwide.figures import edges, functions, landscape, spectra, study_curves
from flatwide.figures.drawing import Row, short
from flatwide.figures.labels import capital
from flatwide.figures.measured import MOST_DOTS, against_metric, against_rho, against_width
from flatwide.figures.pieces import (
    MOST_PARTS,
    MOST_PIECES,
    Figure,
    Piece,
    by_epoch,
    compared,
    ends,
    interval,
    pages,
    slug,
)
from flatwide.figures.style import Style

Series = Mapping[str, Sequence[Mapping[str, Any]]]
Arrays = Mapping[tuple[str, str], Mapping[str, Any]]

_MOST_PANELS = 4
_MOST_WIDTHS = 6  # in a figure of arrays with a panel per width
_SHOWN = (HEADLINE, DRAWN)
_FACTS = ("run", "arm", "num_params", "rho", "seed")

_short = functools.partial(short, digits=6)  # positions have one digit more than a chart's values


class _MeasuredPart(NamedTuple):
    """Part with the quantities measured on its runs."""

    piece: Piece
    values: dict[str, list[Measured]]  # quantity -> one per width


def measured_figures(pieces: Sequence[Piece], style: Style, *, series: Series, arrays: Arrays) -> Iterator[Figure]:
    """Draw the quantities measured on the runs of some parts.

    Args:
      series: name of a run -> rows with `epoch`, `measurement`, `quantity` and `value`.
      arrays: name of a run and of a measurement -> its arrays.
    """
    if len(pieces) > MOST_PIECES:
        return
    available = list(dict.fromkeys(quantity for piece in pieces for quantity in quantities.measured(piece.part.runs)))
    parts = [_MeasuredPart(piece, measured.arrange(piece.part, [q.name for q in available])) for piece in pieces]
    for page, group in pages(parts, MOST_PARTS):
        for name, drawn in _plans(available, are_many=len(pieces) > 1):
            yield from _by_width_and_rho(group, drawn, style, f"{name}{{}}{style.ending}{page}")
    for index, part in enumerate(parts):
        ending = style.ending + part.piece.ending
        yield from _against_metric(part, available, style, ending, most_dots=max(100, MOST_DOTS // len(parts)))
        if index in (0, len(parts) - 1):  # these are expensive: the first and last setting only
            yield from edges.edge_figures(part.piece, style, series=series, ending=ending)
            yield from _over_epochs(part.piece, style, series, ending)
            yield from _of_arrays(part.piece, style, arrays, ending)


def _plans(available: Sequence[Quantity], *, are_many: bool) -> Iterator[tuple[str, Sequence[Quantity]]]:
    """Choose the quantities of each figure: those of one measurement, or with many parts its headline."""
    if are_many:
        for quantity in quantities.headlines(available):
            yield slug(quantity.name), [quantity]
        return
    for measurement in dict.fromkeys(quantity.measurement for quantity in available):
        group = [quantity for quantity in available if quantity.measurement == measurement]
        shown = [q for q in group if q.role in _SHOWN] or group
        for page, some in pages(shown, _MOST_PANELS):
            yield slug(measurement) + page, some


def _by_width_and_rho(
    group: Sequence[_MeasuredPart], drawn: Sequence[Quantity], style: Style, name: str
) -> Iterator[Figure]:
    """Draw the quantities of a measurement against width and against rho."""
    rows = [row for part in group for row in _rows(part, drawn)]
    beside = [
        part.piece.front | row
        for part in group
        for q in drawn
        for row in paper.measured_beside(part.piece.part.runs, q.name)
    ]
    printed = " Hollow points are the paper's values for its network of this size." if beside else ""
    words = f"{catalogue.entry(drawn[0].measurement).sentence} {_measured_on(group, drawn[0])}".lstrip()
    subject = drawn[0].title if len(drawn) == 1 else drawn[0].measurement
    bars = interval(rows, "quantity", "part", "num_params", "rho")
    section = quantities.section(drawn[0])
    by_width, by_rho = name.format("_by_width"), name.format("_by_rho")

    pairs = [row for row in rows if row["rho"] == 0 or row["is_best"]]
    num_rhos = len({row["rho"] for row in rows})
    if pairs:
        used = {q.name: _used(group, q) for q in drawn if q.compared_with}
        yield Figure(
            name=by_width,
            title=f"{capital(subject)}, by size",
            caption=f"{words} The ρ of SAM was chosen by the {style.chosen_by.replace('_', ' ')}. {bars}{printed}",
            chart=against_width(rows, beside=used, paper=beside, name=by_width, style=style),
            data=rows if num_rhos <= 5 else pairs,
            section=section,
        )
    if num_rhos > 1:
        yield Figure(
            name=by_rho,
            title=f"{capital(subject)}, by ρ",
            caption=f"{words} From {style.base} on the left to SAM with a large ρ on the right. {bars}{printed}",
            chart=against_rho(rows, paper=beside, name=by_rho, style=style),
            data=rows,
            section=section,
        )


def _rows(part: _MeasuredPart, drawn: Sequence[Quantity]) -> Iterator[Row]:
    """List the quantities measured on each run of a part."""
    for quantity in drawn:
        for width, values in part.values.get(quantity.name, ()):
            best = width.best  # a property that is computed at each access
            for index, rho in enumerate((0.0, *width.rhos)):
                for seed, value, score in zip(width.seeds, values[:, index], width.values[:, index], strict=True):
                    if not np.isfinite(value):
                        continue
                    row = part.piece.front | {"quantity": quantity.name, "num_params": width.num_params, "rho": rho}
                    row |= {"seed": seed, "value": float(value), "is_best": index > 0 and best == index - 1}
                    row |= {"metric": float(score)} if np.isfinite(score) else {}
                    run = part.piece.names.get((width.value, rho, seed))
                    yield row | ({} if run is None else {"run": run})


def _measured_on(group: Sequence[_MeasuredPart], quantity: Quantity) -> str:
    counts = sorted({n for part in group for n in quantities.num_examples(part.piece.part.runs, quantity.measurement)})
    if not counts:
        return "Measured in evaluation mode."
    number = f"{counts[0]:,}" if len(counts) == 1 else f"{counts[0]:,} to {counts[-1]:,}"
    return f"Measured on {number} training examples, in evaluation mode, without weight decay."


def _used(group: Sequence[_MeasuredPart], quantity: Quantity) -> list[Row]:
    """List the value that the runs of each width used of the setting that a quantity bounds."""
    name = f"{quantity.measurement}.{quantity.compared_with}"
    rows = [row for part in group for row in fields.done(part.piece.part.runs, ["num_params", name]) if row.get(name)]
    values: dict[int, set[float]] = {}
    for row in rows:
        values.setdefault(row["num_params"], set()).add(row[name])
    title = f"{quantity.compared_with.replace('_', ' ')} that was used"
    return [{"num_params": k, "value": min(v), "of": title} for k, v in sorted(values.items()) if len(v) == 1]


def _against_metric(
    part: _MeasuredPart, available: Sequence[Quantity], style: Style, ending: str, *, most_dots: int
) -> Iterator[Figure]:
    """Draw the metric of each run against its flatness."""
    flatness = [q for q in available if q.is_flatness][:_MOST_PANELS]
    rows = [row for row in _rows(part, flatness) if "metric" in row]
    names = [q.name for q in flatness if sum(row["quantity"] == q.name for row in rows) > 2]
    rows = [row for row in rows if row["quantity"] in names]
    if not rows:
        return
    name = f"metric_by_flatness{ending}"
    correlations = {name: measured.correlation(part.values[name]) for name in names}
    has_interval = any(np.isfinite(correlation.low) for correlation in correlations.values())
    brackets = "its 95 % t interval over seeds is in brackets" if has_interval else "one seed: no interval"
    yield Figure(
        name=name,
        title=part.piece.titled("Is flatness correlated with the metric?"),
        caption="Each dot is one run. The rank correlation is computed across the ρ of each width and seed, so that "
        f"neither width nor initial weights can cause it, and averaged; {brackets}. It does "
        "not show that flatness is the cause: ρ changes both, and the same function can have sharp and flat "
        "weights.",
        chart=against_metric(rows, correlations=correlations, most_dots=most_dots, name=name, style=style),
        data=rows,
        section=CURVATURE,
    )


def _over_epochs(piece: Piece, style: Style, series: Series, ending: str) -> Iterator[Figure]:
    """Draw quantities measured at several epochs, for the smallest and the largest width."""
    if not series:
        return
    chosen, curves = [], {}
    printed = paper.curves_beside(piece.part.runs, [q.name for q in quantities.measured(piece.part.runs)])
    for facts in ends(piece, (row["num_params"] for row in printed)):
        if rows := by_epoch(series.get(facts["run"], ())):
            chosen.append(facts)
            curves[facts["run"]] = rows
    epochs: dict[tuple[str, int], set[float]] = {}
    for facts in chosen:
        for row in curves[facts["run"]]:
            for name in (name for name in row if name != "epoch"):
                epochs.setdefault((name, facts["num_params"]), set()).add(row["epoch"])
    sizes = {facts["num_params"] for facts in chosen}  # each has a panel of each quantity
    names = dict.fromkeys(name for name, _ in epochs)
    several = quantities.in_order(n for n in names if all(len(epochs.get((n, size), ())) > 1 for size in sizes))
    first = quantities.headlines(several)
    moving = [q for q in several if quantities.section(q) == DYNAMICS and q.role in _SHOWN]
    drawn = [q for q in several if q in first or q in moving][: 2 * _MOST_PANELS]
    hollow = " Hollow points are the paper's values; it does not state the optimizer." if printed else ""
    # Vega reads a dot as a nested field.
    plain = {run: [{slug(name): value for name, value in row.items()} for row in rows] for run, rows in curves.items()}
    beside = [row | {"quantity": slug(row["quantity"])} for row in printed]
    for page, some in pages(drawn, _MOST_PANELS):
        name = f"measured_over_epochs{ending}{page}"
        columns = [
            study_curves.Column(slug(q.name), capital(q.label), log_from=math.inf if q.is_signed else 10) for q in some
        ]
        yield Figure(
            name=name,
            title=piece.titled("Measurements during training"),
            caption=f"Quantities against the epochs at which they were measured, of {style.base} and of SAM at its "
            f"best ρ, at the smallest and the largest size. {study_curves.explained(chosen)}{hollow}",
            chart=study_curves.study_curves(
                chosen,
                plain,
                columns=columns,
                paper=beside,
                heading="Measurements during training",
                name=name,
                style=style,
            ),
            data=[
                run | {"epoch": row["epoch"]} | {q.name: row[q.name] for q in some if q.name in row}
                for run in chosen
                for row in curves[run["run"]]
            ],
            section=DYNAMICS,
        )


class _Kind(NamedTuple):
    """How figures of one kind of arrays are drawn.

    names: of the arrays in the chart's arguments. draw: runs -> chart. rows: run -> rows of the figure's data.
    prepared: run -> run with what else the chart shows.
    """

    names: tuple[str, ...]
    draw: Callable[..., Any]
    rows: Callable[[Row], list[Row]]
    prepared: Callable[..., Row] = lambda run, base: run


def _of_arrays(piece: Piece, style: Style, arrays: Arrays, ending: str) -> Iterator[Figure]:
    """Draw spectra, landscapes and functions."""
    if not arrays:
        return
    words = {"base": style.base}
    words["runs"] = f"One seed of {style.base} and of SAM at its best ρ, at the smallest and the largest size."
    for measurement_name, measurement in catalogue.MEASUREMENTS.items():
        for figure in measurement.figures:
            kind, runs = KINDS[figure.kind], _with_arrays(piece, arrays, measurement_name, figure)
            named = [run | {n: run[a] for n, a in zip(kind.names, figure.arrays, strict=True)} for run in runs]
            shown = [kind.prepared(run, style.base) for run in named]
            if shown:
                name, title = f"{figure.name}{ending}", figure.title.format(**words)
                yield Figure(
                    name=name,
                    title=piece.titled(title),
                    caption=figure.caption.format(**words),
                    chart=kind.draw(shown, heading=title, name=name, style=style),
                    data=[{fact: run[fact] for fact in _FACTS} | row for run in shown for row in kind.rows(run)],
                    section=measurement.section,
                )


def _with_arrays(piece: Piece, arrays: Arrays, measurement: str, figure: ArrayFigure) -> list[Row]:
    """List the runs with the arrays of a figure: per width all, or those of the first seed that has most of them."""
    groups: dict[tuple[int, int], list[Row]] = {}
    sizes = [width.num_params for width in piece.part.widths]
    shown = np.linspace(0, len(sizes) - 1, _MOST_WIDTHS if figure.has_all_widths else 2).round().astype(int)
    for facts in compared(piece, {sizes[index] for index in shown}):
        if facts["arm"] in figure.arms:
            groups.setdefault((facts["num_params"], facts["seed"]), []).append(facts)
    chosen: dict[int, list[Row]] = {}
    most = max(map(len, groups.values()), default=0)
    for (size, _), group in groups.items():
        before = chosen.get(size, [])
        if len(before) == most and not figure.has_all_seeds:
            continue  # arrays are read on access, and one seed is enough
        loaded = [facts | dict(arrays.get((facts["run"], measurement)) or {}) for facts in group]
        complete = [run for run in loaded if set(figure.arrays) <= set(run)]
        chosen[size] = [*before, *complete] if figure.has_all_seeds else max(before, complete, key=len)
    return [run for runs in chosen.values() for run in runs]


def _line_rows(run: Row) -> list[Row]:
    points = zip(np.ravel(run["line_positions"]), np.ravel(run["line_losses"]), strict=True)
    return [{"position": float(position), "loss": float(loss)} for position, loss in points]


def _plane(run: Row, base: str) -> Row:
    """Add the path on a plane and its axis titles, if the run has them."""
    shown, titles = dict(run), []
    if "coordinates" in run:
        shown["path"] = run["coordinates"]
    if len(variance := np.ravel(run.get("explained_variance", ()))) >= 2:
        titles = [f"principal direction {k + 1} ({100 * variance[k]:.0f} % of the variance)" for k in range(2)]
    if len(values := np.ravel(run.get("eigenvalues", ()))) >= 2:
        titles = [f"eigenvector {k + 1} (eigenvalue {values[k]:.3g})" for k in range(2)]
    return shown | {f"{axis}_title": title for axis, title in zip("xy", titles, strict=False)}


def _with_marks(run: Row, base: str) -> Row:
    """Add the networks that define a plane of minima, and its axis titles."""
    names = (f"{base} from the same start", f"{base} from another start", "SAM", "start")
    return run | {
        "marked": list(zip(names, np.asarray(run["coordinates"]).tolist(), strict=True)),
        "x_title": f"from {base} to SAM (parameter units)",
        "y_title": "orthogonal to it (parameter units)",
        "note": f"start {np.ravel(run['offsets'])[-1]:.3g} from the plane",
    }


def _plane_rows(run: Row) -> list[Row]:
    """List the points of a plane, and the networks that it marks."""
    x, y = np.ravel(run["x"]), np.ravel(run["y"])
    losses = np.asarray(run["losses"]).reshape(len(y), len(x))
    cells = [
        {"x": _short(a), "y": _short(b), "loss": _short(losses[j, i])} for j, b in enumerate(y) for i, a in enumerate(x)
    ]
    return cells + [{"marked": name, "x": _short(x), "y": _short(y)} for name, (x, y) in run.get("marked", ())]


_PLANE = ("x", "y", "losses")
# Kinds of the catalogue's `ArrayFigure`.
KINDS = {
    "density": _Kind(("grid", "density"), spectra.densities, spectra.points),
    "line": _Kind(("line_positions", "line_losses"), landscape.line_profiles, _line_rows),
    "plane": _Kind(_PLANE, landscape.planes, _plane_rows, _plane),
    "contour": _Kind((*_PLANE, "coordinates", "offsets"), landscape.contours, _plane_rows, _with_marks),
    "function": _Kind(("grid", "outputs"), functions.functions, functions.points),
}
