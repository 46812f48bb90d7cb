"""Wording of verdicts, rises and sizes."""

from collections.abc import Sequence

from flatwide.analysis import fields, metrics, verdict
from flatwide.analysis.estimates import Estimate


def verb(decided: verdict.Verdict, word: str = fields.WIDTH) -> str:
    """Write the verdict on how a gain depends on size; `word` names what makes networks larger."""
    rests = f"; this rests on the networks with {sizes(decided.rests_on)} parameters"
    seems = "seems to " if decided.is_tentative else ""
    if decided.kind == verdict.PEAKS:
        several = len(decided.peaks_at) > 1
        ends = f" (95 % set {decided.peaks_at[0]:,} to {decided.peaks_at[-1]:,})" if several else ""
        return f"{'seems to peak' if seems else 'peaks'} at {decided.peak:,} parameters{ends}"
    return {
        verdict.GROWS: f"{seems}grow{'' if seems else 's'} with {word}",
        verdict.SHRINKS: f"{seems}shrink{'' if seems else 's'} with {word}",
        verdict.LARGER: f"{'seems to be' if seems else 'is'} larger at large {word}s{rests}",
        verdict.SMALLER: f"{'seems to be' if seems else 'is'} smaller at large {word}s{rests}",
    }.get(decided.kind, f"shows no clear trend with {word}")


def rise(difference: Estimate, units: metrics.Units, word: str) -> str:
    """Write how much larger a value is at the largest width than at the smaller half of the widths."""
    reach = units.interval(difference.low, difference.high)
    return f"largest {word} minus the mean of the smaller half: {units.gain(difference.value)}, {reach}"


def sizes(counts: Sequence[int]) -> str:
    """List numbers of parameters."""
    return " and ".join(
        filter(None, [", ".join(f"{size:,}" for size in counts[:-1]), *(f"{size:,}" for size in counts[-1:])])
    )
