"""The answer in one line, and the few numbers behind it."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from flatwide.analysis import fields, gain, intervals, selection, table, widths, wording

if TYPE_CHECKING:
    import pandas as pd

_MOST_ROWS = 5


class Row(NamedTuple):
    """One width: means over seeds, and the corrected gain with an interval that holds for all widths together."""

    num_params: int
    base: float
    sam: float
    gain: float
    low: float
    high: float
    best_rho: float


class Headline(NamedTuple):
    """One line about a part of a table, and at most five of its widths, the smallest and the largest among them."""

    part: str
    text: str
    rows: tuple[Row, ...]
    is_percent: bool  # the metric is a fraction, written in percent


def headlines(
    runs: "pd.DataFrame", *, width: str = "num_params", metric: str = "test_metric", choose_by: str | None = None
) -> list[Headline]:
    """Say in one line for each part of a table from which width on SAM helps.

    "From N parameters on" means that this width and all larger ones have gains above 0, by the corrected gain's
    intervals at the level of Šidák for as many widths as there are: all of them hold together in 95 % of studies.

    Args: as for `gain.gain_by_width`, but the runs may differ in other columns.
    Returns: one a part that has a width with base and SAM runs.
    """
    found = []
    for part in table.parts(fields.narrow(runs, width=width), width=width):
        cells = widths.by_width(part.runs, width=width, metric=metric, choose_by=choose_by)
        is_percent = wording.units(part.runs, metric).is_percent
        rows = _rows(cells, width)
        if rows:
            text = _text(rows, is_percent, gain.base_name(part.runs, unknown="its base") or "its base")
            found.append(
                Headline(part=part.name, text=text, rows=tuple(widths.evenly(rows, _MOST_ROWS)), is_percent=is_percent)
            )
    return found


def _rows(cells: Sequence[widths.Width], width: str) -> list[Row]:
    """Compute the row of each width; where all runs of an arm diverged, or there is one seed, it has no interval."""
    corrected = selection.correct_all(cells, level=intervals.sidak(len(cells)))
    rows = []
    for plain, found in zip(gain.of_widths(cells, width=width), corrected, strict=True):
        is_alone = math.isnan(found.gain)  # one seed: a plain gain without an interval
        center = plain["gain"] if is_alone else found.gain
        rows.append(
            Row(
                num_params=plain["num_params"],
                base=plain["base"],
                sam=plain["sam"],
                gain=center,
                low=found.low,
                high=found.high,
                best_rho=plain["best_rho"],
            )
        )
    return rows if any(math.isfinite(row.gain) for row in rows) else []


def _text(rows: Sequence[Row], is_percent: bool, base: str) -> str:
    """Write the line; a width without an interval breaks "from ... on", and is named."""
    known = [row for row in rows if math.isfinite(row.low)]
    if not known:
        last = [row for row in rows if math.isfinite(row.gain)][-1]
        amount = number(last.gain, is_percent, sign="+") + (" points" if is_percent else "")
        return f"One seed, so no interval: SAM differs from {base} by {amount} at {last.num_params:,} parameters"
    last = known[-1]
    amount = number(last.gain, is_percent, sign="+") + (" points" if is_percent else "")
    ends = f"jointly 95 % {number(last.low, is_percent)} to {number(last.high, is_percent)}"
    where = f"at {last.num_params:,}" if len(rows) > 1 else ""
    told = " ".join(filter(None, [amount, where])) + f", {ends}"
    lacking = ", ".join(f"{row.num_params:,}" for row in rows if not math.isfinite(row.low))
    told += f"; no interval at {lacking}, for want of seeds whose runs are done" if lacking else ""
    helps, harms = _suffix(row.low > 0 for row in rows), _suffix(row.high < 0 for row in rows)
    if helps:
        return f"SAM helps {_range(rows, helps)}; {told}"
    if harms:
        return f"SAM does harm {_range(rows, harms)}; {told}"
    if inside := ", ".join(f"{row.num_params:,}" for row in known if row.low > 0):
        but = ", but not detectably at the largest width" if last is rows[-1] else ""
        return f"SAM helps at {inside} parameters{but}; {told}"
    if inside := ", ".join(f"{row.num_params:,}" for row in known if row.high < 0):
        return f"SAM does harm at {inside} parameters; {told}"
    widest = "at any width" if len(rows) > 1 else f"at {last.num_params:,} parameters"
    return f"No gain of SAM is detected {widest}; {told}"


def _suffix(holds) -> int:
    """Count how many of the largest widths, without a gap, something holds for."""
    count = 0
    for held in holds:
        count = count + 1 if held else 0
    return count


def _range(rows: Sequence[Row], count: int) -> str:
    first = rows[-count]
    if len(rows) == 1:
        return f"at {first.num_params:,} parameters"
    if count == len(rows):
        return f"at all {count} widths"
    return f"from {first.num_params:,} parameters on" if count > 1 else f"at {first.num_params:,} parameters only"


def number(value: float, is_percent: bool, sign: str = "") -> str:
    """Write a metric or a gain: percent or points with one digit, else with four significant ones; a dash for none."""
    if math.isnan(value):
        return "-"
    return format(100 * value, f"{sign}.1f") if is_percent else format(value, f"{sign}.4g")


def terminal(found: Sequence[Headline]) -> str:
    """Write headlines, and the table of each, as aligned text."""
    blocks = []
    for one in found:
        is_percent = one.is_percent
        lines = [["parameters", "base", "SAM", "gain", "jointly 95 %", "best rho"]]
        for row in one.rows:
            ends = "-" if math.isnan(row.low) else f"{number(row.low, is_percent)} to {number(row.high, is_percent)}"
            values = [number(value, is_percent) for value in (row.base, row.sam)]
            best = "-" if math.isnan(row.best_rho) else f"{row.best_rho:g}"
            lines.append([f"{row.num_params:,}", *values, number(row.gain, is_percent, sign="+"), ends, best])
        front = f"{one.part}: " if one.part else ""
        blocks.append("\n".join([f"{front}{one.text}.", *gain.aligned(lines)]))
    return "\n\n".join(blocks)
