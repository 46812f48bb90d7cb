"""Sentences about what a study shows beyond the trend of the gain, each with its interval.

For one part of the table: whether the best rho changes with width, whether SAM itself improves, and whether the gain
peaks where the base first fits its training labels. Across parts: how another numeric axis, such as label noise,
changes the trend of the gain, and how sparsity does at a fixed number of weights.
"""

import dataclasses
import math
from collections.abc import Mapping, Sequence

from flatwide.analysis import (
    axes,
    estimates,
    fields,
    gain,
    interpolation,
    metrics,
    planning,
    rho,
    scaling,
    table,
    verdict,
)
from flatwide.answers import wording

_MEASURES = {
    scaling.PARAMETERS: "the number of parameters",
    scaling.PER_EXAMPLE: "parameters per training example",
    scaling.OVER_INTERPOLATION: "parameters relative to the number from which {base} fits its labels",
}


def sentences(part: table.Part) -> str:
    """Write the sentences about one part: the trend of the best rho, of SAM itself, and the peak of the gain."""
    written = [
        best_rho(rho.trend_of_best(part.widths), part.what_grows),
        sam_itself(part),
        peak(interpolation.peak(part), part.base, part.what_grows),
    ]
    return " ".join(filter(None, written))


def best_rho(trend_of_rho: rho.RhoTrend, word: str) -> str:
    """Write whether the best rho changes with width; empty where this is unknown."""
    if trend_of_rho.direction is None:
        return ""
    verb = {1: f"grows with {word}", -1: f"shrinks with {word}", 0: f"shows no clear trend with {word}"}
    if trend_of_rho.low > 1 or trend_of_rho.high < 1:
        verb[0] = f"does not differ detectably between the smallest {word} and the largest, whose sets overlap"
    sets = " and ".join(
        "{" + ", ".join(f"{radius:g}" for radius in members) + "}"
        for members in (trend_of_rho.smallest, trend_of_rho.largest)
    )
    seeds = f"{trend_of_rho.num_seeds} seeds; the joint 95 % sets at the smallest and the largest {word} are {sets}"
    rate = f"×{trend_of_rho.factor:.3g} per tenfold increase in parameters, {_factor_ends(trend_of_rho)}"
    edges = [
        f"the {side} end at {wording.sizes(at)} parameters"
        for at, side in ((trend_of_rho.at_low_edge, "low"), (trend_of_rho.at_high_edge, "high"))
        if at
    ]
    text = f"The best rho {verb[trend_of_rho.direction]} ({rate}; {seeds})"
    if edges:
        text += f"; with all seeds or with one left out it lies at an end of its grid, {' and '.join(edges)}:"
        text += " a better rho may lie beyond it"
    return f"{text}."


def _factor_ends(trend_of_rho: rho.RhoTrend) -> str:
    if trend_of_rho.low == 0 and math.isinf(trend_of_rho.high):
        return "unbounded on both sides, because the grids end there"
    if math.isinf(trend_of_rho.high):
        return f"at least ×{trend_of_rho.low:.3g} with 97.5 % confidence, and no upper bound because the grids end"
    if trend_of_rho.low == 0:
        return f"at most ×{trend_of_rho.high:.3g} with 97.5 % confidence, and no lower bound because the grids end"
    if trend_of_rho.high - trend_of_rho.low < 1e-9 * trend_of_rho.high:
        return "the same whichever seed is left out"
    return f"95 % interval ×{trend_of_rho.low:.3g} to ×{trend_of_rho.high:.3g}"


def sam_itself(part: table.Part) -> str:
    """Write whether SAM itself improves with width, each seed scored at the rho that the other seeds choose."""
    sam_scores, units, word = gain.scores_of_sam(part), part.units, part.what_grows
    decided = verdict.verdict(sam_scores)
    if decided.kind == verdict.UNKNOWN:
        return ""
    slope, seems = estimates.slope(sam_scores), decided.is_tentative
    improves, worsens, is_ = (
        ("seems to improve", "seems to get worse", "seems to be") if seems else ("improves", "gets worse", "is")
    )
    rests = f"; this rests on the networks with {wording.sizes(decided.rests_on)} parameters"
    better = {
        verdict.GROWS: f"{improves} with {word}",
        verdict.SHRINKS: f"{worsens} with {word}",
        verdict.LARGER: f"{is_} better at large {word}s{rests}",
        verdict.SMALLER: f"{is_} worse at large {word}s{rests}",
        verdict.PEAKS: f"{is_} best at {decided.peak or 0:,} parameters",
    }.get(decided.kind, f"shows no clear trend with {word}")
    subject = f"SAM's own {units.name}" if units.name != "metric" else "SAM itself"
    rise = wording.rise(decided.rise, units, word)
    return (
        f"{subject} {better} ({units.amount(slope.value)} per tenfold increase in parameters, 95 % interval "
        f"{units.interval(slope.low, slope.high)}; {rise}; {len(sam_scores.seeds)} seeds)."
    )


