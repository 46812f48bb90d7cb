"""All figures that a results table has data for, each with a caption for a reader who has not read the paper.

Runs of several domains (`analysis.domains`) have a figure of all, and each domain its own. Whatever varies besides
width, rho and seed cuts those into parts (`analysis.table.parts`); each part is a line or a panel. A figure has at most
six parts; more parts make more figures, and an overview of all. Past 24 parts there is the overview alone, and what is
drawn against an axis of numbers.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from flatwide.analysis import domains, fields, gain, paper, rho, selection, table, widths
from flatwide.catalogue.entries import SECTIONS
from flatwide.figures.gain import Domain, gain_against_width, gain_of_domains, metric_against_width
from flatwide.figures.labels import label
from flatwide.figures.measured_gallery import measured_figures
from flatwide.figures.pieces import INTERVAL, MOST_PARTS, MOST_PIECES, Figure, Look, Piece, arrange, capital, slug
from flatwide.figures.rho import best_rho_against_width, heat_map
from flatwide.figures.study_curves import study_curves

if TYPE_CHECKING:
    import pandas as pd

DOMAINS = "Every domain"
GAIN, RHO, TRAINING = "What SAM buys", "Which ρ", "Training"


def gallery(
    runs: "pd.DataFrame",
    *,
    metric: str = "test_metric",
    choose_by: str | None = None,
    curves: Mapping[str, list[dict[str, Any]]] | None = None,
    series: Mapping[str, list[dict[str, Any]]] | None = None,
    arrays: Mapping[tuple[str, str], Mapping[str, Any]] | None = None,
    interactive: bool = False,
) -> list[Figure]:
    """Draw every figure that a results table has data for.

    Args:
      runs: the results table; it may have no base runs, then there is no gain, and one width, rho or seed only.
      metric: the column that is compared.
      choose_by: the column that rho is chosen by; None is the validation metric where every run has one, else `metric`.
      curves: name of a run -> the rows of its `metrics.csv`; only those of the smallest and largest widths are drawn.
      series: name of a run -> its rows of `measurements.csv`; the same runs are drawn.
      arrays: name of a run and of a measurement -> the arrays measured at its end; of one seed they are drawn.
      interactive: add what a page can do and a file cannot: tooltips, and a legend whose entries hide their series.
    Cost: nothing is trained or fetched; some tenths of a second for 500 runs.
    """
    options = {"curves": curves or {}, "series": series or {}, "arrays": arrays or {}, "interactive": interactive}
    every = domains.domains(runs)
    if len(every) == 1:
        return _figures(*_arranged(every[0], metric, choose_by), **options)
    found, panels = [], []
    for domain in every:
        pieces, look = _arranged(domain, metric, choose_by)
        ending = f"_{slug(domain.name)}"
        own = _figures(pieces, look._replace(ending=ending), **options)
        found += [_of_domain(figure, domain.name) for figure in own]
        panels += _panels(pieces, look, domain.name)
    return [*_every_domain(panels, interactive=interactive), *found]


def _arranged(domain: domains.Domain, metric: str, choose_by: str | None) -> tuple[list[Piece], Look]:
    """Arrange the parts of a domain, and say how they are shown."""
    runs = domain.runs
    pieces = [
        piece for part in table.parts(runs, paired=False) if (piece := arrange(part, metric, choose_by)) is not None
    ]
    chosen_by = choose_by or widths.choice_column(runs, metric=metric)
    metric_name = "loss" if metric.endswith("loss") else gain.metric_name(runs)
    has_names = {"optimizer", "base_optimizer"} <= set(runs.columns)
    base = gain.base_name(runs) if has_names else "base"
    axes = [name for name in table.axes(runs) if any(name in piece.values for piece in pieces)]
    is_ordered = len(axes) == 1 and all(isinstance(piece.values.get(axes[0]), (int, float)) for piece in pieces)
    return pieces, Look(metric, metric_name, base, chosen_by, axes, is_ordered)


def _figures(
    pieces: Sequence[Piece],
    look: Look,
    *,
    curves: Mapping[str, list[dict[str, Any]]],
    series: Mapping[str, list[dict[str, Any]]],
    arrays: Mapping[tuple[str, str], Mapping[str, Any]],
    interactive: bool,
) -> list[Figure]:
    """Draw every figure of a domain."""
    look = look._replace(interactive=interactive)
    groups = [pieces[start : start + MOST_PARTS] for start in range(0, len(pieces), MOST_PARTS)]
    found = []
    if len(pieces) > MOST_PARTS:
        found += _overview(pieces, look)
    for place, group in enumerate(groups if len(pieces) <= MOST_PIECES else []):
        ending = look.ending + (f"_{place + 1}" if len(groups) > 1 else "")
        found += [*_by_width(group, look, ending), *_rhos(group, look, ending)]
    found += [*_by_axes(pieces, look), *_by_sparsity(pieces, look)]
    for piece in pieces if curves and len(pieces) <= MOST_PIECES else []:
        ending = look.ending + (f"_{slug(piece.name)}" if piece.name else "")
        found += _training(piece, look, curves, max(12, 40 // len(pieces)), ending)
    found += measured_figures(pieces, look, series=series, arrays=arrays)
    order = [GAIN, RHO, TRAINING, *SECTIONS]
    return sorted(found, key=lambda figure: order.index(figure.section))


def _of_domain(figure: Figure, domain: str) -> Figure:
    """Say which domain a figure is of, in its own title too, for one that leaves the page."""
    import altair as alt

    chart = figure.chart
    if isinstance(chart.title, alt.TitleParams):
        chart = chart.properties(title=alt.Title(f"{domain}: {chart.title.text}", subtitle=chart.title.subtitle))
    return figure._replace(chart=chart, domain=domain)


def _panels(pieces: Sequence[Piece], look: Look, name: str) -> Iterator[tuple[Domain, list[dict[str, Any]]]]:
    """Make the panel of a domain in the figure of all, with the rows that it shows; none without a gain."""
    gains = [row for piece in pieces[:MOST_PARTS] for row in _seeds(piece) if "gain" in row]
    if gains:
        corrected = _corrected(pieces[0]) if len(pieces) == 1 else None
        front = {"domain": name, "metric_name": look.metric_name}
        title = f"{name}, over {look.base}"
        panel = Domain(title, gains, look.metric_name, corrected, look.is_ordered)
        yield panel, [front | row for row in gains + (corrected or [])]


def _every_domain(panels: Sequence[tuple[Domain, list[dict[str, Any]]]], *, interactive: bool) -> Iterator[Figure]:
    """Draw the gain against width in every domain."""
    if panels:
        yield Figure(
            "gain_of_domains",
            "Gain of SAM by size, in every domain",
            "How much better SAM is than its base optimizer at its best ρ, for networks of growing size: a panel for "
            "each data set and model family, with axes of its own. Above the dashed line SAM is better, whatever the "
            "metric. Each small dot is one seed, both runs of which start from the same weights. "
            + INTERVAL
            + " Each covers alone; the intervals of the table of domains hold for all of them together.",
            gain_of_domains([panel for panel, _ in panels], interactive=interactive),
            [row for _, rows in panels for row in rows],
            DOMAINS,
        )


def _seeds(piece: Piece) -> Iterator[dict[str, Any]]:
    """List each seed of each width, with its base run, its run at the best rho and the gain, as far as it has them."""
    for cell in piece.cells:
        best, best_rho = cell.best, cell.best_rho
        for place, seed in enumerate(cell.seeds):
            row: dict[str, Any] = {"part": piece.name} if piece.name else {}
            row |= {"num_params": cell.num_params, "seed": seed}
            base = float(cell.values[place, 0])
            if np.isfinite(base):
                row |= {"base": base, "base_run": piece.names.get((cell.value, 0.0, seed))}
            sam = float("nan") if best is None else float(cell.values[place, 1 + best])
            if np.isfinite(sam):
                row |= {
                    "best_rho": best_rho,
                    "sam": sam,
                    "sam_run": piece.names.get((cell.value, best_rho, seed)),
                }
            if np.isfinite(base) and np.isfinite(sam):
                row["gain"] = float(cell.sign * (sam - base))
            if np.isfinite(base) or np.isfinite(sam):
                yield row


def _overview(pieces: Sequence[Piece], look: Look) -> Iterator[Figure]:
    """Draw the gain of every part and width as a colour."""
    cells = []
    for piece in pieces:
        for row in gain.of_widths(piece.cells, width="num_params"):
            if np.isfinite(row["gain"]):
                names = ("num_params", "best_rho", "gain", "standard_error", "num_seeds", "num_diverged")
                cells.append({"part": piece.name} | {name: row[name] for name in names} | {"is_best": False})
    if cells:
        yield Figure(
            f"gain_overview{look.ending}",
            f"Gain of SAM over {look.base}, all settings",
            f"The mean gain of SAM over {look.base} at its best ρ, over seeds, for every setting (downward) and size "
            "(to the right)."
            + (
                ""
                if len(pieces) <= MOST_PIECES
                else " So many settings have no figures of their own: select some of them."
            ),
            heat_map(cells, down="part", metric=look.metric, **look.of_metric, name=f"gain_overview{look.ending}"),
            cells,
            GAIN,
        )


def _by_width(group: Sequence[Piece], look: Look, ending: str) -> Iterator[Figure]:
    """Draw gain and metric against width."""
    rows = [row for piece in group for row in _seeds(piece)]
    if not rows:
        return
    beside = _printed(group, look)
    words = " Hollow points are the values that the paper prints for the same sizes." if beside else ""
    several = " Each line is one value of what varies besides the width." if len(group) > 1 else ""
    gains = [row for row in rows if "gain" in row]
    if gains:
        corrected = _corrected(group[0]) if len(group) == 1 else None
        more = ""
        if corrected:
            more = " The second line is free of the luck of that choice: each seed has the ρ that the others choose."
        yield Figure(
            f"gain_by_width{ending}",
            f"Gain of SAM over {look.base}, by size",
            f"How much better SAM is than {look.base} at its best ρ, for networks of growing size. Above the dashed "
            f"line SAM is better. Each small dot is one seed, both runs of which start from the same weights. "
            + INTERVAL
            + several
            + more
            + words,
            gain_against_width(
                gains,
                **look.of_metric,
                corrected=corrected,
                paper=beside,
                is_ordered=look.is_ordered,
                name=f"gain_by_width{ending}",
            ),
            gains + (corrected or []),
            GAIN,
        )
    yield Figure(
        f"metric_by_width{ending}",
        f"{capital(label(look.metric, metric_name=look.metric_name))}, by size",
        f"Where {look.base} and SAM (at its best ρ) end, for networks of growing size. Each small dot is one run. "
        + INTERVAL
        + words,
        metric_against_width(rows, **look.of_metric, metric=look.metric, paper=beside, name=f"metric_by_width{ending}"),
        rows,
        GAIN,
    )


def _corrected(piece: Piece) -> list[dict[str, Any]] | None:
    """List the corrected gain of each seed and width; None where there was no choice to correct."""
    rows = []
    for cell, found in zip(piece.cells, selection.correct_all(piece.cells), strict=True):
        if np.isfinite(found.gain) and found.num_rhos > 1:
            seeds, scores = selection.scores(cell)
            size = {"num_params": cell.num_params, "of": "corrected"}
            rows += [size | {"seed": s, "gain": float(score)} for s, score in zip(seeds, scores, strict=True)]
            rows.append(size | {"gain": found.gain, "low": found.low, "high": found.high})
    return rows or None


def _printed(group: Sequence[Piece], look: Look) -> list[dict[str, Any]]:
    """List the paper's values for the parts of a figure, at the sizes that the study has."""
    columns = ["num_params", "base", "sam", "gain", "best_rho"]
    rows = []
    for piece in group:
        found = paper.beside(piece.runs)
        if look.metric_name in set(found["metric"]):
            rows += [{"part": piece.name} | row for row in fields.records(found, columns)]
    return rows


