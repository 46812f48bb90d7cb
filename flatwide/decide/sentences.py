"""The verdicts of a study that steers itself, in sentences."""

from collections.abc import Sequence

from flatwide.analysis import planning
from flatwide.analysis.arms import Arm, settings_text
from flatwide.analysis.metrics import Units
from flatwide.decide.course import GAIN, WORDS, Course, Design, Verdict

_TOO_LARGE = (
    "A study that stops on significance finds too large an effect: on average by 0.3 standard deviations of a run "
    "where the true gain is one of them, by 0.15 where it is two."  # python benchmarks/decide.py
)


def sentences(course: Course, design: Design, units: Units | None) -> list[str]:
    """Write the verdict on each question.

    Args:
      units: of the compared metric; None before the first result.
    """
    return [_sentence(verdict, design, units, len(course.verdicts)) for verdict in course.verdicts]


def _sentence(verdict: Verdict, design: Design, units: Units | None, num_questions: int) -> str:
    is_gain = verdict.question == GAIN
    what = "whether SAM helps at the largest width" if is_gain else "whether its gain changes with width"
    if not verdict.estimates or units is None:
        return f"Undecided {what}: {verdict.reason or 'not yet; no look has been reached'}."
    first, last = verdict.comparisons[0].num_params, verdict.comparisons[-1].num_params
    shown = verdict.estimates[0]
    per = "" if is_gain else " per tenfold increase in parameters"
    level = f"{100 * (1 - design.error / num_questions):g} % interval"
    write = units.gain if is_gain else units.change
    amount = f"{units.amount(shown.value) if is_gain else units.change(shown.value)}{per}"
    interval = f"{level} {write(shown.low)} to {write(shown.high)}, valid at every look"
    where = f"at {last:,} parameters" if is_gain else f"from {first:,} to {last:,} parameters"
    seeds = f"{shown.num_seeds} fresh seeds"
    among = f"settings: chosen among {_finalists([each.sam for each in verdict.comparisons])} for SAM"
    if any(len(each.base.settings[0]) > 1 for each in verdict.comparisons):
        among += f" and {_finalists([each.base for each in verdict.comparisons])} for the base"
    if verdict.direction:
        found = f"{WORDS[verdict.question, verdict.direction]} {where}: {amount} ({interval})"
        text = f"Decided: {found} after {seeds}; {among}."
        return f"{text} {_TOO_LARGE}"
    could = f"{units.change(planning.detectable(shown))}{per}"
    reason = verdict.reason or "not yet"
    return (
        f"Undecided {what}: {reason}. After {seeds} it is {amount} {where} ({interval}); so many would show {could} "
        f"with a chance of 80 %; {among}."
    )


def _finalists(by_width: Sequence[Arm]) -> str:
    """List the finalists of an arm at all widths."""
    return ", ".join(dict.fromkeys(settings_text(setting) for arm in by_width for setting in arm.settings))
