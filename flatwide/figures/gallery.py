"""All figures that a results table has data for, with captions for readers who have not read the paper.

Runs of several domains (`analysis.table.domains`) have one figure of all domains, and figures for each. Axes other than
width, rho and seed divide the runs into parts (`analysis.table.parts`); each part is a line or a panel. A figure has at
most six parts; with more there are several figures and an overview. With more than 24 parts there are only the overview
and the figures against a numeric axis.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from flatwide import paper
from flatwide.analysis import fields, gain, rho, table
from flatwide.analysis.widths import Width
from flatwide.catalogue.entries import SECTIONS
from flatwide.figures import study_curves
from flatwide.figures.against import at_equal_compute, by_axes, by_sparsity, by_width, corrected_gain
from flatwide.figures.beside_paper import by_rho
from flatwide.figures.drawing import Row
from flatwide.figures.gain import Domain, gain_of_domains
from flatwide.figures.labels import capital, label
from flatwide.figures.measured_gallery import measured_figures
from flatwide.figures.pieces import (
    DOMAINS,
    GAIN,
    MOST_PARTS,
    MOST_PIECES,
    RHO,
    TRAINING,
    Figure,
    Look,
    Piece,
    arrange,
    dots,
    ends,
    interval,
    pages,
    printed,
    seeds_of,
    slug,
)
from flatwide.figures.rho import best_rho_against_width, heat_map


@table.for_table
def gallery(
    split: table.Split,
    *,
    curves: Mapping[str, list[Row]] | None = None,
    series: Mapping[str, list[Row]] | None = None,
    arrays: Mapping[tuple[str, str], Mapping[str, Any]] | None = None,
    interactive: bool = False,
    are_ours: bool = True,
) -> list[Figure]:
    """Draw every figure that a results table has data for.

    Args:
      split: the results table. It may have a single width, rho or seed; without base runs there is no gain.
      curves: name of a run -> rows of its `metrics.csv`; drawn for the smallest and largest widths only.
      series: name of a run -> its rows of `measurements.csv`; drawn for the same runs.
      arrays: (name of a run, name of a measurement) -> arrays measured at its end; drawn for one seed.
      interactive: add tooltips, and a legend whose entries hide their series, for use in a page.
      are_ours: whether flatwide trained the runs; if not, it is unknown what the runs of a seed share.
    Cost: nothing is trained or downloaded; some tenths of a second for 500 runs.
    """
    options = {"curves": curves or {}, "series": series or {}, "arrays": arrays or {}, "interactive": interactive}
    if len(split.domains) == 1:
        pieces, look = _arranged(split.domains[0])
        return _figures(pieces, look._replace(are_ours=are_ours), **options)
    figures, panels = [], []
    for domain in split.domains:
        pieces, look = _arranged(domain)
        ending = f"_{slug(domain.name)}"
        domain_figures = _figures(pieces, look._replace(ending=ending, are_ours=are_ours), **options)
        figures += [_of_domain(figure, domain.name) for figure in domain_figures]
        panels += _panels(pieces, look, domain.name)
    return [*_every_domain(panels, interactive=interactive, are_ours=are_ours), *figures]


def _arranged(domain: table.Domain) -> tuple[list[Piece], Look]:
    """Return the parts of a domain and the options that their figures share."""
    runs, metric = domain.runs, domain.question.metric
    pieces = [piece for part in domain.every_part if (piece := arrange(part)) is not None]
    axes = [name for name in domain.axes if any(name in piece.values for piece in pieces)]
    is_ordered = len(axes) == 1 and all(isinstance(piece.values.get(axes[0]), (int, float)) for piece in pieces)
    return pieces, Look(
        metric=metric,
        metric_name=fields.metric_name(runs, metric),
        base=fields.base_name(runs, unknown="base"),
        chosen_by=domain.chosen_by,
        axes=axes,
        is_ordered=is_ordered,
    )


def _figures(
    pieces: Sequence[Piece],
    look: Look,
    *,
    curves: Mapping[str, list[Row]],
    series: Mapping[str, list[Row]],
    arrays: Mapping[tuple[str, str], Mapping[str, Any]],
    interactive: bool,
) -> list[Figure]:
    """Draw every figure of a domain."""
    look = look._replace(interactive=interactive)
    are_few, figures = len(pieces) <= MOST_PIECES, []
    if len(pieces) > MOST_PARTS:
        figures += _overview(pieces, look)
    for page, group in pages(pieces, MOST_PARTS) if are_few else ():
        for draw in (by_width, _rhos, by_rho):
            figures += draw(group, look, look.ending + page)
    for draw in (by_axes, by_sparsity, at_equal_compute):
        figures += draw(pieces, look)
    for piece in pieces if curves and are_few else ():
        figures += _training(piece, look, curves, max(12, 40 // len(pieces)))
    figures += measured_figures(pieces, look, series=series, arrays=arrays)
    order = [GAIN, RHO, TRAINING, *SECTIONS]
    return sorted(figures, key=lambda figure: order.index(figure.section))


def _of_domain(figure: Figure, domain: str) -> Figure:
    """Add the domain to a figure, also in the chart's title, so that a saved chart names it."""
    import altair as alt

    chart = figure.chart
    if isinstance(chart.title, alt.TitleParams):
        chart = chart.properties(
            title=alt.Title(f"{domain}: {chart.title.text}", subtitle=chart.title.subtitle, frame="bounds")
        )
    return figure._replace(chart=chart, domain=domain)


