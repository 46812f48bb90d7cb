"""Write the glossary's tables of config fields and result fields: a hook of MkDocs, from what defines them."""

from typing import Any

from mkdocs.structure.pages import Page

from flatwide.columns import RESULT_FIELDS
from flatwide.config import SCHEMA
from flatwide.config.meanings import meanings

CONFIG, RESULT = "<!-- table of config fields -->", "<!-- table of result fields -->"


def table() -> str:
    """Write a row for each config field."""
    rows = [("name", "default", "symbol", "unit", "meaning", "source"), ("---",) * 6]
    known = meanings()
    for name, field in SCHEMA.items():
        symbol, unit, meaning, source = (cell.replace("|", r"\|") for cell in known[name])
        rows.append((f"`{name}`", f"`{field.default}`", symbol, unit, meaning, source))
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def result_table() -> str:
    """Write a row for each result field that is no config field too."""
    rows = [f"| `{name}` | {field.text} |" for name, field in RESULT_FIELDS.items() if name not in SCHEMA]
    return "\n".join(["| name | meaning |", "|---|---|", *rows])


def on_page_markdown(text: str, page: Page, **_: Any) -> str:
    """Put the tables in the places of their marks."""
    if page.file.src_uri != "glossary.md":
        return text
    return text.replace(CONFIG, table()).replace(RESULT, result_table())
