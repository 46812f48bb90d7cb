"""Training curves of one run."""

import math
from typing import TYPE_CHECKING, Any

from flatwide.figures import axes
from flatwide.figures.labels import is_percent, label
from flatwide.figures.style import BLUE, GREEN, GREY, finish
from flatwide.figures.tables import Table, to_rows

if TYPE_CHECKING:
    import altair as alt

_COLORS = {"training": GREY, "validation": GREEN, "test": BLUE}
_WIDTH = 300  # pixels of a panel
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
    losses = _series(rows, {"training": "running_train_loss", "validation": "validation_loss", "test": "test_loss"})
    values = _series(rows, {"validation": "validation_metric", "test": "test_metric"})
    loss_passes, metric_passes = _series(rows, {"training": "train_loss"}), _series(rows, {"training": "train_metric"})
    factor = 100 if is_percent(metric_name) else 1
    shown = [name for name in _COLORS if any(point["of"] == name for point in losses + values + metric_passes)]
    panels = [
        _panel(losses, loss_passes, _loss_axis(losses + loss_passes), shown),
        _panel(_scaled(values, factor), _scaled(metric_passes, factor), _metric_axis(metric_name), shown),
    ]
    words = "ring: a full pass over the training examples" if loss_passes + metric_passes else ""
    note = alt.Title(words, orient="bottom", fontSize=12, color=GREY, fontWeight="normal", offset=12)
    return finish(alt.HConcatChart(hconcat=panels), title=note)


def _loss_axis(points: list[dict[str, Any]]) -> Any:
    """Return the loss axis, logarithmic if the losses are positive and span more than a factor of three."""
    import altair as alt

    lowest, highest = (choose((point["value"] for point in points), default=0) for choose in (min, max))
    if not 0 < 3 * lowest < highest:
        scale = axes.padded_scale()
        return alt.Y("value:Q", title=label("loss"), scale=scale, axis=alt.Axis(tickCount=6))
    scale = alt.Scale(type="log", nice=False, padding=10)
    return alt.Y("value:Q", title=label("loss"), scale=scale, axis=axes.log_axis((lowest, highest)))


def _metric_axis(metric_name: str) -> Any:
    import altair as alt

    title = label("metric", metric_name=metric_name)
    return alt.Y("value:Q", title=title, scale=axes.padded_scale(), axis=alt.Axis(tickCount=6))


def _panel(lines: list[dict[str, Any]], passes: list[dict[str, Any]], y: Any, shown: list[str]) -> "alt.LayerChart":
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


def _series(rows: list[dict[str, Any]], columns: dict[str, str]) -> list[dict[str, Any]]:
    """List the finite points of some columns, thinned, each with the name of its line."""
    return [
        point
        for name, column in columns.items()
        for point in thinned(
            [
                {"epoch": row["epoch"], "value": row[column], "of": name}
                for row in rows
                if math.isfinite(row.get(column, math.nan))
            ]
        )
    ]


def thinned(points: list[dict[str, Any]]) -> list[dict[str, Any]]:
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


def _scaled(points: list[dict[str, Any]], factor: float) -> list[dict[str, Any]]:
    return [point | {"value": factor * point["value"]} for point in points]