def _panels(pieces: Sequence[Piece], look: Look, name: str) -> Iterator[tuple[Domain, list[Row]]]:
    """Return the panel of a domain in the figure of all domains, with its rows; nothing without a gain."""
    gains = [row for piece in pieces[:MOST_PARTS] for row in seeds_of(piece) if "gain" in row]
    if gains:
        corrected = corrected_gain(pieces[0]) if len(pieces) == 1 else None
        front = {"domain": name, "metric_name": look.metric_name}
        panel = Domain(
            title=f"{name}, over {look.base}",
            pairs=gains,
            metric_name=look.metric_name,
            corrected=corrected,
            is_ordered=look.is_ordered,
        )
        yield panel, [front | row for row in gains + (corrected or [])]


def _every_domain(panels: Sequence[tuple[Domain, list[Row]]], *, interactive: bool, are_ours: bool) -> Iterator[Figure]:
    """Draw the gain against width in every domain."""
    if panels:
        rows = [row for _, rows in panels for row in rows]
        yield Figure(
            name="gain_of_domains",
            title="Gain of SAM by size, in every domain",
            caption="Improvement of SAM at its best ρ over its base optimizer, against network size, with one panel "
            "and separate axes for each data set and model family. Above the dashed line SAM is better, whatever the "
            f"metric. {dots(are_ours=are_ours)} "
            + interval(rows, "domain", "part", "num_params")
            + " These intervals are pointwise; those in the table of domains hold jointly.",
            chart=gain_of_domains([panel for panel, _ in panels], interactive=interactive),
            data=rows,
            section=DOMAINS,
        )


def _overview(pieces: Sequence[Piece], look: Look) -> Iterator[Figure]:
    """Draw the gain of every part and width as a heat map."""
    names = ("num_params", "best_rho", "gain", "standard_error", "num_seeds", "num_diverged")
    rows = [
        {"part": piece.name} | {name: row[name] for name in names} | {"is_best": False}
        for piece in pieces
        for row in gain.rows(piece.part)
        if np.isfinite(row["gain"])
    ]
    many = " There are too many settings for separate figures: select some of them."
    if rows:
        name = f"gain_overview{look.ending}"
        yield Figure(
            name=name,
            title=f"Gain of SAM over {look.base}, all settings",
            caption=f"Mean gain of SAM at its best ρ over {look.base}, averaged over seeds, for every setting (rows) "
            f"and size (columns).{many if len(pieces) > MOST_PIECES else ''}",
            chart=heat_map(rows, down="part", metric=look.metric, **look.of_metric, name=name),
            data=rows,
            section=GAIN,
        )


def _rhos(group: Sequence[Piece], look: Look, ending: str) -> Iterator[Figure]:
    """Draw the best rho against width, and the gain or metric of every rho and width."""
    best, seeds, rows = [], [], []
    has_base = any(np.isfinite(width.values[:, 0]).any() for piece in group for width in piece.widths)
    for piece in group:
        part = piece.front
        best += [part | row for row in rho.rows(piece.part)]
        for width in piece.widths:
            for index, seed in enumerate(width.seeds):
                scores = width.choices[index, [1 + candidate for candidate in width.candidates]]
                if len(scores) and np.isfinite(scores).all():
                    best_rho = width.at([index]).best_rho
                    seeds.append(part | {"num_params": width.num_params, "seed": seed, "best_rho": best_rho})
            rows += [part | row for row in _summaries(width, piece.names, has_base)]
    if len({row["rho"] for row in rows if row["rho"] > 0}) < 2:
        return
    has_seeds = any(row["num_seeds"] > 1 for row in rows)
    if any(np.isfinite(row["best_rho"]) for row in best):
        beside = [row for row in printed(group, look) if row["best_rho"] is not None]
        yield _best_rho(best, seeds, beside, look, f"best_rho_by_width{ending}", has_seeds=has_seeds)
    if any(row["num_seeds"] for row in rows):
        yield _rho_map(rows, look, f"rho_by_width{ending}", is_gain=has_base)