def _rhos(group: Sequence[Piece], look: Look, ending: str) -> Iterator[Figure]:
    """Draw the best rho against width, and the gain or metric of every rho and width."""
    import pandas as pd

    best, seeds, cells = [], [], []
    has_base = any(np.isfinite(cell.values[:, 0]).any() for piece in group for cell in piece.cells)
    for piece in group:
        part = {"part": piece.name} if piece.name else {}
        for cell in piece.cells:
            best += [part | row for row in rho.of_widths([cell], width="num_params", chosen_by=look.chosen_by)]
            for place, seed in enumerate(cell.seeds):
                own = cell.choices[place, [1 + candidate for candidate in cell.candidates]]
                if len(own) and np.isfinite(own).all():
                    found = cell.rhos[cell.candidates[int(np.argmax(own))]]
                    seeds.append(part | {"num_params": cell.num_params, "seed": seed, "best_rho": found})
            cells += [part | row for row in _cells(cell, piece.names, has_base)]
    if any(np.isfinite(row["best_rho"]) for row in best) and len({row["rho"] for row in cells if row["rho"] > 0}) > 1:
        beside = [row for row in _printed(group, look) if row["best_rho"] is not None]
        yield Figure(
            f"best_rho_by_width{ending}",
            "Best ρ, by size",
            "The radius ρ of SAM's perturbation with the best mean over seeds, for networks of growing size, chosen by "
            f"{look.chosen_by.replace('_', ' ')}. Bars span the ρ that the seeds cannot tell from it (95 % "
            "confidence set). A small dot is the ρ that is best for one seed alone, larger where several agree."
            + (" Hollow points are the paper's." if beside else ""),
            best_rho_against_width(
                best,
                seeds=seeds,
                paper=beside,
                name=f"best_rho_by_width{ending}",
                interactive=look.interactive,
            ),
            pd.DataFrame([*best, *seeds]),
            RHO,
        )
    if any(row["num_seeds"] for row in cells) and len({row["rho"] for row in cells if row["rho"] > 0}) > 1:
        of = "gain" if has_base else "mean"
        cells = [row for row in cells if of == "mean" or row["rho"] > 0]
        what = f"gain over {look.base}" if of == "gain" else label(look.metric, metric_name=look.metric_name)
        yield Figure(
            f"rho_by_width{ending}",
            f"{capital(what)}, by ρ and size",
            f"The mean {what} over seeds, for every ρ (upward) and size (to the right). Black frames mark the best ρ "
            "of each size. A frame at the edge says that a better ρ may lie beyond the grid.",
            heat_map(cells, of=of, metric=look.metric, **look.of_metric, name=f"rho_by_width{ending}"),
            cells,
            RHO,
        )


