"""Parameters over data, drawn: the gain of each number of training examples against three measures of size."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from flatwide.analysis import domains, gain, scaling
from flatwide.figures import lines
from flatwide.figures.labels import is_percent, label, wrapped
from flatwide.figures.pieces import Figure, slug
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
    """Draw the gain of each setting that has several numbers of training examples.

    Args:
      section: the heading that the figures belong under.
      runs, metric, choose_by: as for `analysis.scaling.scaling`.
    """
    several = len(domains.domains(runs)) > 1
    for front, here, found in scaling.of_runs(runs, width="num_params", metric=metric, choose_by=choose_by):
        title = domains.name(front)
        name = "_".join(filter(None, ["gain_by_parameters_over_data", slug(title) if title else ""]))
        base = gain.base_name(here, unknown="base")
        metric_name = "loss" if metric.endswith("loss") else gain.metric_name(here)
        measures = {one: at for one in scaling.MEASURES if (at := scaling.measure(found.cells, one)) is not None}
        rows = _rows(found, measures)
        own = domains.domains(here)[0].values if several else {}
        yield Figure(
            name=name,
            title=f"Gain of SAM over {base}, by parameters and by data",
            caption=(
                "The gain of each number of training examples, each seed at the ρ that the other seeds choose, against "
                "the number of parameters, against parameters per training example, and, where that is known, against "
                f"parameters over those from which {base} fits its training labels. Where the lines lie on one curve, "
                "that measure of size is what the gain depends on. Bars are 95 % t intervals of the mean over seeds."
            ),
            chart=_chart(rows, measures, name=name, base=base, metric_name=metric_name, interactive=interactive),
            data=rows,
            section=section,
            domain=domains.name({key: value for key, value in front.items() if key in own}) if several else "",
        )


def _rows(found: scaling.Scaling, measures: dict[str, np.ndarray]) -> list[dict[str, Any]]:
    """List the gain of each seed, with every measure of its size."""
    cells = found.cells
    return [
        {
            scaling.EXAMPLES: int(cells.examples[cell]),
            **{name: float(f"{10 ** at[cell]:.6g}") for name, at in measures.items()},
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
        y=alt.Y("value:Q", title=wrapped(label("gain", metric_name=metric_name)), scale=alt.Scale(zero=False)),
        has_zero=True,
        interactive=interactive,
    )
