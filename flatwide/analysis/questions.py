"""What a study's axes ask besides whether the gain grows with width: a sentence for each, with its interval.

Of one part: whether the best rho changes with width, whether SAM itself gets better, and whether the gain peaks where
the base first fits its training labels. Of several parts: what another axis of numbers, such as label noise, does to
the trend of the gain, and what sparsity does at a fixed number of weights.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from flatwide.analysis import (
    along,
    domains,
    fields,
    interpolation,
    intervals,
    rho,
    selection,
    table,
    trend,
    widths,
    wording,
)
from flatwide.analysis import verdict as verdicts

if TYPE_CHECKING:
    import pandas as pd

_SAME_BUDGET = 0.01  # numbers of nonzero weights that differ by less are one budget: some rules round each layer


class Levels(NamedTuple):
    """What another axis does to the gain, or to its slope with the number of parameters.

    values: of the axis, ascending. scores: [values, seeds], the gain or its slope. sizes: parameters of the widths that
      every value has. change: along the line through all values, from the first to the last. rise: at the last less at
      the first. direction: 1 or -1 where both intervals lie on that side of zero, else 0.
    """

    values: tuple[float, ...]
    scores: np.ndarray
    sizes: tuple[int, ...]
    change: intervals.Mean
    rise: intervals.Mean
    direction: int


def of_part(runs: "pd.DataFrame", scores: trend.Scores, *, base: str, options: Mapping[str, Any], metric: str) -> str:
    """Write the sentences about one part: the trend of the best rho, SAM itself, and the peak of the gain.

    Args:
      scores: of the gain, as `trend.scores`. options: width, metric and choose_by, as for `gain.gain_by_width`.
    """
    cells = widths.by_width(runs, **options)
    word, units = wording.what_grows(runs), wording.units(runs, metric)
    found = [
        best_rho(rho.trend_of_best(cells), word),
        sam_itself(cells, scores, units, word),
        peak(interpolation.peak_of_widths(cells, runs, scores=scores, width=options["width"]), base, word),
    ]
    return " ".join(filter(None, found))


def best_rho(found: rho.RhoTrend, word: str) -> str:
    """Say whether the best rho changes with width; empty where nothing is known."""
    if found.direction is None:
        return ""
    verb = {1: f"grows with {word}", -1: f"shrinks with {word}", 0: f"shows no clear trend with {word}"}
    if found.low > 1 or found.high < 1:
        verb[0] = f"is not shown to differ from the smallest {word} to the largest, whose sets overlap"
    sets = " and ".join("{" + ", ".join(f"{one:g}" for one in end) + "}" for end in (found.smallest, found.largest))
    seeds = f"{found.num_seeds} seeds; the sets of both ends, 95 % together, are {sets}"
    rate = f"×{found.factor:.3g} for ten times the parameters, {_factor_ends(found)}"
    edges = [
        f"the {end} end at {wording.sizes(at)} parameters"
        for at, end in ((found.at_low_edge, "low"), (found.at_high_edge, "high"))
        if at
    ]
    text = f"The best rho {verb[found.direction]} ({rate}; {seeds})"
    if edges:
        text += f"; with all seeds or without one it is at an end of its grid, {' and '.join(edges)}:"
        text += " a better rho may lie beyond"
    return f"{text}."


def _factor_ends(found: rho.RhoTrend) -> str:
    if found.low == 0 and math.isinf(found.high):
        return "open to both sides, since grids end there"
    if math.isinf(found.high):
        return f"at least ×{found.low:.3g} with 97.5 %, and more where grids end"
    if found.low == 0:
        return f"at most ×{found.high:.3g} with 97.5 %, and less where grids end"
    if found.high - found.low < 1e-9 * found.high:
        return "the same whichever seed is left out"
    return f"95 % interval ×{found.low:.3g} to ×{found.high:.3g}"


def sam_itself(cells: Sequence[widths.Width], scores: trend.Scores, units: wording.Units, word: str) -> str:
    """Say whether SAM itself gets better with width, each seed at the rho that the others choose."""
    own = scores_of_sam(cells, scores)
    decided = verdicts.verdict(own)
    if decided.kind == verdicts.UNKNOWN:
        return ""
    slope, seems = trend.slope_of(own), not decided.is_certain
    gets, is_ = ("seems to get", "seems to be") if seems else ("gets", "is")
    rests = f"; this rests on {wording.sizes(decided.rests_on)} parameters"
    better = {
        verdicts.GROWS: f"{gets} better with {word}",
        verdicts.SHRINKS: f"{gets} worse with {word}",
        verdicts.LARGER: f"{is_} better at large {word}s{rests}",
        verdicts.SMALLER: f"{is_} worse at large {word}s{rests}",
        verdicts.PEAKS: f"{is_} best at {decided.peak or 0:,} parameters",
    }.get(decided.kind, f"shows no clear trend with {word}")
    what = f"SAM's own {units.name}" if units.name != "metric" else "SAM itself"
    rise = wording.rise(decided.rise, units, word)
    return (
        f"{what} {better} ({units.amount(slope.mean)} for ten times the parameters, 95 % interval "
        f"{wording.ends(slope.low, slope.high, units)}; {rise}; {len(own.seeds)} seeds)."
    )


def scores_of_sam(cells: Sequence[widths.Width], scores: trend.Scores) -> trend.Scores:
    """Arrange SAM's own results as the gain's scores are: the same widths, seeds and weights; larger is better."""
    rows, most = [], 1
    by_size = {one.num_params: one for one in cells}
    for size in scores.num_params:
        whole = by_size[size].complete()
        at = [1 + column for column in whole.candidates]
        most = max(most, len(at))
        values = whole.sign * selection.cross_fit(whole.values[:, at], whole.choices[:, at])
        own = dict(zip(whole.seeds, values.tolist(), strict=True))
        rows.append([own[seed] for seed in scores.seeds])
    stretch = selection.stretch_of_scores(len(scores.seeds), most, ratio=0.0) if len(scores.seeds) > 1 else 1.0
    return scores._replace(gains=np.array(rows).reshape(scores.gains.shape), stretch=stretch)


def peak(found: interpolation.Peak, base: str, word: str) -> str:
    """Say whether the gain peaks where the base first fits its training labels; empty where nothing is known."""
    if found.largest_gain is None:
        return ""
    low, high = found.onset_low, found.onset_high
    ends = f"95 % interval {max(low, 1):,.0f} to {high:,.0f}"
    if math.isinf(found.onset):
        fits = f"{base} fits its training labels at no {word} here in any seed"
    elif math.isinf(high) and low:
        fits = f"{base} fits its training labels from {found.onset:,.0f} parameters on or later, not in every seed here"
    elif math.isinf(high):
        fits = f"from where on {base} fits its training labels the seeds do not agree"
    elif not low:
        fits = f"{base} fits its training labels from {high:,.0f} parameters on or sooner"
    else:
        fits = f"{base} fits its training labels from {found.onset:,.0f} parameters on ({ends})"
    is_first, is_last = not found.peak_low, math.isinf(found.peak_high)
    where = f"the gain is largest at {found.largest_gain:,}"
    if is_first and is_last:
        where += ", but which size has the largest the seeds cannot tell"
    elif is_last:
        where += f" (beyond {found.peak_low:,.0f}, and its peak may lie beyond the largest {word})"
    elif is_first:
        where += f" (below {found.peak_high:,.0f}, and its peak may lie below the smallest {word})"
    else:
        where += f" (its peak between {found.peak_low:,.0f} and {found.peak_high:,.0f})"
    return f"{fits[0].upper()}{fits[1:]}, and {where}: {_peak_verdict(found)}."


def _peak_verdict(found: interpolation.Peak) -> str:
    low, high = found.ratio_low, found.ratio_high
    ends = f"{low:.2g} to {high:.2g} times that size" if not math.isinf(high) else f"{low:.2g} times that size or more"
    ends = ends if low else f"{high:.2g} times that size or less"
    if low > 1:
        return f"the gain peaks at larger networks than that ({ends})"
    if high < 1:
        return f"the gain peaks at smaller networks than that ({ends})"
    if not low and math.isinf(high):
        return "whether it peaks where the base first fits is not decided by this study"
    return f"the peak cannot be told from that point ({ends})"


def of_axes(
    runs: "pd.DataFrame", *, metric: str, options: Mapping[str, Any], tune: Sequence[str] = ()
) -> list[tuple[str, str]]:
    """Write a sentence for each axis of numbers besides the width, and for sparsity at a fixed number of weights.

    Args:
      tune: axes that are left out, for each arm chooses on them.
    Returns: the name of the domain and the other settings, and the sentence.
    """
    found = []
    for domain in domains.domains(fields.narrow(runs, width=options["width"])):
        for axis, front, parts in axes(domain, width=options["width"]):
            if axis not in tune and (text := _of_axis(parts, axis, metric=metric, options=options)):
                found.append((domains.name(front), text))
        found += _budgets(domain, metric=metric, options=options)
    return found


def axes(domain: domains.Domain, *, width: str) -> Iterator[tuple[str, dict[str, Any], list[table.Part]]]:
    """Yield each axis of numbers, what its parts have in common, and those, in the axis's order."""
    parts = [part._replace(values=domain.values | part.values) for part in table.parts(domain.runs, width=width)]
    names = [name for name in table.axes(domain.runs, width=width) if name not in fields.LENGTHS]
    for axis in names:
        groups: dict[str, tuple[dict[str, Any], list[table.Part]]] = {}
        for part in parts:
            value = part.values.get(axis)
            if isinstance(value, (int, float)) and not isinstance(value, bool):
                front = {name: one for name, one in part.values.items() if name != axis}
                groups.setdefault(str(front), (front, []))[1].append(part)
        for front, members in groups.values():
            if len(members) > 1:
                yield axis, front, sorted(members, key=lambda part: part.values[axis])