def _cells(cell: widths.Width, names: Mapping, has_base: bool) -> Iterator[dict[str, Any]]:
    """Sum up each rho of a width."""
    for place, value in enumerate((0.0, *cell.rhos)):
        column = cell.values[:, place]
        here = column[np.isfinite(column)]
        missing = sum((cell.value, value, seed) in names for seed in cell.seeds) - len(here)
        if not len(here) and not missing:
            continue
        row = {"num_params": cell.num_params, "rho": value, "num_seeds": len(here), "num_diverged": missing}
        row |= {"is_best": place > 0 and cell.best == place - 1}
        row |= {"mean": float(here.mean())} if len(here) else {}
        gains = cell.sign * (column - cell.values[:, 0])
        gains = gains[np.isfinite(gains)]
        yield row | ({"gain": float(gains.mean())} if len(gains) and has_base else {})


def _by_axes(pieces: Sequence[Piece], look: Look) -> Iterator[Figure]:
    """Draw gain and metric against each axis of numbers, such as label noise, with a line or panel for each size."""
    numeric = [axis for axis in look.axes if any(isinstance(piece.values.get(axis), (int, float)) for piece in pieces)]
    # Several axes of numbers would make a figure for each pair: those by width show all of their values.
    for axis in numeric if len(numeric) == 1 else []:
        having = [piece for piece in pieces if isinstance(piece.values.get(axis), (int, float))]
        others = list(dict.fromkeys(_without(piece, axis) for piece in having))
        rows = [
            row
            | {axis: piece.values[axis], "part": ", ".join(filter(None, [f"{row['num_params']:,} parameters", other]))}
            for other in others
            for piece in having
            if _without(piece, axis) == other
            for row in _seeds(piece)
        ]
        rows = sorted(rows, key=lambda row: row["num_params"])
        if len({row[axis] for row in rows}) > 1:
            yield from _against(rows, axis, look, is_ordered=len(others) == 1)


