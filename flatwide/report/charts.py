"""Charts as a page holds them: their data once, and their titles as text of the page."""

import hashlib
import json
import math
from collections.abc import Iterable
from typing import Any, NamedTuple

from flatwide.figures.gallery import Figure
from flatwide.figures.tables import to_rows

_MOST_ROWS = 200  # of a figure's data in the page; the CSV beside the figure has them all


class Chart(NamedTuple):
    """One figure of a page: its Vega-Lite spec without data, and its words."""

    name: str
    title: str
    caption: str
    section: str
    notes: list[str]  # what the chart's own title says beside
    spec: dict[str, Any]
    columns: list[str]
    rows: list[list[str]]
    num_rows: int

    @property
    def is_wide(self) -> bool:
        """Tell whether the chart has several panels, and so takes the width of the page."""
        return any(kind in self.spec for kind in ("hconcat", "concat", "facet", "repeat"))


def charts(figures: Iterable[Figure]) -> tuple[list[Chart], dict[str, Any]]:
    """Take the data out of charts, so that what several draw is held once.

    Returns: the charts, and their data by name: `columns` and `rows` each.
    """
    data: dict[str, Any] = {}
    return [_chart(figure, data) for figure in figures], data


def _chart(figure: Figure, data: dict[str, Any]) -> Chart:
    spec = figure.chart.to_dict()
    for name, values in spec.pop("datasets", {}).items():
        data.setdefault(name, _table(values))
    notes = [line for line in _texts(spec.pop("title", None)) if line != figure.title]
    spec.pop("background", None)
    spec.get("config", {}).pop("background", None)
    rows = to_rows(figure.data)
    columns = list(dict.fromkeys(name for row in rows for name in row))
    shown = [[_text(row.get(name)) for name in columns] for row in rows[:_MOST_ROWS]]
    words = (figure.name, figure.title, figure.caption, figure.section, notes)
    return Chart(*words, _without_data(spec, data), columns, shown, len(rows))


def _texts(title: Any) -> list[str]:
    """List the lines of a chart's title and subtitle."""
    if isinstance(title, str) or title is None:
        return [title] if title else []
    if isinstance(title, list):
        return [line for line in title if line]
    return [*_texts(title.get("text")), *_texts(title.get("subtitle"))]


def _without_data(part: Any, data: dict[str, Any]) -> Any:
    """Copy a spec with names in place of inline values."""
    if isinstance(part, list):
        return [_without_data(entry, data) for entry in part]
    if not isinstance(part, dict):
        return part
    found = {name: _without_data(entry, data) for name, entry in part.items() if name != "data"}
    if "data" in part:
        found["data"] = part["data"]
        if isinstance(part["data"], dict) and isinstance(part["data"].get("values"), list):
            rows = part["data"]["values"]
            name = "data-" + hashlib.sha256(json.dumps(rows, sort_keys=True, default=str).encode()).hexdigest()[:12]
            data.setdefault(name, _table(rows))
            found["data"] = {name: entry for name, entry in part["data"].items() if name != "values"} | {"name": name}
    return found


def _table(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Write rows as columns and rows of values: names once, and digits that a pixel can show."""
    columns = list(dict.fromkeys(name for row in rows for name in row))
    return {"columns": columns, "rows": [[_rounded(row.get(name)) for name in columns] for row in rows]}


def _rounded(value: Any) -> Any:
    if isinstance(value, float):
        return float(f"{value:.7g}") if math.isfinite(value) else None
    return value


def _text(value: Any) -> str:
    if value is None:
        return ""
    return f"{value:.6g}" if isinstance(value, float) else str(value)
