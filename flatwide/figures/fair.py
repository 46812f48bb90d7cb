"""A fair fight drawn: the gain of SAM where each arm chose its settings, against the number of parameters."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from flatwide.analysis import domains, gain, paper, tuned
from flatwide.figures import lines
from flatwide.figures.labels import is_percent, label
from flatwide.figures.pieces import Figure, slug
from flatwide.figures.style import GREEN, colors

if TYPE_CHECKING:
    import pandas as pd

_SHOWN = (tuned.SAME, tuned.TUNED, tuned.TWICE, tuned.EQUAL_GRADIENTS, tuned.AVERAGED)


def tuned_figures(
    runs: "pd.DataFrame", *, tune: Sequence[str], metric: str, choose_by: str | None, interactive: bool, section: str
) -> Iterator[Figure]:
    """Draw the gain of every part of a table where base and SAM each chose the fields of `tune`.

    Args:
      section: the heading that the figures belong under.
      runs, tune, metric, choose_by: as for `analysis.tuned.tuned_gain`.
    """
    found = tuned.comparisons(runs, tune=tune, width="num_params", metric=metric, choose_by=choose_by)
    several = len(domains.domains(runs)) > 1
    for part in tuned.parts(runs, tune=tune):
        here = [one for one in found if one.values == part.values and one.name in _SHOWN]
        for length in sorted({one.length for one in here}):
            shown = [one for one in here if one.length == length]
            title = domains.name(part.values)
            ending = f"{length:g}" if len({one.length for one in here}) > 1 else ""
            name = "_".join(filter(None, ["tuned_gain", slug(title) if title else "", ending]))
            base = gain.base_name(part.runs)
            metric_name = "loss" if metric.endswith("loss") else gain.metric_name(part.runs)
            printed = paper.best_decay_beside(part.runs) if list(tune) == ["weight_decay"] else []
            chart = _chart(shown, printed, name=name, base=base, metric_name=metric_name, interactive=interactive)
            yield Figure(
                name=name,
                title=f"Gain of SAM over {base} where each chose its own {' and '.join(tune)}",
                caption=(
                    f"Tuned: each seed is scored where the other seeds choose, for {base} and SAM alike. "
                    f"Same settings: SAM takes those of {base} and chooses ρ only. Bars are 95 % intervals that allow "
                    "for the choices of both."
                    + (" Hollow points are the paper's, the best of SAM less the best of its base." if printed else "")
                ),
                chart=chart,
                data=[row for one in shown for row in tuned.rows(one, width="num_params")],
                section=section,
                domain=domains.name(domains.domains(part.runs)[0].values) if several else "",
            )


def line_of(one: tuned.Comparison, name: str, color: str, *, factor: float) -> lines.Line:
    """Make the line of a comparison: the gain of each width with its interval, and the score of each seed."""
    dots = [
        {"x": pair.num_params, "value": factor * score, "seed": seed}
        for pair, found in zip(one.pairs, one.gains, strict=True)
        for seed, score in zip(pair.base.seeds, found.scores.tolist(), strict=True)
    ]
    means = [
        {"x": pair.num_params, "mean": factor * found.gain, "low": factor * found.low, "high": factor * found.high}
        for pair, found in zip(one.pairs, one.gains, strict=True)
    ]
    return lines.Line(name, color, dots, means)


def _chart(
    shown: Sequence[tuned.Comparison],
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
    drawn = [line_of(one, one.name, color, factor=factor) for one, color in zip(shown, palette, strict=True)]
    theirs = [
        {"x": row["num_params"], "mean": factor * row["gain"]}
        | {"low": factor * (row["gain"] - row["gain_band"]), "high": factor * (row["gain"] + row["gain_band"])}
        for row in printed
    ]
    drawn += [lines.Line(lines.PAPER, GREEN, [], theirs, is_hollow=True)] if theirs else []
    sizes = sorted({pair.num_params for one in shown for pair in one.pairs})
    return lines.figure(
        [lines.Panel("", drawn)],
        name=name,
        title=f"Gain of SAM over {base}, each at settings of its own",
        across=lines.Across("num_params", sizes),
        y=alt.Y("value:Q", title=label("gain", metric_name=metric_name), scale=alt.Scale(zero=False)),
        subtitle="small dots: each seed; large points and bars: mean and 95 % interval of {seeds}",
        has_zero=True,
        interactive=interactive,
    )