def _without(piece: Piece, axis: str) -> str:
    return ", ".join(f"{name}={value}" for name, value in piece.values.items() if name != axis)


def _by_sparsity(pieces: Sequence[Piece], look: Look) -> Iterator[Figure]:
    """Draw gain and metric against a sparsity that goes along with the width, as at a fixed number of weights."""
    rows = [
        row | {"sparsity": piece.sparsity[row["num_params"]]}
        for piece in pieces
        if len(set(piece.sparsity.values())) > 1
        for row in _seeds(piece)
        if row["num_params"] in piece.sparsity
    ]
    if rows:
        yield from _against(rows, "sparsity", look, is_ordered=False)


def _against(rows: Sequence[dict[str, Any]], axis: str, look: Look, *, is_ordered: bool) -> Iterator[Figure]:
    """Draw gain and metric against a column, at most so many parts a figure."""
    parts = list(dict.fromkeys(row.get("part", "") for row in rows))
    word = label(axis)
    for start in range(0, len(parts), MOST_PARTS):
        here = [row for row in rows if row.get("part", "") in parts[start : start + MOST_PARTS]]
        ending = look.ending + (f"_{start // MOST_PARTS + 1}" if len(parts) > MOST_PARTS else "")
        each = " Each line is one of the networks." if len(parts) > 1 else ""
        gains = [row for row in here if "gain" in row]
        if gains:
            name = f"gain_by_{slug(axis)}{ending}"
            yield Figure(
                name,
                f"Gain of SAM over {look.base}, by {word}",
                f"How much better SAM is than {look.base} at its best ρ, against the {word}. Each small dot is one "
                f"seed. {INTERVAL}" + each,
                gain_against_width(gains, **look.of_metric, across=axis, is_ordered=is_ordered, name=name),
                gains,
                GAIN,
            )
        name = f"metric_by_{slug(axis)}{ending}"
        yield Figure(
            name,
            f"{capital(label(look.metric, metric_name=look.metric_name))}, by {word}",
            f"Where {look.base} and SAM (at its best ρ) end, against the {word}. Each small dot is one run. "
            + INTERVAL,
            metric_against_width(here, **look.of_metric, metric=look.metric, across=axis, name=name),
            here,
            GAIN,
        )


