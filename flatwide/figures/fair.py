"""The gain of SAM against the number of parameters when base and SAM are tuned separately."""

from collections.abc import Iterator
from typing import Any

from flatwide import paper
from flatwide.analysis import comparisons, table, tuned
from flatwide.analysis.comparisons import Compared
from flatwide.figures import lines
from flatwide.figures.gain import against
from flatwide.figures.pieces import GAIN, Figure, slug, styled
from flatwide.figures.style import DEFAULT, GREEN, Style, colors

_SHOWN = (comparisons.SAME, comparisons.TUNED, comparisons.EQUAL_COMPUTE, comparisons.AVERAGED)


def tuned_figures(split: table.Split, style: Style = DEFAULT) -> Iterator[Figure]:
    """Draw the gain in every part of a table, with the fields of `tune` chosen separately for base and SAM."""
    tune = split.question.tune
    for part in split.tuned:
        compared = [each for each in part.comparisons if each.kind in _SHOWN]
        lengths, base = sorted({each.length for each in compared}), part.base
        style = styled(part, style)
        printed = paper.best_weight_decay_beside(part.runs) if tune == ("weight_decay",) else []
        beside = lines.hollow(printed, "gain", GREEN, x="num_params", factor=style.factor)
        hollow = " Hollow points are the paper's: the best value of SAM minus the best of its base."
        for length in lengths:
            shown = [each for each in compared if each.length == length]
            ending = f"{length:g}" if len(lengths) > 1 else ""
            name = "_".join(filter(None, ["tuned_gain", slug(part.name), ending]))
            palette = zip(shown, colors(len(shown), ordered=False), strict=True)
            drawn = [line_of(each, each.kind, color, factor=style.factor) for each, color in palette]
            yield Figure(
                name=name,
                title=f"Gain of SAM over {base} with {' and '.join(tune)} tuned for each",
                caption=f"Tuned: each seed is scored at the settings chosen on the other seeds, for {base} and SAM "
                f"alike. Same settings: SAM uses those of {base}, and only ρ is chosen. Bars are 95 % intervals that "
                f"account for both choices.{hollow if printed else ''}",
                chart=against(
                    [lines.Panel("", drawn + beside)],
                    "num_params",
                    "gain",
                    title=f"Gain of SAM over {base}, each tuned separately",
                    subtitle="small dots: each seed; large points and bars: mean and 95 % interval of {seeds}",
                    name=name,
                    style=style,
                ),
                data=[row for each in shown for row in tuned.rows(part, each)],
                section=GAIN,
                domain=table.name_of(part.domain_values),
            )


def line_of(comparison: Compared, name: str, color: str, *, factor: float) -> lines.Line:
    """Return the line of a comparison: the gain at each width with its interval, and the score of each seed."""
    share: dict[str, Any] = {"x": "num_params", "factor": factor}
    scores = [
        {"num_params": pair.num_params, "gain": score, "seed": seed}
        for pair in comparison.widths
        for seed, score in zip(pair.seeds, pair.scored.values[0].tolist(), strict=True)
    ]
    means = [
        {"num_params": pair.num_params, "gain": pair.gain.value, "low": pair.gain.low, "high": pair.gain.high}
        for pair in comparison.widths
    ]
    return lines.Line(name, color, lines.dots(scores, "gain", **share), lines.intervals(means, "gain", **share))
