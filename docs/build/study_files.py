"""List the tables and figures of a study below its page: a hook of MkDocs."""

from pathlib import Path
from typing import Any

from mkdocs.structure.pages import Page

STUDIES = Path(__file__).parents[1] / "studies"


def on_page_markdown(text: str, page: Page, **_: Any) -> str:
    """Add links to the files in the folder of the page's study."""
    name = page.file.src_uri.removeprefix("studies/").removesuffix(".md")
    paths = [path.relative_to(STUDIES) for path in sorted((STUDIES / name).rglob("*.*")) if path.suffix != ".toml"]
    if not page.file.src_uri.startswith("studies/") or not paths:
        return text
    return f"{text}\nFiles: {', '.join(f'[{path.relative_to(name)}]({path})' for path in paths)}.\n"
