"""What was measured on the minima, in words and as a table: an answer with an interval, and what it rests on."""

import math
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

from flatwide.analysis import fields, measured, quantities, table, widths
from flatwide.analysis.measured import RATIO, Measured
from flatwide.catalogue.entries import SECTIONS, Quantity
from flatwide.report import key_table, tables

if TYPE_CHECKING:
    import pandas as pd

_MOST_PARTS = 6  # that have sentences of their own
_MOST_ROWS = 300
_THEOREMS = ("moments", "smoothness")  # measurements of which theorems name several constants


class Finding(NamedTuple):
    """What a section says before its figures: what its words mean, and answers, each with the part that it is about."""

    explanation: str
    answers: list[tuple[str, str]]


class _Part(NamedTuple):
    part: table.Part
    values: dict[str, list[Measured]]


class Found(NamedTuple):
    """All that was measured on the runs of a table."""

    known: list[Quantity]
    parts: list[_Part]
    runs: "pd.DataFrame"
    chosen_by: str


def find(runs: "pd.DataFrame", *, metric: str, choose_by: str | None) -> Found:
    """Arrange what was measured on the runs of a table.

    Args: as for `analysis.gain.gain_by_width`.
    """
    known = quantities.measured(runs)
    chosen_by = choose_by or widths.choice_column(runs, metric=metric)
    parts = []
    for part in table.parts(fields.narrow(runs)) if known else []:
        cells = widths.by_width(part.runs, metric=metric, choose_by=choose_by)
        parts.append(_Part(part, measured.arrange(part.runs, cells, [one.name for one in known])))
    return Found(known, parts, runs, chosen_by)


def findings(found: Found, *, base: str) -> dict[str, Finding]:
    """Write what each section says: heading -> finding, for those of which something was measured.

    Args:
      base: name of the base optimizer.
    """
    written = {}
    for section, meaning in SECTIONS.items():
        own = [one for one in found.known if quantities.section(one) == section]
        if not own:
            continue
        answers = [
            (one.part.name, text)
            for one in found.parts[:_MOST_PARTS]
            for quantity, say in _asked(own)
            if (text := say(one.values[quantity.name], quantity, base=base))
        ]
        written[section] = Finding(f"{meaning} {_basis(found, own)}", answers)
    return written


def _asked(own: list[Quantity]) -> Iterator[tuple[Quantity, Callable[..., str]]]:
    """Yield what is said of each quantity: SAM against its base for headlines, and along the axes what has theorems."""
    headlines = quantities.headlines(own)
    for quantity in own:
        if quantity in headlines:
            yield quantity, measured.sentence
        if quantity in headlines or (quantity.measurement in _THEOREMS and quantity.symbol):
            yield quantity, measured.axes_sentence


def _basis(found: Found, own: list[Quantity]) -> str:
    """Say what the numbers of a section rest on."""
    texts = []
    for measurement in dict.fromkeys(one.measurement for one in own):
        counts = quantities.num_examples(found.runs, measurement)
        if counts:
            number = f"{counts[0]:,}" if len(counts) == 1 else f"from {counts[0]:,} to {counts[-1]:,} (take care)"
            texts.append((measurement, number))
    same = {number for _, number in texts}
    examples = f"{next(iter(same))} training examples" if len(same) == 1 else ""
    if len(same) > 1:
        examples = "training examples: " + ", ".join(f"{name} on {number}" for name, number in texts)
    columns = [one.name for one in own]
    done = [row for row in fields.done(found.runs, [*columns, "x64"]) if row["status"] == "finished"]
    have = sum(any(row[name] is not None for name in columns) for row in done)
    bits = {row.get("x64") for row in done} - {None}
    how = [f"on {examples} of each run"] if examples else []
    how += [f"in {'64' if bits == {True} else '32'}-bit numbers"] if len(bits) == 1 else []
    text = f"Measured {', '.join([*how, 'in evaluation mode and without weight decay'])}"
    text += f", on {have:,} of {len(done):,} finished runs" if have < len(done) else ""
    return f"{text}. The ρ of SAM is the one that the {found.chosen_by.replace('_', ' ')} chose, not the flattest."


def key_tables(found: Found, *, base: str) -> list[key_table.KeyTable]:
    """Make the table of what was measured by width; of many settings only what says most.

    Args:
      base: name of the base optimizer.
    """
    widths_seen = sum(len(values) for one in found.parts for values in list(one.values.values())[:1])
    shown = found.known
    if len(shown) * widths_seen > _MOST_ROWS:
        shown = quantities.headlines(shown)
    front = tables.front_of(
        [one.part.values | {"num_params": cell.num_params} for one in found.parts for cell in _cells(one)],
        fields.records(found.runs, [*fields.SHAPES, "num_params", *table.axes(found.runs)]),
        table.axes(found.runs),
    )
    rows = []
    for one in found.parts:
        for quantity in shown:
            for row in measured.of_widths(one.values[quantity.name], quantity, width="num_params"):
                if row["num_seeds"]:
                    rows.append(_row(quantity, one.part.values | row, front))
    note = (
        f"Means over the seeds that have both, of {base} and of SAM at its best ρ. What is positive throughout has "
        "geometric means and is compared by its ratio, other numbers by their difference; intervals are 95 % t "
        "intervals, those of ratios of the mean logarithm."
    )
    columns = ["measured", *front.columns, base, "SAM", "compared by", "SAM against it", "95 % interval", "seeds"]
    return (
        [
            key_table.KeyTable(
                name="measured_table", title="What was measured at each width", note=note, columns=columns, rows=rows
            )
        ]
        if rows
        else []
    )


def _cells(one: _Part) -> list[widths.Width]:
    return [values.cell for values in next(iter(one.values.values()), [])]


def _row(quantity: Quantity, row: dict[str, Any], front: tables.Front) -> list[str]:
    sign = "" if row["comparison"] == RATIO else "+"
    words = "ratio" if row["comparison"] == RATIO else "difference"
    ends = "–"
    if math.isfinite(row["low"]):
        ends = f"{row['low']:{sign}.3g} to {row['high']:{sign}.3g}"
    effect = f"{row['effect']:{sign}.3g}"
    numbers = [f"{row['base']:.4g}", f"{row['sam']:.4g}", words, effect, ends, f"{row['num_seeds']}"]
    named = quantity.symbol and quantity.symbol not in quantity.title.split()
    measured = f"{quantity.title}, {quantity.symbol}" if named else quantity.title
    unit = f" ({quantity.unit})" if quantity.unit else ""
    return [measured + unit, *front.cells(row), *numbers]
