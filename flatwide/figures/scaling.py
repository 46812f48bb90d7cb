"""Gain of SAM at each number of training examples against three measures of size."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from flatwide.analysis import domains, gain, scaling
from flatwide.figures import axes, lines
from flatwide.figures.labels import is_percent, label, wrapped
from flatwide.figures.pieces import Figure, interval, slug
from flatwide.figures.style import colors

if TYPE_CHECKING:
    import pandas as pd

_TITLES = {
    scaling.PARAMETERS: "parameters",
    scaling.PER_EXAMPLE: "parameters per example",
    scaling.OVER_INTERPOLATION: "parameters over interpolation",
}


def scaling_figures(
    runs: "pd.DataFrame", *, metric: str, choose_by: str | None, interactive: bool, section: str
) -> Iterator[Figure]:
    """Draw the gain of each setting with several numbers of training examples.

    Args:
      section: heading under which the figures appear.
      runs, metric, choose_by: as for `analysis.scaling.scaling`.
    """
    has_several_domains = len(domains.domains(runs)) > 1
    for front, part_runs, result in scaling.of_runs(runs, width="num_params", metric=metric, choose_by=choose_by):
        title = domains.name(front)
        name = "_".join(filter(None, ["gain_by_parameters_over_data", slug(title) if title else ""]))
        base = gain.base_name(part_runs, unknown="base")
        metric_name = "loss" if metric.endswith("loss") else gain.metric_name(part_runs)
        measures = {
            measure: logarithms
            for measure in scaling.MEASURES
            if (logarithms := scaling.measure(result.cells, measure)) is not None
        }
        rows = _rows(result, measures)
        domain_values = domains.domains(part_runs)[0].values if has_several_domains else {}
        yield Figure(
            name=name,
            title=f"Gain of SAM over {base}, by parameters and by data",
            caption=(
                "Gain at each number of training examples, with each seed at the ρ chosen on the other seeds, against "
                "the number of parameters, parameters per training example, and, where it is known, parameters over "
                f"those at which {base} fits its training labels. If the lines collapse onto one curve, the gain "
                f"depends on that measure of size. {interval(rows, scaling.EXAMPLES, *measures)}"
            ),
            chart=_chart(rows, measures, name=name, base=base, metric_name=metric_name, interactive=interactive),
            data=rows,
            section=section,
            domain=domains.name({key: value for key, value in front.items() if key in domain_values})
            if has_several_domains
            else "",
        )


def _rows(result: scaling.Scaling, measures: dict[str, np.ndarray]) -> list[dict[str, Any]]:
    """List the gain of each seed, with every measure of size."""
    cells = result.cells
    return [
        {
            scaling.EXAMPLES: int(cells.examples[cell]),
            **{name: float(f"{10 ** logarithms[cell]:.6g}") for name, logarithms in measures.items()},
            "seed": seed,
            "gain": float(cells.gains[cell, column]),
        }
        for cell in range(len(cells.sizes))
        for column, seed in enumerate(cells.seeds)
    ]


def _chart(
    rows: list[dict[str, Any]],
    measures: dict[str, np.ndarray],
    *,
    name: str,
    base: str,
    metric_name: str,
    interactive: bool,
) -> Any:
    import altair as alt

    factor = 100 if is_percent(metric_name) else 1
    counts = sorted({row[scaling.EXAMPLES] for row in rows})
    palette = dict(zip(counts, colors(len(counts), ordered=True), strict=True))
    panels = []
    for measure in measures:
        drawn = [
            lines.Line(
                f"{count:,} examples",
                palette[count],
                [
                    {"x": row[measure], "value": factor * row["gain"], "seed": row["seed"]}
                    for row in rows
                    if row[scaling.EXAMPLES] == count
                ],
            )
            for count in counts
        ]
        values = sorted({row[measure] for row in rows})
        panels.append(lines.Panel(_TITLES[measure], drawn, across=lines.Across(measure, values)))
    return lines.figure(
        panels,
        name=name,
        title=f"Gain of SAM over {base}, by parameters and by data",
        across=panels[0].across,
        y=alt.Y("value:Q", title=wrapped(label("gain", metric_name=metric_name)), scale=axes.padded_scale()),
        has_zero=True,
        interactive=interactive,
    )
