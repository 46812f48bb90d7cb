"""Axes of the figures of measured quantities: vertical ones of quantities, horizontal ones of sizes or radii."""

import functools
from collections.abc import Sequence
from typing import Any, NamedTuple

from flatwide import catalogue
from flatwide.analysis.measured import DIFFERENCE, RATIO
from flatwide.figures import axes, lines, pieces
from flatwide.figures.labels import label

Row = dict[str, Any]
_LOG_FROM = 5  # times the smallest value: a larger range has a logarithmic axis

short = functools.partial(pieces.short, digits=6)  # positions have one digit more than values


class Axis(NamedTuple):
    """Vertical axis of a quantity, and the limits of its bars, which can be very long with two seeds."""

    quantity: str
    comparison: str
    is_log: bool
    least: float
    most: float
    low: float
    high: float

    def encode(self, title: Any) -> Any:
        """Return its encoding channel."""
        import altair as alt

        return alt.Y("value:Q", title=title, scale=self.scale(padding=12), axis=self.ticks())

    def ticks(self, **options: Any) -> Any:
        """Return its ticks.

        Args:
          options: of altair's axis.
        """
        import altair as alt

        if self.is_log:
            return axes.log_axis((self.least, self.most), **options)
        return alt.Axis(tickCount=5, format=",.4~g", **options)

    def scale(self, padding: int) -> Any:
        """Return its scale."""
        import altair as alt

        log = alt.Scale(type="log", nice=False, padding=padding)
        return log if self.is_log else axes.padded_scale()


class Positions(NamedTuple):
    """Horizontal axis: logarithmic for several sizes, otherwise with equally spaced values."""

    column: str
    values: list[Any]

    @property
    def is_log(self) -> bool:
        """Whether it is logarithmic."""
        return lines.Across(self.column, self.values).is_log

    def at(self, value: Any, width: int, shift: float) -> float:
        """Return the position of a value, offset by `shift` pixels, in a panel of `width` pixels."""
        if not self.is_log:
            return short(self.values.index(value) + shift / max(width / max(len(self.values), 1), 8 * abs(shift), 1))
        return short(value * (self.values[-1] / self.values[0]) ** (shift / (width - 48)))

    def encode(self) -> Any:
        """Return its encoding channel."""
        import altair as alt

        shared: dict[str, Any] = {"grid": False, "labelOverlap": "greedy", "labelSeparation": 8}
        if self.is_log:
            scale, axis = (
                alt.Scale(type="log", nice=False, padding=24),
                alt.Axis(values=self.values, format=".3~s", **shared),
            )
        else:
            texts = [f"{value:,}" if isinstance(value, int) else f"{value:g}" for value in self.values]
            domain = [-0.5, len(self.values) - 0.5]
            scale = alt.Scale(domain=domain, nice=False, zero=False)
            axis = alt.Axis(values=list(range(len(texts))), labelExpr=f"{texts}[datum.value]", **shared)
        return alt.X("x:Q", title=label(self.column), scale=scale, axis=axis)


def axes_of(rows: Sequence[Row]) -> dict[str, Axis]:
    """Choose the axis of each quantity from all its values."""
    axes = {}
    for name in dict.fromkeys(row["quantity"] for row in rows):
        values = [row["value"] for row in rows if row["quantity"] == name]
        least, most, quantity = min(values), max(values), catalogue.quantity(name)
        comparison = RATIO if least > 0 and not quantity.is_signed else DIFFERENCE
        is_log = least > 0 and most > _LOG_FROM * least
        reach = max(most - least, 1e-3 * abs(most))
        # A bar that reaches below 0 would leave a logarithmic axis without a scale.
        ends = (least / 3, most * 3) if comparison == RATIO or is_log else (least - reach, most + reach)
        axes[name] = Axis(
            quantity=name,
            comparison=comparison,
            is_log=is_log,
            least=least,
            most=most,
            low=ends[0],
            high=ends[1],
        )
    return axes
