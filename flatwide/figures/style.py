"""Style that all figures share."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from flatwide.figures.labels import capital, factor, label

# Okabe and Ito's colours, distinguishable with any kind of colour vision (https://jfly.uni-koeln.de/color/).
BLUE, VERMILION, GREEN, GREY = "#0072B2", "#D55E00", "#009E73", "#6b6b6b"
BASE, SAM = BLUE, VERMILION

_INK = "#222222"
_UNORDERED = (VERMILION, BLUE, GREEN, "#CC79A7", "#E69F00", "#56B4E9")
_RAMP = ((0x44, 0x01, 0x54), (0x3B, 0x52, 0x8B), (0x21, 0x91, 0x8C), (0x5E, 0xC9, 0x62), (0xD8, 0xC0, 0x2C))  # viridis


class Style(NamedTuple):
    """How figures of the same runs are labelled and drawn.

    metric, metric_name: column of the metric, and what it is; "loss" for a loss. base: name of the base optimizer.
    chosen_by: column that the best rho is chosen by. axes: columns that distinguish parts.
    is_ordered: whether the parts have an order, which their colours then follow.
    interactive: add tooltips, and a legend whose entries hide their series.
    are_ours: whether flatwide trained the runs; then both runs of a seed share their initial weights.
    ending: suffix of the figures' names, so that several domains can share a page.
    """

    metric: str = "test_metric"
    metric_name: str = "accuracy"
    base: str = "SGD"
    chosen_by: str = "test_metric"
    axes: Sequence[str] = ()
    is_ordered: bool = False
    interactive: bool = False
    are_ours: bool = True
    ending: str = ""

    @property
    def dots(self) -> str:
        """Sentence that explains the small dots of a gain."""
        shared = "whose two runs start from the same weights" if self.are_ours else "its SAM run against its base run"
        return f"Each small dot is one seed{',' if self.are_ours else ':'} {shared}."

    @property
    def metric_title(self) -> str:
        """The metric, as it begins a title."""
        return capital(label(self.metric, metric_name=self.metric_name))

    @property
    def factor(self) -> int:
        """What figures multiply the metric by."""
        return factor(self.metric_name)


DEFAULT = Style()


def colors(count: int, *, ordered: bool) -> list[str]:
    """Choose colours for lines: from dark to light if they have an order, otherwise as distinct as possible."""
    if not ordered and count <= len(_UNORDERED):
        return list(_UNORDERED[:count])
    palette = []
    for index in range(count):
        at = index / max(count - 1, 1) * (len(_RAMP) - 1)
        below = min(int(at), len(_RAMP) - 2)
        mixed = [round(a + (at - below) * (b - a)) for a, b in zip(_RAMP[below], _RAMP[below + 1], strict=True)]
        palette.append("#" + "".join(f"{channel:02x}" for channel in mixed))
    return palette


def finish(
    chart: Any,
    *,
    title: Any,
    datasets: Mapping[str, list[dict[str, Any]]] | None = None,
    params: Sequence[Any] = (),
    shared_or_independent: Mapping[str, Any] | None = None,
) -> Any:
    """Set the title, the data and the style of a chart: white background, light axes, text legible at half its size.

    The chart is changed in place: every method of altair's charts copies its contents several times, which would take
    most of the time of a figure.

    Args:
      datasets: name used by the layers -> rows.
      params: selections.
      shared_or_independent: channel -> whether panels have "shared" or "independent" scales.
    Returns: the same chart.
    """
    import altair as alt

    text = {"labelFontSize": 13, "titleFontSize": 14, "labelColor": _INK, "titleColor": _INK}
    lines = {"domainColor": "#999999", "tickColor": "#999999", "gridColor": "#e4e4e4"}
    heading = {"fontSize": 16, "subtitleFontSize": 13, "subtitlePadding": 5, "color": _INK, "subtitleColor": GREY}
    symbols = {"symbolType": "stroke", "symbolStrokeWidth": 3, "symbolSize": 260, "symbolOpacity": 1}
    layout = {"orient": "top", "columnPadding": 18, "offset": 10, "labelLimit": 420, "columns": 3}
    chart.config = alt.Config(
        background="white",
        font="Helvetica, Arial, sans-serif",
        padding=12,
        view={"stroke": None},
        axis={**text, **lines, "titleFontWeight": "normal", "titlePadding": 10},
        # A label at the end of an axis stays beside the plot, or it would lift the title of its panel.
        axisY={"labelFlush": 7},
        # A click on an entry hides its series, but does not change the legend.
        legend={**text, **symbols, **layout, "title": None, "unselectedOpacity": 1},
        # Titles of panels begin where the plot does, so that those of a column are aligned.
        title={**heading, "anchor": "start", "frame": "group", "offset": 12},
        concat={"spacing": 36},
    )
    if isinstance(title, alt.TitleParams):
        title.frame = "bounds"  # of the whole figure, with its axes
    chart.title = title
    if datasets is not None:
        chart.datasets = datasets
    if params:
        chart.params = list(params)
    if shared_or_independent is not None:
        chart.resolve = alt.Resolve(scale=alt.ScaleResolveMap(**shared_or_independent))
    return chart
