"""The gain of SAM against the number of parameters when base and SAM are tuned separately."""

from collections.abc import Iterator, Sequence
from typing import Any

from flatwide import paper
from flatwide.analysis import comparisons, fields, table, tuned
from flatwide.analysis.comparisons import Compared
from flatwide.figures import axes, lines
from flatwide.figures.labels import is_percent, label
from flatwide.figures.pieces import Figure, slug
from flatwide.figures.style import GREEN, colors

_SHOWN = (comparisons.SAME, comparisons.TUNED, comparisons.EQUAL_COMPUTE, comparisons.AVERAGED)


def tuned_figures(split: table.Split, *, interactive: bool, section: str) -> Iterator[Figure]:
    """Draw the gain in every part of a table, with the fields of `tune` chosen separately for base and SAM.

    Args:
      section: heading under which the figures appear.
    """
    tune = split.question.tune
    for part in split.tuned:
        compared = [each for each in part.comparisons if each.kind in _SHOWN]
        lengths = sorted({each.length for each in compared})
        for length in lengths:
            shown = [each for each in compared if each.length == length]
            ending = f"{length:g}" if len(lengths) > 1 else ""
            name = "_".join(filter(None, ["tuned_gain", slug(part.name) if part.name else "", ending]))
            base = part.base
            metric_name = fields.metric_name(part.runs, part.question.metric)
            printed = paper.best_weight_decay_beside(part.runs) if tune == ("weight_decay",) else []
            chart = _chart(shown, printed, name=name, base=base, metric_name=metric_name, interactive=interactive)
            yield Figure(
                name=name,
                title=f"Gain of SAM over {base} with {' and '.join(tune)} tuned for each",
                caption=(
                    f"Tuned: each seed is scored at the settings chosen on the other seeds, for {base} and SAM alike. "
                    f"Same settings: SAM uses those of {base}, and only ρ is chosen. Bars are 95 % intervals that "
                    "account for both choices."
                    + (
                        " Hollow points are the paper's: the best value of SAM minus the best of its base."
                        if printed
                        else ""
                    )
                ),
                chart=chart,
                data=[row for each in shown for row in tuned.rows(part, each)],
                section=section,
                domain=table.name_of(part.domain_values),
            )


def line_of(comparison: Compared, name: str, color: str, *, factor: float) -> lines.Line:
    """Return the line of a comparison: the gain at each width with its interval, and the score of each seed."""
    dots = [
        {"x": pair.num_params, "value": factor * score, "seed": seed}
        for pair in comparison.widths
        for seed, score in zip(pair.seeds, pair.scored.scores.tolist(), strict=True)
    ]
    means = [
        {
            "x": pair.num_params,
            "mean": factor * pair.gain.value,
            "low": factor * pair.gain.low,
            "high": factor * pair.gain.high,
        }
        for pair in comparison.widths
    ]
    return lines.Line(name, color, dots, means)


def _chart(
    shown: Sequence[Compared],
    printed: Sequence[dict[str, Any]],
    *,
    name: str,
    base: str,
    metric_name: str,
    interactive: bool,
) -> Any:
    import altair as alt

    factor = 100 if is_percent(metric_name) else 1
    palette = colors(len(shown), ordered=False)
    drawn = [
        line_of(comparison, comparison.kind, color, factor=factor)
        for comparison, color in zip(shown, palette, strict=True)
    ]
    paper_points = [
        {"x": row["num_params"], "mean": factor * row["gain"]}
        | {"low": factor * (row["gain"] - row["gain_band"]), "high": factor * (row["gain"] + row["gain_band"])}
        for row in printed
    ]
    drawn += [lines.Line(lines.PAPER, GREEN, [], paper_points, is_hollow=True)] if paper_points else []
    sizes = sorted({pair.num_params for comparison in shown for pair in comparison.widths})
    return lines.figure(
        [lines.Panel("", drawn)],
        name=name,
        title=f"Gain of SAM over {base}, each tuned separately",
        across=lines.Across("num_params", sizes),
        y=alt.Y("value:Q", title=label("gain", metric_name=metric_name), scale=axes.padded_scale()),
        subtitle="small dots: each seed; large points and bars: mean and 95 % interval of {seeds}",
        has_zero=True,
        interactive=interactive,
    )