def peak(estimate: interpolation.Peak, base: str, word: str) -> str:
    """Write whether the gain peaks where the base first fits its training labels; empty where this is unknown."""
    if estimate.largest_gain is None:
        return ""
    low, high = estimate.onset_low, estimate.onset_high
    ends = f"95 % interval {max(low, 1):,.0f} to {high:,.0f}"
    if math.isinf(estimate.onset):
        fits = f"{base} does not fit its training labels at any {word} here, in any seed"
    elif math.isinf(high) and low:
        fits = (
            f"{base} first fits its training labels at or above {estimate.onset:,.0f} parameters, "
            "not in every seed here"
        )
    elif math.isinf(high):
        fits = f"the seeds do not agree on the size at which {base} first fits its training labels"
    elif not low:
        fits = f"{base} first fits its training labels at or below {high:,.0f} parameters"
    else:
        fits = f"{base} first fits its training labels at {estimate.onset:,.0f} parameters ({ends})"
    is_first, is_last = not estimate.peak_low, math.isinf(estimate.peak_high)
    where = f"the gain is largest at {estimate.largest_gain:,} parameters"
    if is_first and is_last:
        where += ", but the seeds do not show which size has the largest"
    elif is_last:
        where += f" (the peak is above {estimate.peak_low:,.0f}, and may lie beyond the largest {word})"
    elif is_first:
        where += f" (the peak is below {estimate.peak_high:,.0f}, and may lie below the smallest {word})"
    else:
        where += f" (the peak is between {estimate.peak_low:,.0f} and {estimate.peak_high:,.0f})"
    return f"{fits[0].upper()}{fits[1:]}, and {where}: {_peak_verdict(estimate)}."


def _peak_verdict(estimate: interpolation.Peak) -> str:
    low, high = estimate.ratio_low, estimate.ratio_high
    ends = f"{low:.2g} to {high:.2g} times that size" if not math.isinf(high) else f"{low:.2g} times that size or more"
    ends = ends if low else f"{high:.2g} times that size or less"
    if low > 1:
        return f"the gain peaks in larger networks than that ({ends})"
    if high < 1:
        return f"the gain peaks in smaller networks than that ({ends})"
    if not low and math.isinf(high):
        return "this study does not decide whether it peaks where the base first fits"
    return f"the peak is statistically indistinguishable from that point ({ends})"


def sentences_on_axes(split: table.Split) -> list[tuple[str, str]]:
    """Write a sentence for each numeric axis besides the width, and for sparsity at a fixed number of weights.

    Axes that each arm tunes are left out.

    Returns: pairs of the name of the domain and the other settings, and the sentence.
    """
    written = []
    for domain in split.domains:
        for axis, front, parts in axes.numeric_axes(domain):
            if axis not in split.question.tune and (text := _on_axis(parts, axis)):
                written.append((table.name_of(front), text))
        written += _at_fixed_weights(domain)
    return written


def _on_axis(parts: Sequence[table.Part], axis: str) -> str:
    changes = axes.levels(parts, axis)
    if changes is None:
        return ""
    units, word = parts[0].units, parts[0].what_grows
    has_slope = len(changes.sizes) > 1
    verb = {1: "rises with", -1: "falls with", 0: "shows no clear change with"}[changes.direction]
    first, *_, last = changes.values
    listed = ", ".join(f"{value:g}" for value in changes.values)
    if has_slope:
        subject, per = f"The trend of the gain with {word}", " per tenfold increase in parameters"
        over = f"{changes.sizes[0]:,} to {changes.sizes[-1]:,} parameters"
    else:
        subject, per, over = "The gain", "", f"{changes.sizes[0]:,} parameters"
    rise = ""
    if len(changes.values) > 2:
        ends = units.interval(changes.rise.low, changes.rise.high)
        rise = f"; from these two values alone {units.gain(changes.rise.value)}, {ends}"
    return (
        f"{subject} {verb} {axis} ({listed}): {units.change(changes.change.value)}{per} from {first:g} to "
        f"{last:g} (95 % interval {units.interval(changes.change.low, changes.change.high)}{rise}; "
        f"{over}, {changes.change.num_seeds} seeds)."
    )


