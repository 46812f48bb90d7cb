"""Sentences and a table about the measurements of the trained networks."""

import math
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from flatwide.analysis import fields, measured, quantities, table
from flatwide.analysis.measured import RATIO, Measured
from flatwide.answers import measured as in_words
from flatwide.catalogue.entries import SECTIONS, Quantity
from flatwide.report import key_table

_MOST_PARTS = 6  # with separate sentences
_MOST_ROWS = 300
_THEOREMS = ("moments", "smoothness")  # measurements with several constants that theorems name


class Finding(NamedTuple):
    """The text of a section before its figures: definitions and data basis, and answers with the part they concern."""

    explanation: str
    answers: list[tuple[str, str]]


class _Part(NamedTuple):
    part: table.Part
    values: dict[str, list[Measured]]


class MeasuredRuns(NamedTuple):
    """All measurements on the runs of a table."""

    quantities: list[Quantity]
    parts: list[_Part]
    domain: table.Domain


def find(domain: table.Domain) -> MeasuredRuns:
    """Arrange the measurements on the runs of a domain by part and width."""
    measured_quantities = quantities.measured(domain.runs)
    names = [quantity.name for quantity in measured_quantities]
    parts = [_Part(part, measured.arrange(part, names)) for part in domain.parts] if names else []
    return MeasuredRuns(measured_quantities, parts, domain)


def findings(arranged: MeasuredRuns, *, base: str) -> dict[str, Finding]:
    """Return the finding of each section with measurements, by its heading.

    Args:
      base: name of the base optimizer.
    """
    written = {}
    for section, meaning in SECTIONS.items():
        of_section = [quantity for quantity in arranged.quantities if quantities.section(quantity) == section]
        if not of_section:
            continue
        answers = [
            (part.part.name_in_domain, text)
            for part in arranged.parts[:_MOST_PARTS]
            for quantity, sentence in _sentences(of_section)
            if (text := sentence(part.values[quantity.name], quantity, base=base))
        ]
        written[section] = Finding(f"{meaning} {_basis(arranged, of_section)}", answers)
    return written


def _sentences(of_section: list[Quantity]) -> Iterator[tuple[Quantity, Callable[..., str]]]:
    """Yield each quantity with a function that writes a sentence about it.

    Headline quantities compare SAM with its base; these and the constants of theorems are followed along the axes too.
    """
    headlines = quantities.headlines(of_section)
    for quantity in of_section:
        if quantity in headlines:
            yield quantity, in_words.sentence
        if quantity in headlines or (quantity.measurement in _THEOREMS and quantity.symbol):
            yield quantity, in_words.axes_sentence


def _basis(arranged: MeasuredRuns, of_section: list[Quantity]) -> str:
    """Return a sentence about the examples, precision and runs behind the numbers of a section."""
    texts = []
    for measurement in dict.fromkeys(quantity.measurement for quantity in of_section):
        counts = quantities.num_examples(arranged.domain.runs, measurement)
        if counts:
            several = f"{counts[0]:,} to {counts[-1]:,} (compare with care)"
            number = f"{counts[0]:,}" if len(counts) == 1 else several
            texts.append((measurement, number))
    same = {number for _, number in texts}
    examples = f"{next(iter(same))} training examples" if len(same) == 1 else ""
    if len(same) > 1:
        examples = "training examples: " + ", ".join(f"{name} on {number}" for name, number in texts)
    columns = [quantity.name for quantity in of_section]
    done = [row for row in fields.done(arranged.domain.runs, [*columns, "x64"]) if row["status"] == "finished"]
    have = sum(any(row[name] is not None for name in columns) for row in done)
    bits = {row.get("x64") for row in done} - {None}
    how = [f"on {examples} of each run"] if examples else []
    how += [f"in {'64' if bits == {True} else '32'}-bit numbers"] if len(bits) == 1 else []
    text = f"Measured {', '.join([*how, 'in evaluation mode and without weight decay'])}"
    text += f", on {have:,} of {len(done):,} finished runs" if have < len(done) else ""
    return f"{text}. The ρ of SAM is chosen by the {arranged.domain.chosen_by.replace('_', ' ')}, not by flatness."


def measured_table(arranged: MeasuredRuns, *, base: str) -> key_table.KeyTable:
    """Return the table of measurements by width; only the headline quantities if it would be too long.

    Args:
      base: name of the base optimizer.
    """
    widths_seen = sum(len(values) for part in arranged.parts for values in list(part.values.values())[:1])
    shown = arranged.quantities
    if len(shown) * widths_seen > _MOST_ROWS:
        shown = quantities.headlines(shown)
    front = key_table.front_of(
        [part.part.values | {"num_params": width.num_params} for part in arranged.parts for width in part.part.widths],
        fields.records(arranged.domain.runs, [*fields.SHAPES, "num_params", *arranged.domain.axes]),
        arranged.domain.axes,
    )
    cells = [
        _cells(quantity, row, front(part.part.values | row), base)
        for part in arranged.parts
        for quantity in shown
        for row in measured.rows(part.values[quantity.name], quantity)
        if row["num_seeds"]
    ]
    return key_table.key_table(
        "measured_table",
        cells,
        title="Measurements at each width",
        note=f"Means over the seeds with both runs, {base} and SAM at its best ρ. Quantities that are positive "
        "throughout have geometric means and are compared by ratio, others by difference; intervals are 95 % t "
        "intervals, for ratios on the mean logarithm.",
    )


def _cells(quantity: Quantity, row: dict[str, Any], front: key_table.Cells, base: str) -> key_table.Cells:
    sign, words = ("", "ratio") if row["comparison"] == RATIO else ("+", "difference")
    named = quantity.symbol and quantity.symbol not in quantity.title.split()
    title = f"{quantity.title}, {quantity.symbol}" if named else quantity.title
    ends = f"{row['low']:{sign}.3g} to {row['high']:{sign}.3g}" if math.isfinite(row["low"]) else "–"
    return [
        ("measured", title + (f" ({quantity.unit})" if quantity.unit else "")),
        *front,
        (base, f"{row['base']:.4g}"),
        ("SAM", f"{row['sam']:.4g}"),
        ("compared by", words),
        ("SAM against it", f"{row['effect']:{sign}.3g}"),
        ("95 % interval", ends),
        ("seeds", f"{row['num_seeds']}"),
    ]
