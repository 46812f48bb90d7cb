"""What a results table has of what the catalogue describes: columns `<measurement>.<quantity>`, in order."""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from flatwide import catalogue
from flatwide.analysis import fields
from flatwide.catalogue.entries import DETAIL, HEADLINE, SECTIONS, Quantity
from flatwide.columns import RESULT_FIELDS

if TYPE_CHECKING:
    import pandas as pd

NUM_EXAMPLES = "num_examples"  # `<measurement>.num_examples`: on how many it was measured


def measured(runs: "pd.DataFrame") -> list[Quantity]:
    """List the quantities that some run of a results table has, by section; within one the known ones first."""
    return in_order(str(name) for name in runs.columns if _is_measured(str(name)) and _has_numbers(runs[name]))


def in_order(names: Iterable[str]) -> list[Quantity]:
    """Describe measured columns in the order in which they are shown, without those that say how exact others are."""
    sections = list(SECTIONS)
    shown = [one for one in map(catalogue.quantity, names) if one.role != DETAIL]
    return sorted(shown, key=lambda one: (sections.index(section(one)), catalogue.place(one.name)))


def section(quantity: Quantity) -> str:
    """Return the heading that a quantity belongs under."""
    return catalogue.entry(quantity.measurement).section


def headlines(quantities: Iterable[Quantity]) -> list[Quantity]:
    """Keep of each known measurement the one quantity that says most, and of others all."""
    by_measurement: dict[str, list[Quantity]] = {}
    for one in quantities:
        by_measurement.setdefault(one.measurement, []).append(one)
    kept = []
    for measurement, group in by_measurement.items():
        if measurement not in catalogue.MEASUREMENTS:
            kept += group
        elif catalogue.has_headline(measurement):
            kept += [one for one in group if one.role == HEADLINE] or group[:1]
    return kept


def num_examples(runs: "pd.DataFrame", measurement: str) -> list[int]:
    """List on how many training examples a measurement was made: one number, unless runs differ."""
    name = f"{measurement}.{NUM_EXAMPLES}"
    return sorted({int(value) for value in runs[name].dropna()}) if name in runs.columns else []


def _is_measured(name: str) -> bool:
    first, dot, own = name.partition(".")
    return bool(dot) and own != NUM_EXAMPLES and first != fields.ASIDE and first not in RESULT_FIELDS


def _has_numbers(column: Any) -> bool:
    return column.dtype.kind in "iuf" and bool(column.notna().any())
