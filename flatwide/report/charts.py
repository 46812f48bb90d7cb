"""Charts of a page: specs that share their data, and titles as text of the page."""

import copy
import math
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

from flatwide.figures.gallery import Figure
from flatwide.figures.tables import to_rows

_SERIES = "of"  # the field by which charts colour their series
_HEX = re.compile(r"#[0-9a-fA-F]{6}")
_INK = "#222222"  # of texts, see figures.style
_DARK_CARD = (0x1D, 0x20, 0x26)  # --card of the dark scheme in style.css
_LEAST_CONTRAST = 3.0
_MOST_ROWS = 200  # of a figure's data in the page; the CSV beside the figure has them all


class Chart(NamedTuple):
    """One figure of a page, its Vega-Lite spec without data, and its texts."""

    figure: Figure
    notes: list[str]  # the chart's subtitle
    legend: list[tuple[str, str]]  # several series and their colours, for buttons that hide them
    spec: dict[str, Any]
    columns: list[str]
    rows: list[list[str]]
    num_rows: int

    @property
    def is_wide(self) -> bool:
        """Whether the chart has several panels, and so spans the page."""
        return any(kind in self.spec for kind in ("hconcat", "vconcat", "concat"))


def spec_of(figure: Figure) -> dict[str, Any]:
    """Return the Vega-Lite spec of a figure."""
    return figure.chart.to_dict(validate=False)  # validation takes ten times as long; the figures' tests validate


def still(part: Any) -> Any:
    """Copy a spec without its interactive parts: tooltips, and a legend whose entries hide their series."""
    if isinstance(part, list):
        return [still(value) for value in part]
    if not isinstance(part, dict):
        return part
    moves = {"tooltip", "params"} | ({"condition"} if "param" in (part.get("condition") or ()) else set())
    return {name: value if name == "datasets" else still(value) for name, value in part.items() if name not in moves}


def charts(figures: Iterable[tuple[Figure, dict[str, Any]]]) -> tuple[list[Chart], dict[str, Any]]:
    """Separate charts from their data, so that data shared by several charts are stored once.

    Args:
      figures: each with its spec.
    Returns: the charts, and their data by name: `columns` and `rows` each.
    """
    data: dict[str, Any] = {}
    return [_chart(figure, spec, data) for figure, spec in figures], data


def _chart(figure: Figure, original: dict[str, Any], data: dict[str, Any]) -> Chart:
    for name, values in original.get("datasets", {}).items():
        data.setdefault(name, _table(values))  # figures name all their data sets
    kept = {name: value for name, value in original.items() if name not in ("datasets", "background", "title")}
    title = original.get("title")  # it is the figure's
    notes = title.get("subtitle", []) if isinstance(title, dict) else []
    rows = to_rows(figure.data)
    columns = list(dict.fromkeys(name for row in rows for name in row))
    shown = [[_text(row.get(name)) for name in columns] for row in rows[:_MOST_ROWS]]
    spec = copy.deepcopy(kept)
    return Chart(
        figure=figure,
        notes=[notes] if isinstance(notes, str) else notes,
        legend=_take_legend(spec, f"{figure.name}_hidden"),  # changes the spec, so it comes first
        spec=spec,
        columns=columns,
        rows=shown,
        num_rows=len(rows),
    )


def _take_legend(spec: dict[str, Any], hidden: str) -> list[tuple[str, str]]:
    """Remove the legend from a spec and return its entries, for buttons that work by keyboard and wrap on a phone.

    Args:
      hidden: name of the selection of hidden series; it becomes a plain list that the page sets.
    """
    colors: dict[str, str] = {}
    for part in _dicts(spec):
        color = part.get("color")
        scale = color.get("scale") if isinstance(color, dict) and color.get("field") == _SERIES else None
        if isinstance(scale, dict) and isinstance(color, dict):
            colors |= zip(map(str, scale.get("domain", ())), scale.get("range", ()), strict=True)
            color["legend"] = None
        condition = part.get("condition")
        if isinstance(condition, dict) and condition.get("param") == hidden:
            rest = {name: value for name, value in condition.items() if name not in ("param", "empty")}
            part["condition"] = {"test": f"indexof({hidden}, datum.{_SERIES}) >= 0", **rest}
    others = [param for param in spec.get("params", ()) if param.get("name") != hidden]
    spec["params"] = [*others, {"name": hidden, "value": []}]
    return list(colors.items()) if len(colors) > 1 else []


def _dicts(part: Any) -> Iterator[dict[str, Any]]:
    """Yield all objects of a spec."""
    if isinstance(part, dict):
        yield part
    for child in part.values() if isinstance(part, dict) else part if isinstance(part, list) else ():
        yield from _dicts(child)


def dark_rules(shown: Iterable[Chart]) -> str:
    """Return CSS rules that lighten the colours of marks that are hard to see on the card of a dark page.

    Colours with a contrast of 3, as WCAG 2 asks of graphics, stay as they are. Texts and axes have rules in style.css.
    """
    rules = []
    for color in sorted({color for chart in shown for color in _colors(chart.spec)}):
        if (light := _lightened(color)) != color:
            rules += [f'.chart svg [{name}="{color}" i] {{ {name}: {light}; }}' for name in ("stroke", "fill")]
            rules.append(f'.swatch[style*="{color}" i] {{ background: {light} !important; }}')
    return "\n".join(["@media screen and (prefers-color-scheme: dark) {", *rules, "}"]) if rules else ""


def _colors(spec: dict[str, Any]) -> Iterator[str]:
    """Yield the hexadecimal colours in a spec, except that of texts."""
    for part in _dicts(spec):
        for value in part.values():
            for text in value if isinstance(value, list) else [value]:
                if isinstance(text, str) and _HEX.fullmatch(text) and text.lower() != _INK:
                    yield text


def _lightened(color: str) -> str:
    """Mix a colour with as little white as it needs on a dark card."""
    channels = [int(color[start : start + 2], 16) for start in (1, 3, 5)]
    for share in (step / 20 for step in range(20)):
        mixed = [round(channel + share * (255 - channel)) for channel in channels]
        if _luminance(mixed) + 0.05 >= _LEAST_CONTRAST * (_luminance(_DARK_CARD) + 0.05):
            return color if share == 0 else "#" + "".join(f"{channel:02x}" for channel in mixed)
    return "#ffffff"


def _luminance(channels: Sequence[int]) -> float:
    """Return the relative luminance of a colour, as WCAG 2 defines it."""
    linear = [c / 255 / 12.92 if c <= 10 else ((c / 255 + 0.055) / 1.055) ** 2.4 for c in channels]
    return sum(weight * channel for weight, channel in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


def _table(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Return rows as one list of columns and rows of values, rounded to what a pixel can show."""
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
