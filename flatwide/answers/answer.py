"""The answer in sentences, with numbers and intervals."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from flatwide.analysis import (
    comparisons,
    decomposition,
    estimates,
    fields,
    gain,
    metrics,
    planning,
    rho,
    scaling,
    table,
    verdict,
)
from flatwide.analysis.comparisons import Compared
from flatwide.analysis.widths import Width
from flatwide.answers import overview, sentences, wording


@table.for_table
def answer(split: table.Split) -> str:
    """Write the paragraphs of `paragraphs` as one text, each preceded by the name of its part.

    With several domains, the first paragraph covers all of them.
    """
    together = [("", overview.sentences(overview.overview(split)))] if split.parts and len(split.domains) > 1 else []
    return "\n\n".join(f"{name}: {text}" if name else text for name, text in [*together, *paragraphs(split)])


@table.for_table
def paragraphs(split: table.Split) -> list[tuple[str, str]]:
    """Write whether the gain grows with the number of parameters, how the best rho changes, and what other axes show.

    Each part has its own paragraph of two sentences, after those of `fair_fight` where fields are tuned. The paragraphs
    of `scaling.sentence` and `sentences.sentences_on_axes` follow, then those of `sentences.sentences` for each part.

    Returns: pairs of the part of the runs that a paragraph covers, "" for all, and the paragraph.
    """
    if not split.parts:
        return [("", _nothing_to_compare(split))]
    texts, further = [], []
    for part in split.parts:
        text, more = _part(part)
        texts.append((part.name, text))
        further += [(part.name, more)] if more else []
    ratios = [
        (table.name_of(front), text)
        for front, part, comparison in scaling.by_setting(split)
        if (text := sentences.one_curve(comparison, part.units, part.base))
    ]
    further = [*ratios, *sentences.sentences_on_axes(split), *further]
    return [*(fair_fight(split) if split.question.tune else []), *texts, *further]


def _nothing_to_compare(split: table.Split) -> str:
    """Write which arm has no run that is done, and how to get it."""
    arms = {fields.effective_rho(row) > 0 for row in fields.done(split.runs)}
    if len(arms) == 1:
        lacking, values = ("with SAM", "rho > 0") if arms == {False} else ("without SAM", "rho = 0")
        return (
            f"No answer: no run {lacking} ({values}). Train the same widths and seeds with {values} too: "
            '--config.study.axes.rho="(0,0.05,0.2)".'
        )
    return "There is no gain yet: no width has both a completed base run (rho=0) and a completed SAM run."


def _part(part: table.Part) -> tuple[str, str]:
    """Write the two sentences about a part, and the further ones; "" where there are none."""
    if part.not_learned:
        return f"No answer: {part.not_learned}.", ""
    # The sentence names several widths, so their intervals hold jointly, as those of the headline.
    level = estimates.sidak(len(part.widths), level=part.question.level)
    joint = [width.comparison.gain.at(level) for width in part.widths]
    rows = [
        row | {"corrected_low": estimate.low, "corrected_high": estimate.high}
        for row, estimate in zip(gain.corrected_gain.rows(part), joint, strict=True)
        if math.isfinite(estimate.value)
    ]
    units, base = part.units, part.base
    if not rows:
        plain = [row for row in gain.gain_by_width.rows(part) if math.isfinite(row["gain"])]
        if not plain:
            return f"There is no gain yet: {_why_none(part.widths)}.", ""
        last = plain[-1]
        seeds = "one seed" if last["num_seeds"] == 1 else f"{int(last['num_seeds'])} seeds"
        return (
            f"With {seeds}, SAM differs from {base} by {units.amount(last['gain'])} at {int(last['num_params']):,} "
            "parameters. This difference cannot be separated from seed noise: run at least three seeds at every rho.",
            "",
        )
    first = _growth(part, rows)
    sizes = [row[part.question.width] for row in rows]
    undecided = [sentences.undecided(part, plan) for plan in planning.plans(part)]
    return f"{first} {_best(part, sizes=sizes)}", " ".join(filter(None, [sentences.sentences(part), *undecided]))


def _why_none(widths: Sequence[Width]) -> str:
    """Write why no width has a gain."""
    reasons = set()
    for width in widths:
        if not np.isfinite(width.values[:, 0]).any():
            reasons.add("no base run (rho=0) has a result")
        elif not width.candidates:
            reasons.add("every rho has a diverged seed")
        else:
            reasons.add("no seed has both runs")
    return ", or ".join(sorted(reasons)) + ("" if len(reasons) < 2 else ", depending on the width")


def _growth(part: table.Part, rows: list[dict[str, Any]]) -> str:
    """Write one sentence on how the gain, corrected for the choice of rho, depends on the number of parameters."""
    slope, decided, units, base, word = (
        estimates.slope(part.scores),
        part.verdict,
        part.units,
        part.base,
        part.what_grows,
    )
    first, last = rows[0], rows[-1]
    if first["num_params"] == last["num_params"]:
        seeds = f"{int(last['corrected_num_seeds'])} seeds"
        return f"{_subject(rows, rows, base, word)} is {_at(last, part)}, {seeds}, corrected for the choice of rho."
    subject = _subject(rows, [first, last], base, word)
    comma = "," if ":" in subject else ":"
    if not math.isfinite(slope.value):
        ends = f"{_at(first, part)} and {_at(last, part)}"
        return (
            f"{subject} is {ends}: sizes within a tenth of each other show no trend (corrected for the choice of rho)."
        )
    rate = f"{units.change(slope.value)} per tenfold increase in parameters"
    if math.isfinite(slope.low):
        rate += f", 95 % interval {units.interval(slope.low, slope.high)}; {wording.rise(decided.rise, units, word)}"
        rate += f"; {slope.num_seeds} seeds"
    ends = f"from {_at(first, part)} to {_at(last, part)}"
    # A larger rho than those tried may help the largest network most.
    is_cut_off = decided.kind in (verdict.SHRINKS, verdict.SMALLER) and "high" in rho.grid_edge(part.widths[-1])
    tried = " at the radii tried" if is_cut_off else ""
    return f"{subject} {wording.verb(decided, word)}{tried}{comma} {ends} ({rate}; corrected for the choice of rho)."


def _subject(rows: list[dict[str, Any]], ends: list[dict[str, Any]], base: str, word: str) -> str:
    """Begin the sentence with whether the intervals show that SAM helps at the ends."""
    if any(row["corrected_low"] > 0 for row in ends):
        return f"The gain of SAM over {base}"
    helps_nowhere = not any(row["corrected_low"] > 0 for row in rows)
    shown = rows if helps_nowhere else ends
    where = f"at any {word} here" if helps_nowhere else f"at the smallest {word} or the largest here"
    where = "here" if len(rows) == 1 else where
    if all(row["corrected_low"] == row["corrected_high"] == 0 for row in shown):
        where = where.replace("any", "each").replace("or", "and")
        return f"SAM and {base} do equally well in every seed {where}: the gain"
    harms = all(row["corrected_high"] < 0 for row in shown)
    return f"SAM {'does not help' if harms else 'is not shown to help'} {where}: its gain over {base}"


def _at(row: dict[str, Any], part: table.Part) -> str:
    ends = part.units.interval(row["corrected_low"], row["corrected_high"])
    which = "joint 95 % interval" if len(part.widths) > 1 else "95 % interval"
    return f"{part.units.amount(row['corrected_gain'])} ({which} {ends}) at {int(row['num_params']):,} parameters"


def _best(part: table.Part, *, sizes: list) -> str:
    """Write one sentence on the best rho at the widths that have a gain, and on which arm causes growth, if any."""
    best = [row for row in rho.best_rho.rows(part) if row[part.question.width] in sizes]

    def describe(row: dict[str, Any]) -> str:
        low, high = row["best_rho_low"], row["best_rho_high"]
        return f"{row['best_rho']:g}" + (
            f" ({low:g} to {high:g} are statistically indistinguishable from it)" if low < high else ""
        )

    ends = [describe(row) for row in (best[:1] if len(best) == 1 else [best[0], best[-1]])]
    word = part.what_grows
    text = (
        f"The best rho, chosen by {part.chosen_by.replace('_', ' ')}, is {f' at the smallest {word} and '.join(ends)}"
    )
    text += " at the largest" if len(ends) > 1 else ""
    return f"{text}{_whose(part) if part.verdict.kind in (verdict.GROWS, verdict.LARGER) else ''}."


def _whose(part: table.Part) -> str:
    """Write which arm causes the growth of the gain, as far as the intervals show; nothing where no growth is shown."""
    growth, base, word = decomposition.decompose(part), part.base, part.what_grows
    # The slope includes networks too small to learn, the growth does not: the slope may rise where there is no growth.
    if not len(growth) or not growth["gain_growth_low"].iloc[-1] > 0:
        return ""
    last = growth.iloc[-1]
    start = f"; from {int(growth['num_params'].iloc[0]):,} parameters, where {base} is best, "
    better, worse = last["sam_improvement_low"] > 0, last["base_decline_low"] > 0
    if last["base_decline_high"] < 0:
        return f"; {base} also improves with {word}, so all of the growth is due to SAM improving"
    if last["sam_improvement_high"] < 0:
        return f"{start}all of the growth is due to {base} getting worse, since SAM gets worse too"
    if better and worse:
        share = 100 * decomposition.share_of_sam(growth)
        return f"{start}{share:.0f} % of the growth is due to SAM improving, the rest to {base} getting worse"
    if better:
        return f"{start}SAM improves, and the seeds do not show whether {base} also gets worse"
    if worse:
        return f"{start}{base} gets worse, and the seeds do not show whether SAM also improves"
    return f"{start}the seeds do not show whether SAM improves or {base} gets worse"


def fair_fight(split: table.Split) -> list[tuple[str, str]]:
    """Write what remains of the gain at the largest width where the fields of `tune` are tuned separately for each arm.

    Returns: pairs of the name of a part, and its sentences.
    """
    texts = []
    for part in (part for part in split.tuned if not part.not_learned):
        for length in sorted({compared.length for compared in part.comparisons}):
            of_length = [compared for compared in part.comparisons if compared.length == length and compared.is_tuned]
            shown = {compared.kind: compared for compared in of_length}
            if comparisons.TUNED in shown:
                texts.append((part.name, _fair(shown, part.units, part.base, split.question.tune)))
    return texts


def beginning_of_tuned(tune: Sequence[str]) -> str:
    """Return how a paragraph about separately tuned arms begins."""
    return f"With {' and '.join(tune)} tuned separately for SAM and for "


def _fair(shown: Mapping[str, Compared], units: metrics.Units, base: str, tune: Sequence[str]) -> str:
    """Write the sentences about separately tuned arms."""
    tuned_comparison = shown[comparisons.TUNED]
    pair, size = tuned_comparison.widths[-1], f"{tuned_comparison.widths[-1].num_params:,} parameters"
    others = {
        comparisons.EQUAL_COMPUTE: f"over {base} trained longer, for equal compute",
        comparisons.AVERAGED: f"over the weight average of {base}",
        comparisons.AVERAGED_EQUAL_COMPUTE: f"over the weight average of {base} trained longer, for equal compute",
        comparisons.BOTH_AVERAGED: f"for the weight average of SAM over that of {base}",
    }
    amounts = {name: _gain_at(comparison, pair.width, units) for name, comparison in shown.items()}
    listed = "; ".join(f"{amounts[name]} {words}" for name, words in others.items() if amounts.get(name))
    same = amounts.get(comparisons.SAME)
    chosen = " and ".join(tune)
    decided = verdict.verdict(tuned_comparison.scores)
    trend_text = f", and {wording.verb(decided)}" if decided.kind else ""
    verb = "is" if len(tune) == 1 else "are"
    untuned = f" With the {chosen} that {verb} best for {base} used for both, it is {same}." if same else ""
    if at_edge := [name for name in amounts if name != comparisons.SAME and _at_edge(shown[name], pair.width)]:
        untuned += f" A choice lies at the end of its grid ({'; '.join(at_edge)}): a better one may lie beyond it."
    return (
        f"{beginning_of_tuned(tune)}{base}, on the other seeds, the gain of SAM at {size} is "
        f"{amounts[comparisons.TUNED]}{trend_text}{f'; {listed}' if listed else ''}.{untuned}"
    )


def _at_edge(comparison: Compared, width: Any) -> bool:
    """Whether an arm's choice at a width is the smallest or largest value tried."""
    return any(any(pair.edges) for pair in comparison.widths if pair.width == width)


def _gain_at(comparison: Compared, width: Any, units: metrics.Units) -> str:
    """Write the gain of a comparison at a width; empty where it has none."""
    for pair in comparison.widths:
        if pair.width == width:
            gain_at = pair.gain
            return f"{units.amount(gain_at.value)} (95 % interval {units.interval(gain_at.low, gain_at.high)})"
    return ""
