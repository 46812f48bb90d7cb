"""The one look of all figures."""

from typing import Any

# Okabe and Ito's colours, which people with any kind of colour vision tell apart (https://jfly.uni-koeln.de/color/).
BLUE, VERMILION, GREEN, GREY = "#0072B2", "#D55E00", "#009E73", "#6b6b6b"
BASE, SAM = BLUE, VERMILION

_INK = "#222222"


def styled(chart: Any) -> Any:
    """Give a finished chart the look: white, quiet axes, text that is legible at half its size."""
    text = {"labelFontSize": 13, "titleFontSize": 14, "labelColor": _INK, "titleColor": _INK}
    lines = {"domainColor": "#999999", "tickColor": "#999999", "gridColor": "#e4e4e4"}
    title = {"fontSize": 16, "subtitleFontSize": 13, "subtitlePadding": 5, "color": _INK, "subtitleColor": GREY}
    symbols = {"symbolType": "stroke", "symbolStrokeWidth": 3, "symbolSize": 260, "symbolOpacity": 1}
    return chart.configure(
        background="white",
        font="Helvetica, Arial, sans-serif",
        padding=12,
        view={"stroke": None},
        axis={**text, **lines, "titleFontWeight": "normal", "titlePadding": 10},
        legend={**text, **symbols, "title": None, "orient": "top", "columnPadding": 18, "offset": 10},
        title={**title, "anchor": "start", "offset": 12},
        concat={"spacing": 36},
    )