def _at_fixed_weights(domain: table.Domain) -> list[tuple[str, str]]:
    """Write how the gain depends on size where networks grow at a fixed number of nonzero weights."""
    written = []
    for budget, runs in axes.budgets(domain.runs):
        for part in dataclasses.replace(domain, runs=runs).parts:
            if part.verdict.kind == verdict.UNKNOWN:
                continue
            units, slope = part.units, estimates.slope(part.scores)
            shares = [row["sparsity"] for row in fields.done(part.runs) if row["sparsity"] is not None]
            written.append(
                (
                    part.name,
                    f"With {budget:,} nonzero parameters in each network (sparsities {min(shares):.3g} to "
                    f"{max(shares):.3g}), the gain {wording.verb(part.verdict, part.what_grows)}: "
                    f"{units.change(slope.value)} per tenfold increase in parameters before pruning (95 % interval "
                    f"{units.interval(slope.low, slope.high)}; {len(part.scores.seeds)} seeds).",
                )
            )
    return written


def one_curve(comparison: scaling.Scaling, units: metrics.Units, base: str) -> str:
    """Write how close to one curve the gains lie against each measure, and which is closest; "" below three seeds."""
    with_interval = {name: variance for name, variance in comparison.variances.items() if math.isfinite(variance.low)}
    if len(with_interval) < 2:
        return ""
    square = units.factor**2
    unit = " points²" if units.is_percent else ""

    def amount(variance: scaling.Variance) -> str:
        value, low, high = (max(square * end, 0) for end in (variance.value, variance.low, variance.high))
        return f"{value:.3g}{unit} (95 % interval {low:.3g} to {high:.3g})"

    words = {name: text.format(base=base) for name, text in _MEASURES.items()}
    counts = ", ".join(f"{count:,}" for count in dict.fromkeys(comparison.gains.examples.tolist()))
    listed = "; ".join(f"{amount(variance)} against {words[name]}" for name, variance in with_interval.items())
    text = f"The true gains for {counts} training examples deviate from one curve with a variance of {listed}"
    if scaling.OVER_INTERPOLATION not in with_interval:
        text += f"; the size from which {base} fits its labels is not known for every number of examples"
    return f"{text}: {_nearest(comparison, with_interval, words)}; {len(comparison.gains.seeds)} seeds."


def _nearest(
    comparison: scaling.Scaling, with_interval: Mapping[str, scaling.Variance], words: Mapping[str, str]
) -> str:
    """Write which measure gives one curve, as far as the intervals show."""
    if (name := scaling.nearest(comparison)) is not None:
        return f"as far as the seeds show, they form one curve against {words[name]}, and only against that"
    least, larger = scaling.closest(comparison, with_interval)
    apart = [name for name, variance in with_interval.items() if variance.low > 0]
    text = "the seeds do not show against which of these they form one curve"
    if len(apart) == len(with_interval):
        text = "they do not form one curve against any of these"
    elif apart:
        text = f"they do not form one curve against {' or against '.join(words[name] for name in apart)}"
    if larger:
        others = " and ".join(words[name] for name in larger)
        text += f", and are closer to one against {words[least]} than against {others}"
    return text


def undecided(part: table.Part, plan: planning.Plan) -> str:
    """Write how far away a decision is."""
    units, observed = part.units, plan.observed
    per = " per tenfold increase in parameters" if plan.question == planning.GROWTH else ""
    at_largest = f"a gain at {part.widths[-1].num_params:,} parameters"
    subject = "growth of the gain" if plan.question == planning.GROWTH else at_largest
    text = (
        f"Undecided: {subject} of {units.change(plan.detectable)}{per} would be shown with a chance of 80 % by "
        f"{observed.num_seeds} seeds as noisy as these"
    )
    if plan.num_seeds is None:
        most = planning.MOST_SEEDS
        return f"{text}; no number of seeds up to {most} is likely to decide ({100 * plan.chance:.0f} %)."
    more = f"{plan.num_seeds} seeds in all"
    where = "at each width" if plan.question == planning.GROWTH and len(plan.widths) > 1 else "there"
    return f"{text}; {more} {where} are likely to decide (60 to 85 %)."
