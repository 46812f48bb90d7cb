"""Rendering of text, tables and charts as one self-contained HTML file."""

import json
from importlib import resources
from typing import Any

from flatwide.report import charts
from flatwide.report.content import Content

RELOAD_SECONDS = 60  # about as often as a study rewrites its page
_SCRIPTS = ("save.js", "charts.js", "runs.js", "tables.js")


def render(content: Content, *, library: str = "") -> str:
    """Return the page as HTML.

    Args:
      library: the JavaScript that draws the charts, see `figures.rendering.library`; without it the page has only
        their numbers.
    """
    import jinja2
    from markupsafe import Markup

    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True)
    environment.filters["json"] = lambda value: Markup(_script_json(value))
    template = environment.from_string(_file("page.html"))
    scripts = [*_SCRIPTS, *(["live.js"] if content.progress else [])]
    shown = [
        *([content.lead] if content.lead else []),
        *(chart for section in content.sections for chart in section.charts),
    ]
    specs = {chart.figure.name: chart.spec for chart in shown if library}
    return template.render(
        content=content,
        style=Markup(_file("style.css") + charts.dark_rules(shown)),
        scripts=[Markup(_script(text)) for text in filter(None, (library, *map(_file, scripts)))],
        reload_seconds=RELOAD_SECONDS,
        specs=specs,
        is_drawn=bool(library),
    )


def _script_json(value: Any) -> str:
    """Return JSON that is safe inside a script element: no text in it can end the element."""
    # Numbers of NumPy are the only values that JSON does not know.
    text = json.dumps(value, separators=(",", ":"), ensure_ascii=False, allow_nan=False, default=lambda n: n.item())
    return text.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")


def _script(text: str) -> str:
    # In JavaScript strings and regular expressions the escaped form means the same, and does not end the element.
    return text.replace("</script", "<\\/script").replace("<!--", "<\\!--")


def _file(name: str) -> str:
    return resources.files("flatwide.report").joinpath(name).read_text(encoding="utf-8")
