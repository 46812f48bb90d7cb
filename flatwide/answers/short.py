"""The answer on one screen: a headline, at most three findings of one line each, and a small table."""

import math
import textwrap
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from flatwide.analysis import axes, comparisons, estimates, fields, gain, metrics, rho, table, verdict
from flatwide.answers import answer, headline, joint, overview
from flatwide.answers.headline import number

COLUMNS, LINES = 100, 12  # of the answer in a terminal
_MOST_FINDINGS = 3
_LONGEST_NAME = 36  # of a part in a terminal; the other columns need 60
_RATE = "per 10× size"


class _Verbs(NamedTuple):
    """How a rise and a fall are named, each after "seems to" and alone, and the value at a peak."""

    rise: tuple[str, str]
    fall: tuple[str, str]
    most: str


_OF_GAIN = _Verbs(rise=("grow", "grows"), fall=("shrink", "shrinks"), most="largest")
_OF_SAM = _Verbs(rise=("improve", "improves"), fall=("get worse", "gets worse"), most="best")


class Short(NamedTuple):
    """A headline, findings with one number and one interval each, and what the table shows.

    lines: the headline of each part. entries: those of `overview.overview` with several parts or domains, else empty.
    """

    sentence: str
    findings: list[str]
    lines: list[headline.Headline]
    entries: list[overview.Entry]
    metric: str  # the column that is compared


@table.for_table
def short(split: table.Split, others: Sequence[table.Split] = ()) -> Short:
    """Compute the short answer of a table.

    Args:
      others: of the same table for further metrics, whose sentences become findings.
    """
    lines = headline.headlines(split)
    entries = overview.overview(split) if max(len(split.domains), len(split.parts)) > 1 else []
    if not lines:
        text, found = answer.paragraphs(split)[0][1], []
    else:
        text, found = overview.headline(entries) if entries else f"{lines[0].text}.", _findings(split)
    found = [*found, *of_others(others)]
    return Short(sentence=text, findings=found, lines=lines, entries=entries, metric=split.question.metric)


def of_others(others: Sequence[table.Split], *, is_steered: bool = False) -> list[str]:
    """List the sentences of further metrics; those of a study that steered itself do not allow for its looks."""
    every = "both metrics" if len(others) == 1 else f"all {len(others) + 1} metrics"
    fronts = (f"By {joint.title(split)}" for split in others)
    held = ["" if is_steered else f" (intervals hold for {every} together)", *[""] * len(others)]
    return [f"{front}{text}: {short(split).sentence}" for front, text, split in zip(fronts, held, others, strict=False)]


def _findings(split: table.Split) -> list[str]:
    """List at most three findings, those that decide most first."""
    is_alone = len(split.parts) == len(split.domains) == 1
    equal_compute = list(_over_base(split, comparisons.EQUAL_COMPUTE))
    found = [
        *_over_base(split, comparisons.TUNED),
        *(_trends(split.parts[0]) if is_alone else _of_axes(split)),
        *(equal_compute if len(equal_compute) == 1 else []),
        *(_of_sam(split.parts[0]) if is_alone else []),
    ]
    return found[:_MOST_FINDINGS]


def _over_base(split: table.Split, kind: str) -> Iterator[str]:
    """Yield the gain at the largest width where both arms are tuned, or at equal compute."""
    tune = split.question.tune
    if kind == comparisons.TUNED and not tune:
        return
    words = f"Both arms tuned ({', '.join(tune)})" if kind == comparisons.TUNED else "At equal compute"
    parts = [part for domain in split.domains if tune or set(domain.axes) & {*fields.LENGTHS} for part in domain.tuned]
    for part in (part for part in parts if not part.not_learned):
        compared = [each for each in part.comparisons if each.kind == kind and (each.is_tuned or not tune)]
        if compared and math.isfinite((largest := compared[-1].widths[-1]).gain.low):
            where = f"{part.name}: " if part.name else ""
            yield f"{where}{words}: {_amount(largest.gain, part, f' at {largest.num_params:,} parameters')}"


def _trends(part: table.Part) -> Iterator[str]:
    """Yield how the gain and the best rho change with size."""
    if part.not_learned:
        return
    word = part.what_grows
    yield from _trend("The gain", _OF_GAIN, part.scores, part.verdict, part)
    best = rho.trend_of_best(part.widths)
    is_bounded = best.low > 0 or math.isfinite(best.high)
    is_contrary = best.direction == 0 and (best.low > 1 or best.high < 1)  # the sets overlap though the factor is not 1
    if best.direction is None or is_contrary or not is_bounded:
        return
    verb = {1: "grows", -1: "shrinks", 0: "has no clear trend"}[best.direction]
    if math.isinf(best.high) or best.low == 0:
        side, bound = ("least", best.low) if best.low else ("most", best.high)
        yield f"The best rho {verb} with {word}: at {side} ×{bound:.3g} {_RATE}, with 97.5 % confidence."
    else:
        ends = f"×{best.low:.3g} to ×{best.high:.3g}"
        yield f"The best rho {verb} with {word}: ×{best.factor:.3g} {_RATE}, 95 % interval {ends}."


