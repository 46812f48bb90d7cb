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
from flatwide.analysis import estimates, fields, gain, rho, table
from flatwide.analysis.widths import Width
from flatwide.catalogue.entries import SECTIONS
from flatwide.figures import study_curves
from flatwide.figures.beside_paper import at_equal_compute, by_rho
from flatwide.figures.gain import Domain, gain_against_width, gain_of_domains, metric_against_width
from flatwide.figures.labels import label
from flatwide.figures.measured_gallery import measured_figures
from flatwide.figures.other_axes import by_axes, by_sparsity
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
    capital,
    dots,
    interval,
    printed,
    seeds_of,
    slug,
)
from flatwide.figures.rho import best_rho_against_width, heat_map


@table.for_table
def gallery(
    split: table.Split,
    *,
    curves: Mapping[str, list[dict[str, Any]]] | None = None,
    series: Mapping[str, list[dict[str, Any]]] | None = None,
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
    curves: Mapping[str, list[dict[str, Any]]],
    series: Mapping[str, list[dict[str, Any]]],
    arrays: Mapping[tuple[str, str], Mapping[str, Any]],
    interactive: bool,
) -> list[Figure]:
    """Draw every figure of a domain."""
    look = look._replace(interactive=interactive)
    groups = [pieces[start : start + MOST_PARTS] for start in range(0, len(pieces), MOST_PARTS)]
    figures = []
    if len(pieces) > MOST_PARTS:
        figures += _overview(pieces, look)
    for index, group in enumerate(groups if len(pieces) <= MOST_PIECES else []):
        ending = look.ending + (f"_{index + 1}" if len(groups) > 1 else "")
        figures += [*_by_width(group, look, ending), *_rhos(group, look, ending), *by_rho(group, look, ending)]
    figures += [*by_axes(pieces, look), *by_sparsity(pieces, look), *at_equal_compute(pieces, look)]
    for piece in pieces if curves and len(pieces) <= MOST_PIECES else []:
        ending = look.ending + (f"_{slug(piece.name)}" if piece.name else "")
        figures += _training(piece, look, curves, max(12, 40 // len(pieces)), ending)
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


def _panels(pieces: Sequence[Piece], look: Look, name: str) -> Iterator[tuple[Domain, list[dict[str, Any]]]]:
    """Return the panel of a domain in the figure of all domains, with its rows; nothing without a gain."""
    gains = [row for piece in pieces[:MOST_PARTS] for row in seeds_of(piece) if "gain" in row]
    if gains:
        corrected = _corrected(pieces[0]) if len(pieces) == 1 else None
        front = {"domain": name, "metric_name": look.metric_name}
        title = f"{name}, over {look.base}"
        panel = Domain(
            title=title,
            pairs=gains,
            metric_name=look.metric_name,
            corrected=corrected,
            is_ordered=look.is_ordered,
        )
        yield panel, [front | row for row in gains + (corrected or [])]


def _every_domain(
    panels: Sequence[tuple[Domain, list[dict[str, Any]]]], *, interactive: bool, are_ours: bool
) -> Iterator[Figure]:
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
    rows = []
    for piece in pieces:
        for row in gain.rows(piece.part):
            if np.isfinite(row["gain"]):
                names = ("num_params", "best_rho", "gain", "standard_error", "num_seeds", "num_diverged")
                rows.append({"part": piece.name} | {name: row[name] for name in names} | {"is_best": False})
    if rows:
        yield Figure(
            name=f"gain_overview{look.ending}",
            title=f"Gain of SAM over {look.base}, all settings",
            caption=f"Mean gain of SAM at its best ρ over {look.base}, averaged over seeds, for every setting (rows) "
            "and size (columns)."
            + (
                ""
                if len(pieces) <= MOST_PIECES
                else " There are too many settings for separate figures: select some of them."
            ),
            chart=heat_map(rows, down="part", metric=look.metric, **look.of_metric, name=f"gain_overview{look.ending}"),
            data=rows,
            section=GAIN,
        )


def _by_width(group: Sequence[Piece], look: Look, ending: str) -> Iterator[Figure]:
    """Draw gain and metric against width."""
    rows = [row for piece in group for row in seeds_of(piece)]
    if not rows:
        return
    beside = printed(group, look)
    words = " Hollow points are the paper's values at the same sizes." if beside else ""
    several = " Each line is one setting of the axes other than width." if len(group) > 1 else ""
    gains, bars = [row for row in rows if "gain" in row], interval(rows, "part", "num_params")
    if gains:
        corrected = _corrected(group[0]) if len(group) == 1 else None
        more = ""
        if corrected:
            more = " The second line removes selection bias across seeds: each seed uses the ρ chosen on the others."
        yield Figure(
            name=f"gain_by_width{ending}",
            title=f"Gain of SAM over {look.base}, by size",
            caption=f"Improvement of SAM at its best ρ over {look.base}, against network size. Above the dashed line "
            f"SAM is better. {look.dots} {bars}" + several + more + words,
            chart=gain_against_width(
                gains,
                **look.of_metric,
                corrected=corrected,
                paper=beside,
                is_ordered=look.is_ordered,
                name=f"gain_by_width{ending}",
            ),
            data=gains + (corrected or []),
            section=GAIN,
        )
    yield Figure(
        name=f"metric_by_width{ending}",
        title=f"{capital(label(look.metric, metric_name=look.metric_name))}, by size",
        caption=f"Final value of {look.base} and of SAM (at its best ρ), against network size. Each small dot is one "
        "run. " + bars + words,
        chart=metric_against_width(
            rows, **look.of_metric, metric=look.metric, paper=beside, name=f"metric_by_width{ending}"
        ),
        data=rows,
        section=GAIN,
    )


def _corrected(piece: Piece) -> list[dict[str, Any]] | None:
    """List the corrected gain of each seed and width; None if there was no choice to correct."""
    rows = []
    for width in piece.widths:
        comparison = width.comparison
        if comparison.is_usable and comparison.num_sam > 1:
            correction, scores = comparison.gain, comparison.scored.scores
            size = {"num_params": width.num_params, "of": "corrected"}
            rows += [
                size | {"seed": s, "gain": float(score)} for s, score in zip(comparison.seeds, scores, strict=True)
            ]
            rows.append(size | {"gain": correction.value, "low": correction.low, "high": correction.high})
    return rows or None


def _rhos(group: Sequence[Piece], look: Look, ending: str) -> Iterator[Figure]:
    """Draw the best rho against width, and the gain or metric of every rho and width."""
    best, seeds, rows = [], [], []
    has_base = any(np.isfinite(width.values[:, 0]).any() for piece in group for width in piece.widths)
    for piece in group:
        part = {"part": piece.name} if piece.name else {}
        best += [part | row for row in rho.rows(piece.part)]
        for width in piece.widths:
            for index, seed in enumerate(width.seeds):
                scores = width.choices[index, [1 + candidate for candidate in width.candidates]]
                if len(scores) and np.isfinite(scores).all():
                    seed_rho = width.rhos[width.candidates[int(estimates.choose(scores[None]))]]
                    seeds.append(part | {"num_params": width.num_params, "seed": seed, "best_rho": seed_rho})
            rows += [part | row for row in _summaries(width, piece.names, has_base)]
    if len({row["rho"] for row in rows if row["rho"] > 0}) < 2:
        return
    if any(np.isfinite(row["best_rho"]) for row in best):
        has_seeds = any(row["num_seeds"] > 1 for row in rows)
        yield _best_rho(best, seeds, printed(group, look), look, ending, has_seeds=has_seeds)
    if any(row["num_seeds"] for row in rows):
        yield _rho_map(rows, look, ending, of="gain" if has_base else "mean")


def _best_rho(
    best: list[dict[str, Any]],
    seeds: list[dict[str, Any]],
    beside: Sequence[dict[str, Any]],
    look: Look,
    ending: str,
    *,
    has_seeds: bool,
) -> Figure:
    """Draw the best rho against width, with the paper's values `beside` it."""
    import pandas as pd

    beside = [row for row in beside if row["best_rho"] is not None]
    bars = "One seed: no interval."
    if has_seeds:
        bars = "Bars span the ρ that are statistically indistinguishable from it (95 % confidence set). A small dot is "
        bars += "the best ρ of a single seed, larger if several seeds agree."
    name = f"best_rho_by_width{ending}"
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


def _rho_map(rows: list[dict[str, Any]], look: Look, ending: str, *, of: str) -> Figure:
    """Draw the gain or the metric of every rho and width."""
    rows = [row for row in rows if of == "mean" or row["rho"] > 0]
    quantity = f"gain over {look.base}" if of == "gain" else label(look.metric, metric_name=look.metric_name)
    has_seeds = any(row["num_seeds"] > 1 for row in rows)
    colors = f"Mean {quantity} over seeds" if has_seeds else f"{capital(quantity)} of one seed"
    return Figure(
        name=f"rho_by_width{ending}",
        title=f"{capital(quantity)}, by ρ and size",
        caption=f"{colors}, for every ρ (rows) and size (columns). Black frames mark the best ρ of each size. If a "
        "frame is at the edge of the grid, a better ρ may lie beyond it.",
        chart=heat_map(rows, of=of, metric=look.metric, **look.of_metric, name=f"rho_by_width{ending}"),
        data=rows,
        section=RHO,
    )


def _summaries(width: Width, names: Mapping, has_base: bool) -> Iterator[dict[str, Any]]:
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


def _training(
    piece: Piece, look: Look, curves: Mapping[str, list[dict[str, Any]]], most_points: int, ending: str
) -> Iterator[Figure]:
    """Draw the curves of the smallest and largest width, and of widths with curves in the paper."""
    printed = paper.curves_beside(piece.runs, ("running_train_loss", "test_metric"))
    sizes = {row["num_params"] for row in printed} | {width.num_params for width in (piece.widths[0], piece.widths[-1])}
    chosen = []
    for width in (width for width in piece.widths if width.num_params in sizes):
        for seed in width.seeds:
            for arm, value in (("base", 0.0), ("sam", width.best_rho)):
                run = piece.names.get((width.value, value, seed))
                if run in curves:
                    chosen.append({"run": run, "arm": arm, "num_params": width.num_params, "rho": value, "seed": seed})
    if not chosen:
        return
    title = "Training" + (f", {piece.name}" if piece.name else "")
    yield Figure(
        name=f"training_curves{ending}",
        title=title,
        caption=f"Training curves of {look.base} and of SAM at its best ρ, at the smallest and the largest size"
        f"{' and those of the paper' if printed else ''}. {study_curves.explained(chosen)} At most "
        f"{most_points} evaluations of a run are drawn. The training loss is the mean over the steps since the "
        "previous evaluation."
        + (" Hollow points are the paper's loss of SAM; it does not state ρ or the learning rate." if printed else ""),
        chart=study_curves.study_curves(
            chosen,
            curves,
            **look.of_metric,
            paper=printed,
            most_points=most_points,
            name=f"training_curves{ending}",
        ),
        data=[
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
        section=TRAINING,
    )
