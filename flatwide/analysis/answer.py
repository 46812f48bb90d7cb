"""The answer in sentences, with numbers and intervals."""

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from flatwide.analysis import (
    decomposition,
    domains,
    fields,
    gain,
    overview,
    questions,
    rho,
    scaling,
    table,
    trend,
    tuned,
    verdict,
    widths,
    wording,
)
from flatwide.analysis.estimates import Estimate

if TYPE_CHECKING:
    import pandas as pd


def answer(
    runs: "pd.DataFrame",
    *,
    width: str = "num_params",
    metric: str = "test_metric",
    choose_by: str | None = None,
    tune: Sequence[str] = (),
) -> str:
    """Write the paragraphs of `paragraphs` as one text, each preceded by the name of its part.

    Args: as for `paragraphs`.
    """
    texts = paragraphs(runs, width=width, metric=metric, choose_by=choose_by, tune=tune)
    return "\n\n".join(f"{name}: {text}" if name else text for name, text in texts)


def paragraphs(
    runs: "pd.DataFrame",
    *,
    width: str = "num_params",
    metric: str = "test_metric",
    choose_by: str | None = None,
    tune: Sequence[str] = (),
) -> list[tuple[str, str]]:
    """Write whether the gain grows with the number of parameters, how the best rho changes, and what other axes show.

    Args:
      tune: fields that are tuned separately for base and SAM in additional paragraphs, as for `tuned.tuned_gain`.
      runs, width, metric, choose_by: as for `gain.gain_by_width`, but the runs may differ in other columns: each value
        of these has its own paragraph of two sentences. With several domains, the first paragraph covers all of them.
        The paragraphs of `scaling.sentence` and `questions.of_axes` follow, then those of `questions.of_part` for each
        part.
    Returns: pairs of the part of the runs that a paragraph covers, "" for all, and the paragraph.
    """
    parts = table.parts(fields.narrow(runs, width=width), width=width)
    if not parts:
        return [("", "There is no gain yet: no width has both a completed base run (rho=0) and a completed SAM run.")]
    options = {"width": width, "metric": metric, "choose_by": choose_by}
    texts, further = [], []
    for part in parts:
        text, more = _part(part.runs, metric=metric, options=options)
        texts.append((part.name, text))
        further += [(part.name, more)] if more else []
    ratios = [
        (domains.name(front), text)
        for front, here, comparison in scaling.of_runs(runs, **options)
        if (text := scaling.sentence(comparison, wording.units(here, metric), gain.base_name(here)))
    ]
    further = [*ratios, *questions.of_axes(runs, metric=metric, options=options, tune=tune), *further]
    all_of_them = []
    if len(domains.domains(runs)) > 1:
        entries = overview.overview(runs, **options)
        all_of_them.append(("", overview.sentences(entries)))
    fair = fair_fight(runs, tune=tune, **options) if tune else []
    return [*all_of_them, *fair, *texts, *further]


def _part(runs: "pd.DataFrame", *, metric: str, options: dict[str, Any]) -> tuple[str, str]:
    """Write the two sentences about a part, and the further ones; "" where there are none."""
    width = options["width"]
    cells = widths.by_width(runs, **options)
    rows = [row for row in gain.corrected_of_widths(cells, width=width) if math.isfinite(row["corrected_gain"])]
    units = wording.units(runs, metric)
    base = gain.base_name(runs)
    if not rows:
        plain = [row for row in gain.of_widths(cells, width=width) if math.isfinite(row["gain"])]
        if not plain:
            return f"There is no gain yet: {_why_none(cells)}.", ""
        last = plain[-1]
        seeds = "one seed" if last["num_seeds"] == 1 else f"{int(last['num_seeds'])} seeds"
        return (
            f"With {seeds}, SAM differs from {base} by {units.amount(last['gain'])} at {int(last['num_params']):,} "
            "parameters. This difference cannot be separated from seed noise: run at least three seeds at every rho.",
            "",
        )
    scores = trend.scores(cells)
    decided = verdict.verdict(scores)
    word = wording.what_grows(runs)
    first = f"{_growth(rows, trend.slope(scores), decided, units, base, word)} "
    grows = decided.kind in (verdict.GROWS, verdict.LARGER)
    second = _best(runs, options, metric, base, word, sizes=[row[width] for row in rows], grows=grows)
    return first + second, questions.of_part(runs, scores, base=base, options=options, metric=metric)


def _why_none(cells: Sequence[widths.Width]) -> str:
    """Write why no width has a gain."""
    reasons = set()
    for cell in cells:
        if not np.isfinite(cell.values[:, 0]).any():
            reasons.add("no base run (rho=0) has a result")
        elif not cell.candidates:
            reasons.add("every rho has a diverged seed")
        else:
            reasons.add("no seed has both runs")
    return ", or ".join(sorted(reasons)) + ("" if len(reasons) < 2 else ", depending on the width")


def _growth(
    rows: list[dict[str, Any]],
    slope: Estimate,
    decided: verdict.Verdict,
    units: wording.Units,
    base: str,
    word: str,
) -> str:
    """Write one sentence on how the gain, corrected for the choice of rho, depends on the number of parameters."""
    first, last = rows[0], rows[-1]
    if first["num_params"] == last["num_params"]:
        seeds = f"{int(last['corrected_num_seeds'])} seeds"
        return f"{_subject(rows, rows, base, word)} is {_at(last, units)}, {seeds}, corrected for the choice of rho."
    subject = _subject(rows, [first, last], base, word)
    comma = "," if ":" in subject else ":"
    rate = f"{units.change(slope.value)} per tenfold increase in parameters"
    if math.isfinite(slope.low):
        rate += (
            f", 95 % interval {wording.ends(slope.low, slope.high, units)}; {wording.rise(decided.rise, units, word)}"
        )
        rate += f"; {slope.num_seeds} seeds"
    ends = f"from {_at(first, units)} to {_at(last, units)}"
    return f"{subject} {wording.verb(decided, word)}{comma} {ends} ({rate}; corrected for the choice of rho)."


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


