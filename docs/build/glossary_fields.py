"""Write the glossary's table of config fields: a hook of MkDocs, from the schema and the CSV file of meanings."""

from typing import Any

from mkdocs.structure.pages import Page

from flatwide.config import SCHEMA
from flatwide.config.meanings import meanings

MARK = "<!-- table of config fields -->"


def table() -> str:
    """Write a row for each config field."""
    rows = [("name", "default", "symbol", "unit", "meaning", "source"), ("---",) * 6]
    known = meanings()
    for name, field in SCHEMA.items():
        symbol, unit, meaning, source = (cell.replace("|", r"\|") for cell in known[name])
        rows.append((f"`{name}`", f"`{field.default}`", symbol or "-", unit or "-", meaning, source or "-"))
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def on_page_markdown(text: str, page: Page, **_: Any) -> str:
    """Put the table in the place of its mark."""
    return text.replace(MARK, table()) if page.file.src_uri == "glossary.md" else text
