"""The gain of SAM against the number of parameters when base and SAM are tuned separately."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from flatwide.analysis import arms, domains, gain, paper, tuned
from flatwide.figures import axes, lines
from flatwide.figures.labels import is_percent, label
from flatwide.figures.pieces import Figure, slug
from flatwide.figures.style import GREEN, colors

if TYPE_CHECKING:
    import pandas as pd

_SHOWN = (tuned.SAME, tuned.TUNED, tuned.EQUAL_COMPUTE, tuned.AVERAGED)


def tuned_figures(
    runs: "pd.DataFrame", *, tune: Sequence[str], metric: str, choose_by: str | None, interactive: bool, section: str
) -> Iterator[Figure]:
    """Draw the gain in every part of a table, with the fields of `tune` chosen separately for base and SAM.

    Args:
      section: heading under which the figures appear.
      runs, tune, metric, choose_by: as for `analysis.tuned.tuned_gain`.
    """
    options = {"width": "num_params", "metric": metric, "choose_by": choose_by}
    comparisons = tuned.comparisons(runs, tune=tune, names=_SHOWN, **options)
    has_several_domains = len(domains.domains(runs)) > 1
    for part in tuned.parts(runs, tune=tune):
        part_comparisons = [comparison for comparison in comparisons if comparison.values == part.values]
        for length in sorted({comparison.length for comparison in part_comparisons}):
            shown = [comparison for comparison in part_comparisons if comparison.length == length]
            title = domains.name(part.values)
            ending = f"{length:g}" if len({comparison.length for comparison in part_comparisons}) > 1 else ""
            name = "_".join(filter(None, ["tuned_gain", slug(title) if title else "", ending]))
            base = gain.base_name(part.runs)
            metric_name = "loss" if metric.endswith("loss") else gain.metric_name(part.runs)
            printed = paper.best_decay_beside(part.runs) if list(tune) == ["weight_decay"] else []
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
                data=[row for comparison in shown for row in tuned.rows(comparison, width="num_params")],
                section=section,
                domain=domains.name(domains.domains(part.runs)[0].values) if has_several_domains else "",
            )


def line_of(comparison: tuned.Compared, name: str, color: str, *, factor: float) -> lines.Line:
    """Return the line of a comparison: the gain at each width with its interval, and the score of each seed."""
    dots = [
        {"x": pair.num_params, "value": factor * score, "seed": seed}
        for pair in comparison.widths
        for seed, score in zip(pair.seeds, arms.score(pair).scores.tolist(), strict=True)
    ]
    means = [
        {
            "x": pair.num_params,
            "mean": factor * estimate.value,
            "low": factor * estimate.low,
            "high": factor * estimate.high,
        }
        for pair, estimate in zip(comparison.widths, comparison.gains, strict=True)
    ]
    return lines.Line(name, color, dots, means)


def _chart(
    shown: Sequence[tuned.Compared],
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
        line_of(comparison, comparison.name, color, factor=factor)
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
