"""Gain of SAM at each number of training examples against three measures of size."""

from collections.abc import Iterator
from typing import Any

import numpy as np

from flatwide.analysis import fields, scaling, table
from flatwide.figures import axes, lines
from flatwide.figures.labels import is_percent, label, wrapped
from flatwide.figures.pieces import Figure, interval, slug
from flatwide.figures.style import colors

_TITLES = {
    scaling.PARAMETERS: "parameters",
    scaling.PER_EXAMPLE: "parameters per example",
    scaling.OVER_INTERPOLATION: "parameters over interpolation",
}


def scaling_figures(split: table.Split, *, interactive: bool, section: str) -> Iterator[Figure]:
    """Draw the gain of each setting with several numbers of training examples.

    Args:
      section: heading under which the figures appear.
    """
    for front, part, result in scaling.by_setting(split):
        title = table.name_of(front)
        name = "_".join(filter(None, ["gain_by_parameters_over_data", slug(title) if title else ""]))
        base = fields.base_name(part.runs, unknown="base")
        metric_name = fields.metric_name(part.runs, part.question.metric)
        measures = {
            measure: logarithms
            for measure in scaling.MEASURES
            if (logarithms := scaling.measure(result.gains, measure)) is not None
        }
        rows = _rows(result, measures)
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
            domain=table.name_of(part.domain_values),
        )


def _rows(result: scaling.Scaling, measures: dict[str, np.ndarray]) -> list[dict[str, Any]]:
    """List the gain of each seed, with every measure of size."""
    gains = result.gains
    return [
        {
            scaling.EXAMPLES: int(gains.examples[row]),
            **{name: float(f"{10 ** logarithms[row]:.6g}") for name, logarithms in measures.items()},
            "seed": seed,
            "gain": float(gains.values[row, column]),
        }
        for row in range(len(gains.sizes))
        for column, seed in enumerate(gains.seeds)
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