def _at(row: dict[str, Any], units: wording.Units) -> str:
    ends = wording.ends(row["corrected_low"], row["corrected_high"], units)
    return f"{units.amount(row['corrected_gain'])} (95 % interval {ends}) at {int(row['num_params']):,} parameters"


def _best(
    runs: "pd.DataFrame", options: dict[str, Any], metric: str, base: str, word: str, *, sizes: list, grows: bool
) -> str:
    """Write one sentence on the best rho at the widths that have a gain, and on which arm causes growth, if any."""
    best = rho.best_rho(runs, **options)
    best = best[best[options["width"]].isin(sizes)]

    def describe(row) -> str:
        low, high = row["best_rho_low"], row["best_rho_high"]
        return f"{row['best_rho']:g}" + (
            f" ({low:g} to {high:g} are statistically indistinguishable from it)" if low < high else ""
        )

    ends = [describe(best.iloc[0]), describe(best.iloc[-1])] if len(best) > 1 else [describe(best.iloc[0])]
    chosen_by = options["choose_by"] or widths.choice_column(runs, metric=metric)
    text = f"The best rho, chosen by {chosen_by.replace('_', ' ')}, is {f' at the smallest {word} and '.join(ends)}"
    text += " at the largest" if len(ends) > 1 else ""
    return f"{text}{_whose(runs, options, base, word) if grows else ''}."


def _whose(runs: "pd.DataFrame", options: dict[str, Any], base: str, word: str) -> str:
    """Write which arm causes the growth of the gain, as far as the intervals show; nothing where no growth is shown."""
    growth = decomposition.decompose(runs, **options)
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


def fair_fight(
    runs: "pd.DataFrame", *, tune: Sequence[str], width: str, metric: str, choose_by: str | None
) -> list[tuple[str, str]]:
    """Write what remains of the gain at the largest width where the fields of `tune` are tuned separately for each arm.

    Returns: pairs of the name of a part, and its sentences.
    """
    all_comparisons = tuned.comparisons(runs, tune=tune, width=width, metric=metric, choose_by=choose_by)
    texts = []
    for part in tuned.parts(runs, tune=tune, width=width):
        name = domains.name(part.values)
        here = [comparison for comparison in all_comparisons if comparison.values == part.values]
        base = gain.base_name(part.runs)
        for length in sorted({comparison.length for comparison in here}):
            of_length = [comparison for comparison in here if comparison.length == length and comparison.is_tuned]
            shown = {comparison.name: comparison for comparison in of_length}
            if tuned.TUNED in shown:
                texts.append((name, _fair(shown, wording.units(part.runs, metric), base, tune)))
    return texts


def beginning_of_tuned(tune: Sequence[str]) -> str:
    """Return how a paragraph about separately tuned arms begins."""
    return f"With {' and '.join(tune)} tuned separately for SAM and for "


def _fair(shown: Mapping[str, tuned.Compared], units: wording.Units, base: str, tune: Sequence[str]) -> str:
    """Write the sentences about separately tuned arms."""
    tuned_comparison = shown[tuned.TUNED]
    pair, size = tuned_comparison.widths[-1], f"{tuned_comparison.widths[-1].num_params:,} parameters"
    others = {
        tuned.EQUAL_COMPUTE: f"over {base} trained longer, for equal compute",
        tuned.AVERAGED: f"over the weight average of {base}",
        tuned.AVERAGED_EQUAL_COMPUTE: f"over the weight average of {base} trained longer, for equal compute",
        tuned.BOTH_AVERAGED: f"for the weight average of SAM over that of {base}",
    }
    amounts = {name: _gain_at(comparison, pair.width, units) for name, comparison in shown.items()}
    listed = "; ".join(f"{amounts[name]} {words}" for name, words in others.items() if amounts.get(name))
    same = amounts.get(tuned.SAME)
    chosen = " and ".join(tune)
    decided = verdict.verdict(tuned_comparison.scores)
    trend_text = f", and {wording.verb(decided)}" if decided.kind else ""
    verb = "is" if len(tune) == 1 else "are"
    untuned = f" With the {chosen} that {verb} best for {base} used for both, it is {same}." if same else ""
    if at_edge := [name for name in amounts if name != tuned.SAME and _at_edge(shown[name], pair.width)]:
        untuned += f" A choice lies at the end of its grid ({'; '.join(at_edge)}): a better one may lie beyond it."
    return (
        f"{beginning_of_tuned(tune)}{base}, on the other seeds, the gain of SAM at {size} is "
        f"{amounts[tuned.TUNED]}{trend_text}{f'; {listed}' if listed else ''}.{untuned}"
    )


def _at_edge(comparison: tuned.Compared, width: Any) -> bool:
    """Whether an arm's choice at a width is the smallest or largest value tried."""
    return any(
        pair.base.edges(pair.base.settings[pair.chosen[0]]) or pair.sam.edges(pair.sam.settings[pair.chosen[1]])
        for pair in comparison.widths
        if pair.width == width
    )


def _gain_at(comparison: tuned.Compared, width: Any, units: wording.Units) -> str:
    """Write the gain of a comparison at a width; empty where it has none."""
    for pair, gain_at in zip(comparison.widths, comparison.gains, strict=True):
        if pair.width == width:
            ends = f"{units.number(gain_at.low)} to {units.number(gain_at.high)}"
            return f"{units.amount(gain_at.value)} (95 % interval {ends})"
    return ""
