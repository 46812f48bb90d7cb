"""Gain of SAM at each number of training examples against three measures of size."""

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

from flatwide.analysis import scaling, table
from flatwide.figures import lines
from flatwide.figures.drawing import short
from flatwide.figures.gain import against
from flatwide.figures.pieces import GAIN, Figure, interval, slug, styled
from flatwide.figures.style import DEFAULT, Style, colors
from flatwide.figures.tables import by_part

_TITLES = {
    scaling.PARAMETERS: "parameters",
    scaling.PER_EXAMPLE: "parameters per example",
    scaling.OVER_INTERPOLATION: "parameters over interpolation",
}


def scaling_figures(split: table.Split, style: Style = DEFAULT) -> Iterator[Figure]:
    """Draw the gain of each setting with several numbers of training examples."""
    for front, part, result in scaling.by_setting(split):
        name = "_".join(filter(None, ["gain_by_parameters_over_data", slug(table.name_of(front))]))
        style = styled(part, style)
        measures = {
            measure: logarithms
            for measure in scaling.MEASURES
            if (logarithms := scaling.measure(result.gains, measure)) is not None
        }
        rows, title = _rows(result, measures), f"Gain of SAM over {style.base}, by parameters and by data"
        panels = [_panel(rows, measure, style.factor) for measure in measures]
        yield Figure(
            name=name,
            title=title,
            caption=(
                "Gain at each number of training examples, with each seed at the ρ chosen on the other seeds, against "
                "the number of parameters, parameters per training example, and, where it is known, parameters over "
                f"those at which {style.base} fits its training labels. If the lines collapse onto one curve, the gain "
                f"depends on that measure of size. {interval(rows, scaling.EXAMPLES, *measures)}"
            ),
            chart=against(panels, scaling.PARAMETERS, "gain", title=title, name=name, style=style),
            data=rows,
            section=GAIN,
            domain=table.name_of(part.domain_values),
        )


def _rows(result: scaling.Scaling, measures: dict[str, np.ndarray]) -> list[dict[str, Any]]:
    """List the gain of each seed, with every measure of size."""
    gains = result.gains
    return [
        {
            scaling.EXAMPLES: int(gains.examples[row]),
            **{name: short(10 ** logarithms[row], digits=6) for name, logarithms in measures.items()},
            "seed": seed,
            "gain": float(gains.values[row, column]),
        }
        for row in range(len(gains.sizes))
        for column, seed in enumerate(gains.seeds)
    ]


def _panel(rows: Iterable[dict[str, Any]], measure: str, factor: int) -> lines.Panel:
    """Return the panel of a measure of size: a line for each number of examples."""
    groups = sorted(by_part(rows, scaling.EXAMPLES).items())
    drawn = [
        lines.Line(f"{count:,} examples", color, lines.dots(here, "gain", x=measure, factor=factor))
        for (count, here), color in zip(groups, colors(len(groups), ordered=True), strict=True)
    ]
    return lines.Panel(_TITLES[measure], drawn, across=lines.Across(measure))
