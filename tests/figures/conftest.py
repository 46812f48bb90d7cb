"""Positions of the texts, points and panels of a chart, in pixels, as Vega lays it out."""

import itertools
import math
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import pytest
import vl_convert

from flatwide.figures.rendering import _version

# Widths of Helvetica's characters, in thousandths of the font size; what is not listed is as wide as a digit.
_WIDTHS = {
    278: " .,:;/!|'ijlt()[]I−",
    333: "-fr·",
    500: "ckszvxyJ",
    722: "wCDHNRU",
    667: "ABEKPSVXYGOQ",
    833: "mM",
    944: "W",
}
_WIDTH_OF = {character: width for width, characters in _WIDTHS.items() for character in characters}


Item = dict[str, Any]


class Box(NamedTuple):
    """Rectangle that something fills."""

    left: float
    top: float
    right: float
    bottom: float
    text: str = ""
    role: str = ""
    is_upright: bool = False  # read from below

    def holds(self, other: "Box") -> bool:
        """Whether another box is inside this one."""
        across = self.left <= other.left and other.right <= self.right
        return across and self.top <= other.top and other.bottom <= self.bottom

    def overlap(self, other: "Box") -> float:
        """Return by how many pixels two boxes overlap, along the axis in which they overlap less."""
        across = min(self.right, other.right) - max(self.left, other.left)
        down = min(self.bottom, other.bottom) - max(self.top, other.top)
        return min(across, down)


class Scene(NamedTuple):
    """A chart as it is drawn."""

    picture: Box
    texts: list[Box]
    points: list[Box]
    panels: list[Box]


def lay_out(spec: Item) -> Scene:
    """Lay out a chart."""
    drawn = vl_convert.vegalite_to_scenegraph(spec, vl_version=_version())
    left, top = drawn["origin"]
    picture = Box(-left, -top, drawn["width"] - left, drawn["height"] - top)
    laid_out = Scene(picture, [], [], [])
    for mark, items, x, y in _marks(drawn["scenegraph"], 0, 0):
        for item in items:
            if item.get("opacity") == 0:
                continue
            if mark["marktype"] == "text":
                laid_out.texts.append(_text_box(item, x, y, mark.get("role") or ""))
            elif mark["marktype"] == "symbol" and mark.get("role") == "mark":
                radius = math.sqrt(item.get("size", 64)) / 2
                a, b = x + (item.get("x") or 0), y + (item.get("y") or 0)
                laid_out.points.append(Box(a - radius, b - radius, a + radius, b + radius))
            elif mark["marktype"] == "group" and _has_axis(item):
                a, b = x + (item.get("x") or 0), y + (item.get("y") or 0)
                laid_out.panels.append(Box(a, b, a + item.get("width", 0), b + item.get("height", 0)))
    return laid_out


def list_faults(spec: Item) -> list[str]:
    """List what is hard to read in a chart: texts that overlap or are cut, points that are cut, panels out of line."""
    drawn = lay_out(spec)
    pairs = itertools.combinations(drawn.texts, 2)
    listed = [f"{a.text!r} overlaps {b.text!r}" for a, b in pairs if a.overlap(b) > 1 and a.text and b.text]
    listed += [f"{text.text!r} is cut" for text in drawn.texts if not drawn.picture.holds(text)]
    listed += [f"a point at {point.left:.0f} is cut" for point in drawn.points if not drawn.picture.holds(point)]
    height = min((panel.bottom - panel.top for panel in drawn.panels), default=0)
    listed += [
        f"{text.text!r} is longer than its axis"
        for text in drawn.texts
        if text.role == "axis-title" and text.is_upright and text.bottom - text.top > 1.1 * height
    ]
    titles = [text for text in drawn.texts if text.role == "title-text"]
    for kind, boxes in (("panels", drawn.panels), ("titles", titles)):
        for side, size in (("left", 30), ("top", 12)):
            ends = sorted({round(getattr(box, side)) for box in boxes})
            close = [pair for pair in itertools.pairwise(ends) if 1 < pair[1] - pair[0] < size]
            listed += [f"{kind} out of line at {side} {pair}" for pair in close]
    return listed


def _has_axis(group: Item) -> bool:
    return any(mark.get("role") == "axis" for mark in group.get("items", ()))


def _marks(mark: Item, x: float, y: float) -> Iterator[tuple[Item, list[Item], float, float]]:
    """Walk over the marks of a scene, each with its items and the origin of its group."""
    yield mark, mark.get("items", []), x, y
    if mark.get("marktype") == "group":
        for group in mark.get("items", []):
            for inner in group.get("items", []):
                yield from _marks(inner, x + (group.get("x") or 0), y + (group.get("y") or 0))


def _text_box(item: Item, x: float, y: float, role: str) -> Box:
    lines = item["text"] if isinstance(item.get("text"), list) else [str(item.get("text", ""))]
    size = item.get("fontSize", 11)
    letter = size / 1000 * (1.06 if item.get("fontWeight") == "bold" else 1)
    width = max(sum(_WIDTH_OF.get(character, 556) for character in line) for line in lines) * letter
    width = min(width, item.get("limit") or math.inf)
    height = size + (size + 2) * (len(lines) - 1)
    left = {"left": 0, "center": -width / 2, "right": -width}[item.get("align", "left")] + item.get("dx", 0)
    tops = {
        "top": 0,
        "line-top": 0,
        "middle": -size / 2,
        "bottom": -size,
        "alphabetic": -0.8 * size,
    }
    top = tops[item.get("baseline", "alphabetic")] + item.get("dy", 0)
    x, y = x + (item.get("x") or 0), y + (item.get("y") or 0)
    if item.get("angle", 0) % 360 == 270:  # read upwards: its left is below
        return Box(x + top, y - left - width, x + top + height, y - left, " ".join(lines), role, is_upright=True)
    return Box(x + left, y + top, x + left + width, y + top + height, " ".join(lines), role)


@pytest.fixture(scope="session")
def faults() -> Callable[[Item], list[str]]:
    """Return the function that lists what is hard to read in a chart."""
    return list_faults


@pytest.fixture(scope="session")
def scene() -> Callable[[Item], Scene]:
    """Return the function that lays out a chart."""
    return lay_out
