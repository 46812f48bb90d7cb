"""Training curves of one run."""

import math
from typing import TYPE_CHECKING, Any

from flatwide.figures import axes
from flatwide.figures.drawing import Row
from flatwide.figures.labels import factor, label
from flatwide.figures.style import BLUE, GREEN, GREY, finish
from flatwide.figures.tables import Table, to_rows

if TYPE_CHECKING:
    import altair as alt

_COLORS = {"training": GREY, "validation": GREEN, "test": BLUE}
_WIDTH = 300  # pixels of a panel
_LOG_FROM = 3  # times the smallest loss: a larger range has a logarithmic axis
_MOST_POINTS = 30  # with more evaluations, the line has no points


def training_curves(metrics: Table, *, metric_name: str = "metric") -> "alt.HConcatChart":
    """Draw loss and metric of a run against its epochs.

    The training loss is the mean over the steps since the previous evaluation. A ring marks a full pass over the
    training examples in evaluation mode. A long run is thinned to the resolution of the plot; extremes are kept.

    Args:
      metrics: the rows of `metrics.csv`.
      metric_name: what the metric is, such as accuracy.
    """
    import altair as alt

    rows = to_rows(metrics)
    times, title = factor(metric_name), label("metric", metric_name=metric_name)
    losses = _series(rows, {"training": "running_train_loss", "validation": "validation_loss", "test": "test_loss"})
    values = _series(rows, {"validation": "validation_metric", "test": "test_metric"}, times)
    loss_passes = _series(rows, {"training": "train_loss"})
    metric_passes = _series(rows, {"training": "train_metric"}, times)
    shown = [name for name in _COLORS if any(point["of"] == name for point in losses + values + metric_passes)]
    scaled = axes.scaled((point["value"] for point in losses + loss_passes), log_from=_LOG_FROM)
    panels = [
        _panel(losses, loss_passes, alt.Y("value:Q", title=label("loss"), **scaled), shown),
        _panel(values, metric_passes, alt.Y("value:Q", title=title, **axes.scaled()), shown),
    ]
    words = "ring: a full pass over the training examples" if loss_passes + metric_passes else ""
    note = alt.Title(words, orient="bottom", fontSize=12, color=GREY, fontWeight="normal", offset=12)
    return finish(alt.HConcatChart(hconcat=panels), title=note)


def _panel(lines: list[Row], passes: list[Row], y: Any, shown: list[str]) -> "alt.LayerChart":
    """Draw lines, with rings for full passes."""
    import altair as alt

    encoding = {
        "x": axes.epochs(point["epoch"] for point in lines + passes),
        "y": y,
        "color": alt.Color("of:N", scale=alt.Scale(domain=shown, range=[_COLORS[name] for name in shown])),
    }
    point = {"size": 30, "filled": True} if len(lines) <= _MOST_POINTS * len(shown) else False
    line = alt.Chart(alt.Data(values=lines)).mark_line(strokeWidth=2, point=point).encode(**encoding)
    ring = alt.Chart(alt.Data(values=passes)).mark_point(size=80, strokeWidth=2, opacity=1).encode(**encoding)
    return alt.LayerChart(layer=[line, ring], width=_WIDTH, height=220)


def _series(rows: list[Row], columns: dict[str, str], factor: float = 1) -> list[Row]:
    """List the finite points of some columns, thinned, each with the name of its line."""
    drawn = []
    for name, column in columns.items():
        finite = [row for row in rows if math.isfinite(row.get(column, math.nan))]
        drawn += thinned([{"epoch": row["epoch"], "value": factor * row[column], "of": name} for row in finite])
    return drawn


def thinned(points: list[Row]) -> list[Row]:
    """Keep the first, last, lowest and highest point of each pixel.

    No extreme is lost, and the line enters and leaves each pixel where the full line does.
    """
    if len(points) <= 4 * _WIDTH:
        return points
    chosen = []
    for pixel in range(_WIDTH):
        here = range(pixel * len(points) // _WIDTH, (pixel + 1) * len(points) // _WIDTH)
        ends = (min(here, key=lambda at: points[at]["value"]), max(here, key=lambda at: points[at]["value"]))
        chosen += [points[at] for at in sorted({here[0], here[-1], *ends})]
    return chosen
