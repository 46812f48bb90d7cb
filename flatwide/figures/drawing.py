"""What every figure is drawn with: its data by name, the colours of its series, and what only a page has."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from flatwide.figures.style import finish

if TYPE_CHECKING:
    import altair as alt

Row = dict[str, Any]


def short(value: float, *, digits: int = 5) -> float:
    """Round to a few significant digits, more than a screen resolves."""
    return float(f"{value:.{digits}g}")


def evenly(count: int, most: int) -> list[int]:
    """Return at most so many evenly spaced positions in a list, including both ends."""
    return sorted({round(index) for index in np.linspace(0, count - 1, min(count, most)).tolist()}) if count else []


def parameters(size: int) -> str:
    """Return the name of a network of this size."""
    return f"{size:,} parameters"


def seeds(runs: Iterable[Mapping[str, Any]]) -> str:
    """Return the seeds of some runs in words."""
    numbers = sorted({run["seed"] for run in runs})
    return f"seed{'s' * (len(numbers) > 1)} {' and '.join(map(str, numbers))}"


class Drawing:
    """A figure that is being drawn.

    Its data sets are named: altair copies a chart at every call, and would copy inline rows each time.
    """

    def __init__(
        self, name: str, *, series: Mapping[str, str] | None = None, interactive: bool = False, **legend: Any
    ) -> None:
        """Start a figure.

        Args:
          name: prefix of all names inside the chart, so that several figures can share a page.
          series: name in the column `of` -> colour; several have a legend.
          interactive: add tooltips, and a legend whose entries hide their series.
          legend: options of altair's legend.
        """
        import altair as alt

        series = series or {}
        scale = alt.Scale(domain=list(series), range=list(series.values()))
        self._hidden = f"{name}_hidden" if interactive and len(series) > 1 else None
        self._name, self._interactive = name, interactive
        self._tables: dict[str, list[Row]] = {}
        # A page removes the legend from each layer, so each layer needs the complete channel.
        self.color = alt.Color("of:N", scale=scale, legend=alt.Legend(**legend) if len(series) > 1 else None)

    def add(self, stem: str, rows: Iterable[Row]) -> None:
        """Add a data set."""
        self._tables[f"{self._name}_{stem}"] = list(rows)

    def view(self, data: str, stem: str) -> "alt.Chart":
        """Return a chart without a mark of a data set; both names are of this figure."""
        import altair as alt

        return alt.Chart(alt.NamedData(name=f"{self._name}_{data}"), name=f"{self._name}_{stem}")

    def opacity(self, value: float) -> Any:
        """Return the opacity of a mark, 0 while its series is hidden."""
        import altair as alt

        if self._hidden is None:
            return alt.OpacityValue(value)
        return alt.OpacityValue(value, condition={"param": self._hidden, "empty": False, "value": 0})

    def tips(self, facts: Mapping[str, Any], **numbers: Any) -> dict[str, Any]:
        """Return the tooltip of a page's marks, as an argument of `encode`.

        Args:
          facts: column -> title of what is shown as it is.
          numbers: the same of numbers that are rounded.
        """
        import altair as alt

        shown = [alt.Tooltip(f"{column}:N", title=title) for column, title in facts.items()]
        shown += [alt.Tooltip(f"{column}:Q", title=title, format=".4~g") for column, title in numbers.items()]
        return {"tooltip": shown} if self._interactive else {}

    def finish(
        self, panels: Sequence[Any], *, title: Any, notes: Iterable[str], columns: int = 2, **scales: str
    ) -> Any:
        """Return the figure: one panel, or several as a grid, below a title and what explains their marks.

        Args:
          notes: lines of the subtitle; empty ones are left out.
          scales: channel -> whether panels have "shared" or "independent" scales.
        """
        import altair as alt

        whole = panels[0] if len(panels) == 1 and panels[0].title is alt.Undefined else None
        params = []
        if whole is None:
            whole = alt.ConcatChart(concat=list(panels), columns=columns)
        else:
            scales = {}
        if self._hidden is not None:
            # Only the first view of seeds has it: altair's `add_params` would add it to each panel, which Vega rejects.
            view = next(name for name in _views(whole) if "_seeds" in name)
            select = alt.PointSelectionConfig(type="point", fields=["of"], toggle="true")
            params = [alt.TopLevelSelectionParameter(name=self._hidden, select=select, bind="legend", views=[view])]
        heading = alt.Title(title, subtitle=list(filter(None, notes)))
        shared = scales or None
        return finish(whole, title=heading, datasets=self._tables, params=params, shared_or_independent=shared)


def panel(layers: Sequence[Any], size: tuple[int, int], title: str | None = None, **texts: Any) -> "alt.LayerChart":
    """Return a panel of layers, with a title if there are several panels.

    Args:
      size: width and height in pixels.
      texts: options of altair's title.
    """
    import altair as alt

    chart = alt.LayerChart(layer=list(layers), width=size[0], height=size[1])
    if title is not None:
        chart.title = alt.Title(title, **{"fontSize": 14, **texts})
    return chart


def _views(chart: Any) -> Iterator[str]:
    """Walk over the names of the views of a chart; joining charts renames them."""
    import altair as alt

    for kind in ("layer", "concat"):
        inner = getattr(chart, kind, alt.Undefined)
        for child in inner if isinstance(inner, list) else []:
            yield from _views(child)
    if isinstance(chart, alt.Chart):
        yield str(chart.name)
