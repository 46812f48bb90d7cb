"""What SAM buys, and where both optimizers end, as a network grows.

Both figures take the table of `analysis.gain.pair_seeds` and draw every seed of it.
"""

import math
from collections import Counter
from typing import TYPE_CHECKING, Any, NamedTuple

from flatwide.analysis import intervals
from flatwide.figures.labels import is_percent, label
from flatwide.figures.style import BASE, GREY, SAM, styled
from flatwide.figures.tables import Table, to_rows

if TYPE_CHECKING:
    import altair as alt


class _Series(NamedTuple):
    """One line of a figure: a value for each seed and width."""

    name: str
    color: str
    seeds: list[dict[str, Any]]  # num_params, value, of
    shift: int  # pixels to the right, so that two lines do not hide each other; the dots lie as far again


def gain_against_width(pairs: Table, *, metric_name: str = "accuracy", base: str = "SGD") -> "alt.LayerChart":
    """Draw the gain of SAM over its base optimizer against the number of parameters.

    Args:
      pairs: one row a width and seed, with `num_params`, `seed` and `gain`.
      metric_name: what the metric is.
      base: name of the base optimizer.
    """
    import altair as alt

    series = _Series("SAM", SAM, _values(pairs, "gain", "SAM", metric_name), shift=0)
    zero = alt.Chart(alt.Data(values=[{"value": 0}])).mark_rule(color=GREY, strokeDash=[5, 4]).encode(y="value:Q")
    layers = _layers([series], label("gain", metric_name=metric_name), legend=None)
    return _chart([zero, *layers], f"Gain of SAM over {base}", [series])


def metric_against_width(pairs: Table, *, metric_name: str = "accuracy", base: str = "SGD") -> "alt.LayerChart":
    """Draw the metric of SAM and of its base optimizer against the number of parameters.

    Args: as for `gain_against_width`; the rows also have `base` and `sam`.
    """
    import altair as alt

    series = [
        _Series(base, BASE, _values(pairs, "base", base, metric_name), shift=-5),
        _Series("SAM", SAM, _values(pairs, "sam", "SAM", metric_name), shift=5),
    ]
    layers = _layers(series, label("test_metric", metric_name=metric_name), legend=alt.Legend())
    return _chart(layers, f"{base} and SAM", series)


def _values(pairs: Table, column: str, name: str, metric_name: str) -> list[dict[str, Any]]:
    factor = 100 if is_percent(metric_name) else 1
    return [{"num_params": row["num_params"], "value": factor * row[column], "of": name} for row in to_rows(pairs)]


def _layers(series: list[_Series], title: str, *, legend: Any) -> list[Any]:
    """Draw every seed as a dot, and means with their intervals, joined by a line."""
    import altair as alt

    widths = sorted({seed["num_params"] for line in series for seed in line.seeds})
    colors = alt.Scale(domain=[line.name for line in series], range=[line.color for line in series])
    ticks = alt.Axis(values=widths, format=".3~s", grid=False, labelOverlap="greedy", labelSeparation=8)
    scale = alt.Scale(type="log", nice=False, padding=24)
    shared = {
        "x": alt.X("num_params:Q", title=label("num_params"), scale=scale, axis=ticks),
        "color": alt.Color("of:N", scale=colors, legend=legend),
    }
    up = alt.Y("value:Q", title=title, scale=alt.Scale(zero=False), axis=alt.Axis(tickCount=6))
    layers = []
    for line in series:
        aside = line.shift + math.copysign(9, line.shift)
        means = alt.Chart(alt.Data(values=_means(line, widths)))
        bars = means.transform_filter("isValid(datum.low)").mark_rule(strokeWidth=2, xOffset=line.shift)
        layers += [
            alt.Chart(alt.Data(values=line.seeds))
            .mark_circle(size=26, opacity=0.45, xOffset=aside)
            .encode(y=up, **shared),
            means.mark_line(strokeWidth=2, xOffset=line.shift).encode(y="mean:Q", **shared),
            bars.encode(y="low:Q", y2="high:Q", **shared),
            means.mark_point(size=70, filled=True, opacity=1, xOffset=line.shift).encode(y="mean:Q", **shared),
        ]
    return layers


def _means(line: _Series, widths: list[int]) -> list[dict[str, Any]]:
    """Summarize the seeds of each width; one seed has no interval."""
    rows = []
    for width in widths:
        values = [seed["value"] for seed in line.seeds if seed["num_params"] == width]
        mean = intervals.mean(values)._asdict()
        rows.append({"num_params": width, "of": line.name} | {k: v for k, v in mean.items() if math.isfinite(v)})
    return rows


def _chart(layers: list[Any], title: str, series: list[_Series]) -> "alt.LayerChart":
    """Put layers into one chart, with a title that says what its dots and bars are."""
    import altair as alt

    counts = Counter((seed["of"], seed["num_params"]) for line in series for seed in line.seeds).values()
    seeds = f"{max(counts)}" if min(counts) == max(counts) else f"{min(counts)} to {max(counts)}"
    subtitle = f"small dots: each seed; large points and bars: mean and 95 % t interval of {seeds} seeds"
    subtitle = "one seed at each width" if max(counts) == 1 else subtitle
    chart = alt.LayerChart(layer=layers, width=560, height=320, title=alt.Title(title, subtitle=subtitle))
    return styled(chart)