def levels(parts: Sequence[table.Part], axis: str, *, options: Mapping[str, Any]) -> Levels | None:
    """Compare the slopes of the gain at the values of an axis, or the gains where there is one width.

    Args:
      parts: one a value of the axis, in its order.
    Returns: over the widths and seeds that every value has, widths weighted alike at each; None where there are fewer
      than two values with a width in common, or fewer than two seeds.
    """
    weights = trend.weights_of_parts(parts, **options)
    every = [
        trend.scores(widths.by_width(part.runs, **options), weights=shared)
        for part, shared in zip(parts, weights, strict=True)
    ]
    return compare_levels([part.values[axis] for part in parts], every, axis=axis)


def compare_levels(values: Sequence[float], every: Sequence[trend.Scores], *, axis: str) -> Levels | None:
    """Compute `levels` from the gain's scores at each value of an axis."""
    kept = [(value, one) for value, one in zip(values, every, strict=True) if one.num_params]
    if len(kept) < 2:
        return None
    sizes = sorted(set.intersection(*(set(one.num_params) for _, one in kept)))
    seeds = sorted(set.intersection(*(set(one.seeds) for _, one in kept)))
    if not sizes or len(seeds) < 2:
        return None
    rows = []
    for _, one in kept:
        at = [one.num_params.index(size) for size in sizes]
        gains = one.gains[at][:, [one.seeds.index(seed) for seed in seeds]]
        rows.append(trend.slope_weights(sizes, weights=one.weights[at]) @ gains if len(sizes) > 1 else gains[0])
    scores, stretch = np.array(rows), max(one.stretch for _, one in kept)
    known = np.array([float(value) for value, _ in kept])
    places = np.log10(known) if along.is_size(axis) else known
    centered = places - places.mean()
    line = (places[-1] - places[0]) * centered / (centered @ centered)
    change, rise = (intervals.mean(one, stretch=stretch) for one in (line @ scores, scores[-1] - scores[0]))
    direction = 1 if min(change.low, rise.low) > 0 else -1 if max(change.high, rise.high) < 0 else 0
    return Levels(
        values=tuple(known.tolist()), scores=scores, sizes=tuple(sizes), change=change, rise=rise, direction=direction
    )