def _training(
    piece: Piece, look: Look, curves: Mapping[str, list[dict[str, Any]]], most_points: int, ending: str
) -> Iterator[Figure]:
    """Draw the curves of the smallest and largest width."""
    chosen = []
    for cell in dict.fromkeys((piece.cells[0].value, piece.cells[-1].value)):
        one = next(found for found in piece.cells if found.value == cell)
        for seed in one.seeds:
            for arm, value in (("base", 0.0), ("sam", one.best_rho)):
                run = piece.names.get((one.value, value, seed))
                if run in curves:
                    chosen.append({"run": run, "arm": arm, "num_params": one.num_params, "rho": value, "seed": seed})
    if not chosen:
        return
    title = "Training" + (f", {piece.name}" if piece.name else "")
    yield Figure(
        f"training_curves{ending}",
        title,
        f"How the runs of {look.base} and of SAM at its best ρ went, at the smallest and the largest size: thin lines "
        f"are seeds, thick lines their mean. Of a long run {most_points} evaluations are drawn. The training loss is "
        "the mean over the steps since the evaluation before.",
        study_curves(chosen, curves, **look.of_metric, most_points=most_points, name=f"training_curves{ending}"),
        [
            {
                "run": run["run"],
                "arm": run["arm"],
                "num_params": run["num_params"],
                "rho": run["rho"],
                "seed": run["seed"],
            }
            | {name: row[name] for name in ("step", "epoch", "running_train_loss", "test_metric") if name in row}
            for run in chosen
            for row in curves[run["run"]]
        ],
        TRAINING,
    )