def _of_sam(part: table.Part) -> Iterator[str]:
    """Yield whether SAM itself improves with size, or only its base gets worse."""
    if not part.not_learned:
        scores = gain.scores_of_sam(part)
        yield from _trend("SAM itself", _OF_SAM, scores, verdict.verdict(scores), part)


def _trend(
    subject: str, verbs: _Verbs, scores: estimates.Scores, decided: verdict.Verdict, part: table.Part
) -> Iterator[str]:
    """Yield a finding on a trend with size, as far as its verdict goes; none where there is no interval."""
    slope, word = estimates.slope(scores), part.what_grows
    if not math.isfinite(slope.low):
        return
    if decided.kind == verdict.PEAKS:
        low, high = decided.peaks_at[0], decided.peaks_at[-1]
        others = f", 95 % set {low:,} to {high:,}" if low < high else ", and at no other in the 95 % set"
        yield f"{subject} is {verbs.most} at {decided.peak:,} parameters{others}."
        return
    seems, verb = verbs.fall if decided.kind in (verdict.SHRINKS, verdict.SMALLER) else verbs.rise
    verb = f"seems to {seems}" if decided.is_tentative else verb
    words = {
        verdict.LARGER: f"{verb} by one {word} alone",
        verdict.SMALLER: f"{verb} by one {word} alone",
        verdict.NO_TREND: f"has no clear trend with {word}",
    }.get(decided.kind, f"{verb} with {word}")
    yield f"{subject} {words}: {_amount(slope, part, f' {_RATE}')}"


def _of_axes(split: table.Split) -> Iterator[str]:
    """Yield how each numeric axis besides the width changes the gain, or its trend with size."""
    for domain in split.domains:
        for axis, front, parts in axes.numeric_axes(domain):
            if axis in split.question.tune or (changes := axes.levels(parts, axis)) is None:
                continue
            first, *_, last = changes.values
            what, rate = ("trend", f" {_RATE}") if len(changes.sizes) > 1 else ("gain", "")
            effect = {1: f" raises the {what}", -1: f" lowers the {what}", 0: ", undecided"}[changes.direction]
            where = f"{table.name_of(front)}: " if front else ""
            yield f"{where}{axis} ({first:g} to {last:g}){effect}: {_amount(changes.change, parts[0], rate)}"


def _amount(estimate: estimates.Estimate, part: table.Part, per: str) -> str:
    """Write a gain, or a change of gains, with its interval, in the units and digits of the headline."""
    value, low, high = (
        number(end, part.units.is_percent, sign="+") for end in (estimate.value, estimate.low, estimate.high)
    )
    points = " points" if part.units.is_percent else ""
    ends = "the same in every seed" if estimate.is_exact else f"95 % interval {low} to {high}"
    return f"{value}{points}{per}, {ends}."


def terminal(answered: Short) -> str:
    """Write the short answer as text, one line less than `LINES`, which is for the path of the page."""
    by = [] if answered.metric == "test_metric" else [f"Compared by {answered.metric} (another: --metric=test_metric)."]
    texts = [*by, answered.sentence, *(f"- {text}" for text in answered.findings)]
    above = [line for text in texts for line in textwrap.wrap(text, COLUMNS)]
    room = max(LINES - 2 - len(above), 2)  # without the heading of the table
    left_out = len(answered.entries) - (room - 1) if len(answered.entries) > room else 0
    more = [f"{left_out} more settings are in the report."] if left_out else []
    return "\n".join([*above, *gain.aligned(_table(answered, most=room - len(more))), *more])


def _table(answered: Short, *, most: int) -> list[list[str]]:
    """Return the cells of the table: the widths of the only part, or every part at its largest width."""
    if answered.entries:
        cells = [["setting", "parameters", "gain", "joint 95 %", "best rho", "trend with size"]]
        for entry in answered.entries[:most]:
            is_percent = metrics.units_of(entry.metric_name, answered.metric).is_percent
            largest, size = entry.largest, f"{entry.sizes[-1]:,}" if entry.sizes else "-"
            best = f"{entry.best_rhos[-1]:g}" if entry.best_rhos else "-"
            numbers = _numbers(largest.value, largest.low, largest.high, is_percent)
            name = textwrap.shorten(entry.name, _LONGEST_NAME, placeholder=" …")
            cells.append([name, size, *numbers, best, entry.verdict.kind or "-"])
        return cells
    if not answered.lines or not answered.lines[0].rows:
        return []
    (line,) = answered.lines
    cells = [["parameters", "base", "SAM", "gain", "joint 95 %", "best rho"]]
    for row in headline.few(line.rows, line.text, most):
        values = [number(value, line.is_percent) for value in (row.base, row.sam)]
        best = "-" if math.isnan(row.best_rho) else f"{row.best_rho:g}"
        cells.append([f"{row.num_params:,}", *values, *_numbers(row.gain, row.low, row.high, line.is_percent), best])
    return cells


def _numbers(value: float, low: float, high: float, is_percent: bool) -> list[str]:
    """Write a gain and its interval."""
    ends = "-" if math.isnan(low) else f"{number(low, is_percent)} to {number(high, is_percent)}"
    return [number(value, is_percent, sign="+"), ends]