def _of_axis(parts: Sequence[table.Part], axis: str, *, metric: str, options: Mapping[str, Any]) -> str:
    found = levels(parts, axis, options=options)
    if found is None:
        return ""
    units, word = wording.units(parts[0].runs, metric), wording.what_grows(parts[0].runs)
    has_slope = len(found.sizes) > 1
    verb = {1: "rises with", -1: "falls with", 0: "shows no clear change with"}[found.direction]
    first, *_, last = found.values
    listed = ", ".join(f"{value:g}" for value in found.values)
    if has_slope:
        what, per = f"The trend of the gain with {word}", " for ten times the parameters"
        over = f"{found.sizes[0]:,} to {found.sizes[-1]:,} parameters"
    else:
        what, per, over = "The gain", "", f"{found.sizes[0]:,} parameters"
    rise = ""
    if len(found.values) > 2:
        ends = wording.ends(found.rise.low, found.rise.high, units)
        rise = f"; by these two alone {units.number(found.rise.mean)}, {ends}"
    return (
        f"{what} {verb} {axis} ({listed}): {units.change(found.change.mean)}{per} from {first:g} to "
        f"{last:g} (95 % interval {wording.ends(found.change.low, found.change.high, units)}{rise}; "
        f"{over}, {found.scores.shape[1]} seeds)."
    )


def _budgets(domain: domains.Domain, *, metric: str, options: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Say what the gain does where networks grow and have the same number of nonzero weights."""
    found = []
    for budget, runs in budgets(domain.runs):
        for part in table.parts(runs, width=options["width"]):
            cells = widths.by_width(part.runs, **options)
            scores = trend.scores(cells)
            decided = verdicts.verdict(scores)
            if decided.kind == verdicts.UNKNOWN:
                continue
            units, slope = wording.units(part.runs, metric), trend.slope_of(scores)
            word = wording.what_grows(part.runs)
            shares = [row["sparsity"] for row in fields.done(part.runs) if row["sparsity"] is not None]
            found.append(
                (
                    domains.name(domain.values | part.values),
                    f"With {budget:,} nonzero parameters in each network, sparsities {min(shares):.3g} to "
                    f"{max(shares):.3g}, the gain {wording.verb(decided, word)}: "
                    f"{units.change(slope.mean)} for ten times the parameters before pruning (95 % interval "
                    f"{wording.ends(slope.low, slope.high, units)}; {len(scores.seeds)} seeds).",
                )
            )
    return found


def budgets(runs: "pd.DataFrame") -> Iterator[tuple[int, "pd.DataFrame"]]:
    """Yield each number of nonzero parameters that networks of several sizes share, and their runs."""
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
            yield group[0], pd.DataFrame(runs.iloc[[row["place"] for row in here]])
