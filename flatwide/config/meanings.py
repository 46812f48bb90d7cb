"""What each config field means, from `fields.csv`: shown by `--help` and in the glossary of the docs."""

import csv
from importlib import resources
from typing import NamedTuple


class Meaning(NamedTuple):
    """A field's symbol, unit, meaning and source; Markdown, and empty where there is none."""

    symbol: str
    unit: str
    meaning: str
    source: str


def meanings() -> dict[str, Meaning]:
    """Read the meaning of every config field, by name."""
    text = (resources.files("flatwide.config") / "fields.csv").read_text(encoding="utf-8")
    return {row.pop("name"): Meaning(**row) for row in csv.DictReader(text.splitlines())}
