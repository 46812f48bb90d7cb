"""Sentences about what the axes of a study show beyond the trend of the gain, each with its interval.

For one part of the table: whether the best rho changes with width, whether SAM itself improves, and whether the gain
peaks where the base first fits its training labels. Across parts: how another numeric axis, such as label noise,
changes the trend of the gain, and how sparsity does at a fixed number of weights.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from flatwide.analysis import (
    along,
    arms,
    domains,
    estimates,
    fields,
    interpolation,
    rho,
    table,
    trend,
    verdict,
    widths,
    wording,
)
from flatwide.analysis.estimates import Estimate, Scores

if TYPE_CHECKING:
    import pandas as pd

_SAME_BUDGET = 0.01  # relative difference below which two numbers of nonzero weights are the same budget


class Levels(NamedTuple):
    """The effect of another axis on the gain, or on its slope with the number of parameters.

    values: of the axis, ascending. scores: [values, seeds], the gain or its slope. sizes: numbers of parameters that
      every value has. change: from the first value to the last, along the line through all values. rise: the last value
      minus the first. direction: 1 or -1 where both intervals lie on that side of zero, else 0.
    """

    values: tuple[float, ...]
    scores: np.ndarray
    sizes: tuple[int, ...]
    change: Estimate
    rise: Estimate
    direction: int


def of_part(runs: "pd.DataFrame", scores: Scores, *, base: str, options: Mapping[str, Any], metric: str) -> str:
    """Write the sentences about one part: the trend of the best rho, of SAM itself, and the peak of the gain.

    Args:
      scores: of the gain, as `trend.scores`. options: width, metric and choose_by, as for `gain.gain_by_width`.
    """
    cells = widths.by_width(runs, **options)
    word, units = wording.what_grows(runs), wording.units(runs, metric)
    sentences = [
        best_rho(rho.trend_of_best(cells), word),
        sam_itself(cells, scores, units, word),
        peak(interpolation.peak_of_widths(cells, runs, scores=scores, width=options["width"]), base, word),
    ]
    return " ".join(filter(None, sentences))


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


def sam_itself(cells: Sequence[widths.Width], scores: Scores, units: wording.Units, word: str) -> str:
    """Write whether SAM itself improves with width, each seed scored at the rho that the other seeds choose."""
    sam_scores = scores_of_sam(cells, scores)
    decided = verdict.verdict(sam_scores)
    if decided.kind == verdict.UNKNOWN:
        return ""
    slope, seems = trend.slope(sam_scores), not decided.is_certain
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
        f"{wording.ends(slope.low, slope.high, units)}; {rise}; {len(sam_scores.seeds)} seeds)."
    )


def scores_of_sam(cells: Sequence[widths.Width], scores: Scores) -> Scores:
    """Score SAM itself, against zero, at the widths and seeds of the scores of the gain; larger is better."""
    by_size = {cell.num_params: cell.comparison for cell in cells}
    return arms.scores([by_size[size].of_sam_alone for size in scores.num_params])


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


def of_axes(
    runs: "pd.DataFrame", *, metric: str, options: Mapping[str, Any], tune: Sequence[str] = ()
) -> list[tuple[str, str]]:
    """Write a sentence for each numeric axis besides the width, and for sparsity at a fixed number of weights.

    Args:
      tune: axes to leave out, because each arm tunes them.
    Returns: pairs of the name of the domain and the other settings, and the sentence.
    """
    sentences = []
    for domain in domains.domains(fields.narrow(runs, width=options["width"])):
        for axis, front, parts in axes(domain, width=options["width"]):
            if axis not in tune and (text := _of_axis(parts, axis, metric=metric, options=options)):
                sentences.append((domains.name(front), text))
        sentences += _budgets(domain, metric=metric, options=options)
    return sentences


def axes(domain: domains.Domain, *, width: str) -> Iterator[tuple[str, dict[str, Any], list[table.Part]]]:
    """Yield each numeric axis, the settings that its parts share, and its parts, in the order of the axis."""
    parts = [part._replace(values=domain.values | part.values) for part in table.parts(domain.runs, width=width)]
    names = [name for name in table.axes(domain.runs, width=width) if name not in fields.LENGTHS]
    for axis in names:
        groups: dict[str, tuple[dict[str, Any], list[table.Part]]] = {}
        for part in parts:
            value = part.values.get(axis)
            if isinstance(value, (int, float)) and not isinstance(value, bool):
                front = {name: setting for name, setting in part.values.items() if name != axis}
                groups.setdefault(str(front), (front, []))[1].append(part)
        for front, members in groups.values():
            if len(members) > 1:
                yield axis, front, sorted(members, key=lambda part: part.values[axis])


def levels(parts: Sequence[table.Part], axis: str, *, options: Mapping[str, Any]) -> Levels | None:
    """Compare the slopes of the gain at the values of an axis, or the gains where there is only one width.

    Args:
      parts: one for each value of the axis, in its order.
    Returns: over the widths and seeds that every value has; None where there are fewer
      than two values with a width in common, or fewer than two seeds.
    """
    every = [trend.scores(widths.by_width(part.runs, **options)) for part in parts]
    return compare_levels([part.values[axis] for part in parts], every, axis=axis)


def compare_levels(values: Sequence[float], every: Sequence[Scores], *, axis: str) -> Levels | None:
    """Compute `levels` from the scores of the gain at each value of an axis."""
    with_scores = [(value, scores_at) for value, scores_at in zip(values, every, strict=True) if scores_at.num_params]
    if len(with_scores) < 2:
        return None
    sizes = sorted(set.intersection(*(set(scores_at.num_params) for _, scores_at in with_scores)))
    seeds = sorted(set.intersection(*(set(scores_at.seeds) for _, scores_at in with_scores)))
    if not sizes or len(seeds) < 2:
        return None
    rows = [[scores_at.num_params.index(size) for size in sizes] for _, scores_at in with_scores]
    together = estimates.joined(
        [scores_at.only(at) for (_, scores_at), at in zip(with_scores, rows, strict=True)], seeds
    )
    of_sizes = estimates.slope_weights(sizes) if len(sizes) > 1 else np.ones(1)
    axis_values = np.array([float(value) for value, _ in with_scores])
    positions = np.log10(axis_values) if along.is_size(axis) else axis_values
    line = (positions[-1] - positions[0]) * estimates.line_weights(positions)
    ends = np.zeros(len(positions))
    ends[0], ends[-1] = -1.0, 1.0
    change, rise = (estimates.contrast(together, np.outer(weights, of_sizes).ravel()) for weights in (line, ends))
    scores = of_sizes @ together.values.reshape(len(positions), len(sizes), len(seeds))
    direction = change.sign if change.sign == rise.sign else 0
    return Levels(
        values=tuple(axis_values.tolist()),
        scores=scores,
        sizes=tuple(sizes),
        change=change,
        rise=rise,
        direction=direction,
    )


def _of_axis(parts: Sequence[table.Part], axis: str, *, metric: str, options: Mapping[str, Any]) -> str:
    changes = levels(parts, axis, options=options)
    if changes is None:
        return ""
    units, word = wording.units(parts[0].runs, metric), wording.what_grows(parts[0].runs)
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
        ends = wording.ends(changes.rise.low, changes.rise.high, units)
        rise = f"; from these two values alone {units.number(changes.rise.value)}, {ends}"
    return (
        f"{subject} {verb} {axis} ({listed}): {units.change(changes.change.value)}{per} from {first:g} to "
        f"{last:g} (95 % interval {wording.ends(changes.change.low, changes.change.high, units)}{rise}; "
        f"{over}, {changes.scores.shape[1]} seeds)."
    )


def _budgets(domain: domains.Domain, *, metric: str, options: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Write how the gain depends on size where networks grow at a fixed number of nonzero weights."""
    sentences = []
    for budget, runs in budgets(domain.runs):
        for part in table.parts(runs, width=options["width"]):
            cells = widths.by_width(part.runs, **options)
            scores = trend.scores(cells)
            decided = verdict.verdict(scores)
            if decided.kind == verdict.UNKNOWN:
                continue
            units, slope = wording.units(part.runs, metric), trend.slope(scores)
            word = wording.what_grows(part.runs)
            shares = [row["sparsity"] for row in fields.done(part.runs) if row["sparsity"] is not None]
            sentences.append(
                (
                    domains.name(domain.values | part.values),
                    f"With {budget:,} nonzero parameters in each network (sparsities {min(shares):.3g} to "
                    f"{max(shares):.3g}), the gain {wording.verb(decided, word)}: "
                    f"{units.change(slope.value)} per tenfold increase in parameters before pruning (95 % interval "
                    f"{wording.ends(slope.low, slope.high, units)}; {len(scores.seeds)} seeds).",
                )
            )
    return sentences


def budgets(runs: "pd.DataFrame") -> Iterator[tuple[int, "pd.DataFrame"]]:
    """Yield each number of nonzero parameters that networks of several sizes share, with their runs."""
    import pandas as pd

    names = ("num_params", "num_nonzero_params")
    rows = [row for row in fields.done(runs, names) if row.get("num_nonzero_params") is not None]
    counts = sorted({int(row["num_nonzero_params"]) for row in rows})
    groups: list[list[int]] = []
    for count in counts:
        if groups and count <= (1 + _SAME_BUDGET) * groups[-1][0]:
            groups[-1].append(count)
        else:
            groups.append([count])
    for group in groups:
        here = [row for row in rows if group[0] <= row["num_nonzero_params"] <= group[-1]]
        sparsities: dict[int, set[float]] = {}
        for row in here:
            sparsities.setdefault(int(row["num_params"]), set()).add(row["sparsity"] or 0.0)
        if len(sparsities) > 1 and len(set.union(*sparsities.values())) > 1:
            yield group[0], pd.DataFrame(runs.iloc[[row["row_index"] for row in here]])
