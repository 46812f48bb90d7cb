"""Measured quantities in a results table: its columns `<measurement>.<quantity>`, in the order of the catalogue."""

from collections.abc import Iterable
from typing import Any

from flatwide import catalogue
from flatwide.analysis import fields
from flatwide.catalogue.entries import DETAIL, HEADLINE, SECTIONS, Quantity
from flatwide.columns import RESULT_FIELDS

NUM_EXAMPLES = "num_examples"  # `<measurement>.num_examples`: number of examples it was measured on


def measured(runs: fields.Frame) -> list[Quantity]:
    """List the quantities that some run of a results table has, by section, those of the catalogue first."""
    return in_order(str(name) for name in runs.columns if _is_measured(str(name), runs[name]))


def in_order(names: Iterable[str]) -> list[Quantity]:
    """Describe measured columns in display order, without those that state the accuracy of others."""
    sections = list(SECTIONS)
    shown = [quantity for quantity in map(catalogue.quantity, names) if quantity.role != DETAIL]
    return sorted(shown, key=lambda quantity: (sections.index(section(quantity)), catalogue.place(quantity.name)))


def section(quantity: Quantity) -> str:
    """Return the section heading of a quantity."""
    return catalogue.entry(quantity.measurement).section


def headlines(quantities: Iterable[Quantity]) -> list[Quantity]:
    """Select the headline quantity of each measurement in the catalogue, and all quantities of others."""
    by_measurement: dict[str, list[Quantity]] = {}
    for quantity in quantities:
        by_measurement.setdefault(quantity.measurement, []).append(quantity)
    selected = []
    for measurement, group in by_measurement.items():
        if measurement not in catalogue.MEASUREMENTS:
            selected += group
        elif catalogue.has_headline(measurement):
            selected += [quantity for quantity in group if quantity.role == HEADLINE] or group[:1]
    return selected


def num_examples(runs: fields.Frame, measurement: str) -> list[int]:
    """List the numbers of training examples that a measurement was made on: a single number unless runs differ."""
    name = f"{measurement}.{NUM_EXAMPLES}"
    return sorted({int(value) for value in runs[name].dropna()}) if name in runs.columns else []


def _is_measured(name: str, column: Any) -> bool:
    first, dot, quantity_name = name.partition(".")
    if not dot or quantity_name == NUM_EXAMPLES or first == fields.ASIDE or first in RESULT_FIELDS:
        return False
    return column.dtype.kind in "iuf" and bool(column.notna().any())