def _best_rho(
    best: list[Row], seeds: list[Row], beside: list[Row], look: Look, name: str, *, has_seeds: bool
) -> Figure:
    """Draw the best rho against width, with the paper's values `beside` it."""
    import pandas as pd

    bars = "One seed: no interval."
    if has_seeds:
        bars = "Bars span the ρ that are statistically indistinguishable from it (95 % confidence set). A small dot is "
        bars += "the best ρ of a single seed, larger if several seeds agree."
    return Figure(
        name=name,
        title="Best ρ, by size",
        caption=f"The radius ρ of SAM's perturbation with the best {'mean over seeds' if has_seeds else 'metric'}, "
        f"against network size, chosen by {look.chosen_by.replace('_', ' ')}. {bars}"
        + (" Hollow points are the paper's values." if beside else ""),
        chart=best_rho_against_width(best, seeds=seeds, paper=beside, name=name, interactive=look.interactive),
        data=pd.DataFrame([*best, *seeds]),
        section=RHO,
    )


def _rho_map(rows: list[Row], look: Look, name: str, *, is_gain: bool) -> Figure:
    """Draw the gain or the metric of every rho and width."""
    rows = [row for row in rows if not is_gain or row["rho"] > 0]
    quantity = f"gain over {look.base}" if is_gain else label(look.metric, metric_name=look.metric_name)
    has_seeds = any(row["num_seeds"] > 1 for row in rows)
    colors = f"Mean {quantity} over seeds" if has_seeds else f"{capital(quantity)} of one seed"
    of = "gain" if is_gain else "mean"
    return Figure(
        name=name,
        title=f"{capital(quantity)}, by ρ and size",
        caption=f"{colors}, for every ρ (rows) and size (columns). Black frames mark the best ρ of each size. If a "
        "frame is at the edge of the grid, a better ρ may lie beyond it.",
        chart=heat_map(rows, of=of, metric=look.metric, **look.of_metric, name=name),
        data=rows,
        section=RHO,
    )


def _summaries(width: Width, names: Mapping, has_base: bool) -> Iterator[Row]:
    """Summarize each rho of a width."""
    for index, value in enumerate((0.0, *width.rhos)):
        column = width.values[:, index]
        here = column[np.isfinite(column)]
        missing = sum((width.value, value, seed) in names for seed in width.seeds) - len(here)
        if not len(here) and not missing:
            continue
        row = {"num_params": width.num_params, "rho": value, "num_seeds": len(here), "num_diverged": missing}
        row |= {"is_best": index > 0 and width.best == index - 1}
        row |= {"mean": float(here.mean())} if len(here) else {}
        gains = width.sign * (column - width.values[:, 0])
        gains = gains[np.isfinite(gains)]
        yield row | ({"gain": float(gains.mean())} if len(gains) and has_base else {})


def _training(piece: Piece, look: Look, curves: Mapping[str, list[Row]], most_points: int) -> Iterator[Figure]:
    """Draw the curves of the smallest and largest width, and of widths with curves in the paper."""
    shown = ("running_train_loss", "test_metric")
    beside = paper.curves_beside(piece.runs, shown)
    every = ends(piece, (row["num_params"] for row in beside))
    chosen = [facts for facts in every if study_curves.has_points(curves.get(facts["run"], ()), shown)]
    if not chosen:
        return
    name = f"training_curves{look.ending}{piece.ending}"
    hollow = " Hollow points are the paper's loss of SAM; it does not state ρ or the learning rate."
    yield Figure(
        name=name,
        title=piece.titled("Training"),
        caption=f"Training curves of {look.base} and of SAM at its best ρ, at the smallest and the largest size"
        f"{' and those of the paper' if beside else ''}. {study_curves.explained(chosen)} At most "
        f"{most_points} evaluations of a run are drawn. The training loss is the mean over the steps since the "
        f"previous evaluation.{hollow if beside else ''}",
        chart=study_curves.study_curves(
            chosen, curves, **look.of_metric, paper=beside, most_points=most_points, name=name
        ),
        data=[
            run | {column: row[column] for column in ("step", "epoch", *shown) if column in row}
            for run in chosen
            for row in curves[run["run"]]
        ],
        section=TRAINING,
    )
