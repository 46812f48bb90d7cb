"""The answer in one line, with the numbers behind it."""

import math
import re
from collections.abc import Sequence
from typing import NamedTuple

from flatwide.analysis import estimates, fields, gain, table, widths

_MOST_ROWS = 10  # of widths; with more, the table has those that the line names and others evenly


class Row(NamedTuple):
    """One width: means over seeds, and the corrected gain with an interval that is joint over all widths.

    base, sam: means of the runs that the gain compares, each seed at the rho that the others choose.
    """

    num_params: int
    base: float
    sam: float
    gain: float
    low: float
    high: float
    best_rho: float


class Headline(NamedTuple):
    """One line about a part of a table, and its widths; of many, those that the line names and others evenly."""

    part: str
    text: str
    rows: tuple[Row, ...]
    is_percent: bool  # the metric is a fraction, written as a percentage


@table.for_table
def headlines(split: table.Split) -> list[Headline]:
    """Write one line for each part of a table: the width from which SAM helps.

    "From N parameters on" means that the intervals of the corrected gain lie above 0 at this width and at every
    larger one. Their level is corrected for the number of widths (Šidák), so that they hold jointly in 95 % of studies.

    Returns: one for each part that has a width with base and SAM runs.
    """
    result = []
    for part in split.parts:
        is_percent = part.units.is_percent
        if rows := _rows(part):
            base = fields.base_name(part.runs, unknown="its base") or "its base"
            text = f"No answer: {part.not_learned}" if part.not_learned else _text(rows, is_percent, base)
            shown = few(rows, text, _MOST_ROWS)
            result.append(Headline(part=part.name, text=text, rows=tuple(shown), is_percent=is_percent))
    return result


def few(rows: Sequence[Row], text: str, most: int) -> list[Row]:
    """Select the widths that a line names, and others evenly."""
    sizes = set(re.findall(r"\d[\d,]*\d|\d", text))
    named = [row for row in rows if f"{row.num_params:,}" in sizes][-most:]
    others = widths.evenly([row for row in rows if row not in named], most - len(named))
    return [row for row in rows if row in named or row in others]


def _rows(part: table.Part) -> list[Row]:
    """Compute the row of each width; it has no interval where all runs of an arm diverged or there is one seed."""
    level = estimates.sidak(len(part.widths), level=part.question.level)
    rows = []
    for plain, width in zip(gain.gain_by_width.rows(part), part.widths, strict=True):
        corrected = width.comparison.gain.at(level)
        is_alone = math.isnan(corrected.value)  # one seed: the plain gain, without an interval
        base, sam = (plain["base"], plain["sam"]) if is_alone else width.comparison.means
        rows.append(
            Row(
                num_params=plain["num_params"],
                base=base,
                sam=sam,
                gain=plain["gain"] if is_alone else corrected.value,
                low=corrected.low,
                high=corrected.high,
                best_rho=plain["best_rho"],
            )
        )
    return rows if any(math.isfinite(row.gain) for row in rows) else []


def _text(rows: Sequence[Row], is_percent: bool, base: str) -> str:
    """Write the line; a width without an interval ends the run of "from ... on", and is named."""
    with_interval = [row for row in rows if math.isfinite(row.low)]
    if not with_interval:
        last = [row for row in rows if math.isfinite(row.gain)][-1]
        amount = number(last.gain, is_percent, sign="+") + (" points" if is_percent else "")
        return f"One seed, so no interval: SAM differs from {base} by {amount} at {last.num_params:,} parameters"
    last = with_interval[-1]
    amount = number(last.gain, is_percent, sign="+") + (" points" if is_percent else "")
    ends = f"joint 95 % interval {number(last.low, is_percent)} to {number(last.high, is_percent)}"
    if last.high - last.low <= 1e-9 * abs(last.gain):
        ends = "the same in every seed, so without an interval"
    where = f"at {last.num_params:,}" if len(rows) > 1 else ""
    details = " ".join(filter(None, [amount, where])) + f", {ends}"
    lacking = ", ".join(f"{row.num_params:,}" for row in rows if not math.isfinite(row.low))
    details += f"; no interval at {lacking}, where too few seeds are complete" if lacking else ""
    helps, harms = _suffix(row.low > 0 for row in rows), _suffix(row.high < 0 for row in rows)
    if helps:
        return f"SAM helps {_range(rows, helps)}; {details}"
    if harms:
        return f"SAM hurts {_range(rows, harms)}; {details}"
    if significant := ", ".join(f"{row.num_params:,}" for row in with_interval if row.low > 0):
        but = ", but not detectably at the largest width" if last is rows[-1] else ""
        return f"SAM helps at {significant} parameters{but}; {details}"
    if significant := ", ".join(f"{row.num_params:,}" for row in with_interval if row.high < 0):
        return f"SAM hurts at {significant} parameters; {details}"
    widest = "at any width" if len(rows) > 1 else f"at {last.num_params:,} parameters"
    return f"No gain from SAM is detected {widest}; {details}"


def _suffix(holds) -> int:
    """Count the largest widths, without a gap, for which a condition holds."""
    count = 0
    for is_true in holds:
        count = count + 1 if is_true else 0
    return count


def _range(rows: Sequence[Row], count: int) -> str:
    first = rows[-count]
    if len(rows) == 1:
        return f"at {first.num_params:,} parameters"
    if count == len(rows):
        return f"at all {count} widths"
    return f"from {first.num_params:,} parameters on" if count > 1 else f"at {first.num_params:,} parameters only"


def number(value: float, is_percent: bool, sign: str = "") -> str:
    """Write a metric or a gain: percent or points with one decimal, else four significant digits; a dash for none."""
    if math.isnan(value):
        return "-"
    return format(100 * value, f"{sign}.1f") if is_percent else format(value, f"{sign}.4g")
