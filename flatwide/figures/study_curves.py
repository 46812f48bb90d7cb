"""Training curves of a study: the base and SAM at its best rho, at the smallest and the largest width."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from flatwide.figures.labels import is_percent, label, wrapped
from flatwide.figures.lines import legend_selection, panel_chart
from flatwide.figures.style import BASE, GREY, SAM, finish


class Column(NamedTuple):
    """Row of panels: a column of the curves, without a dot in its name, and its axis title."""

    name: str
    title: str
    factor: float = 1
    may_be_log: bool = True  # use a logarithmic axis if the values are positive and span more than a factor of ten


def study_curves(
    runs: Sequence[Mapping[str, Any]],
    curves: Mapping[str, Sequence[Mapping[str, Any]]],
    *,
    metric_name: str = "accuracy",
    base: str = "SGD",
    columns: Sequence[Column] | None = None,
    paper: Sequence[Mapping[str, Any]] = (),
    heading: str = "Training",
    most_points: int = 40,
    name: str = "training_curves",
    interactive: bool = False,
) -> Any:
    """Draw columns against epochs, with seeds as thin lines and their mean as a thick line.

    Args:
      runs: one dict per run, with `run` (its name), `arm` ("base" or "sam"), `num_params`, `rho` and `seed`.
      curves: name of a run -> the rows of its `metrics.csv`, or other rows with an epoch.
      columns: columns to draw; None is training loss and test metric.
      paper: rows with `num_params`, `quantity` (a column), `epoch`, `value`, and `arm` if it is known.
      most_points: per curve, evenly spaced, so that 500 runs fit on a page.
      metric_name, base, name, interactive: as for `gain.gain_against_width`.
    """
    import altair as alt

    arms = {"base": (base, BASE), "sam": ("SAM", SAM)}
    columns = _of_training(metric_name) if columns is None else columns
    used = [arm for arm in arms if any(run["arm"] == arm for run in runs)]
    scale = alt.Scale(domain=[arms[arm][0] for arm in used], range=[arms[arm][1] for arm in used])
    color = alt.Color("of:N", scale=scale, legend=alt.Legend())

    def opacity(value: float) -> Any:
        hidden = {"condition": {"param": f"{name}_hidden", "empty": False, "value": 0}} if interactive else {}
        return alt.OpacityValue(value, **hidden)

    sizes = sorted({run["num_params"] for run in runs})
    tables: dict[str, list[dict[str, Any]]] = {}
    for size in sizes:
        here = [run for run in runs if run["num_params"] == size]
        tables[f"{name}_{size}"] = [
            {"epoch": point["epoch"], "of": arms[run["arm"]][0], "seed": run["seed"], "rho": run["rho"]}
            | point["values"]
            for run in here
            for point in _thinned(curves[run["run"]], columns, most_points)
        ]
    rows = []
    for column, title, _, may_be_log in columns:
        panels = []
        for size in sizes:
            data = alt.NamedData(name=f"{name}_{size}")
            scale_of_y = _scale(tables[data.name], column, may_be_log)
            y = alt.Y(f"{column}:Q", title=wrapped(title), scale=scale_of_y, axis=alt.Axis(tickCount=5))
            tooltips = [alt.Tooltip(f"{c}:Q", title=label(c)) for c in ("rho", "seed", "epoch")]
            tips: dict[str, Any] = (
                {"tooltip": [*tooltips, alt.Tooltip(f"{column}:Q", title=title, format=".4~g")]} if interactive else {}
            )
            x = alt.X("epoch:Q", title=label("epoch"), scale=alt.Scale(nice=False), axis=_epochs())
            chart = alt.Chart(data, name=f"{name}_{column}_{size}_seeds")
            seeds = chart.mark_line(strokeWidth=1, clip=True)
            seeds = seeds.encode(x=x, y=y, color=color, detail="seed:N", opacity=opacity(0.35), **tips)
            means = alt.NamedData(name=f"{name}_{size}_means")
            tables[means.name] = _means(tables[data.name], [column.name for column in columns])
            mean = alt.Chart(means, name=f"{name}_{column}_{size}_mean").mark_line(strokeWidth=2.5)
            mean = mean.encode(x=x, y=alt.Y(f"{column}:Q", title=wrapped(title)), color=color, opacity=opacity(1))
            paper_rows = [row for row in paper if (row["num_params"], row["quantity"]) == (size, column)]
            layers = [seeds, mean, *_printed(paper_rows, column, f"{name}_{column}_{size}_printed", tables)]
            panels.append(panel_chart(layers, (300, 200), title=f"{size:,} parameters"))
        rows.append(alt.HConcatChart(hconcat=panels))
    counts = Counter((run["arm"], run["num_params"]) for run in runs).values()
    number = f"{max(counts)}" if min(counts) == max(counts) else f"{min(counts)} to {max(counts)}"
    words = f"thin lines: each seed; thick lines: mean of {number} seeds; SAM at its best ρ"
    words += "; hollow: the paper's values" if any(table.endswith("_printed") for table in tables) else ""
    whole = alt.VConcatChart(vconcat=rows)
    params = [legend_selection(whole, name)] if interactive else []
    title = alt.Title(heading, subtitle=words)
    return finish(whole, title=title, datasets=tables, params=params, shared_or_independent={"color": "shared"})


def _printed(
    rows: Sequence[Mapping[str, Any]], column: str, stem: str, tables: dict[str, list[dict[str, Any]]]
) -> list[Any]:
    """Draw the paper's values as hollow points, in the colour of their arm; add the rows to `tables`."""
    import altair as alt

    if not rows:
        return []
    shades = {"base": BASE, "sam": SAM}
    tables[stem] = [
        {"epoch": row["epoch"], column: row["value"], "shade": shades.get(row["arm"], GREY)} for row in rows
    ]
    marks = alt.Chart(alt.NamedData(name=stem), name=f"{stem}_points")
    marks = marks.mark_point(size=60, filled=False, strokeWidth=1.8, shape="diamond")
    stroke = alt.Stroke("shade:N", scale=None)
    return [marks.encode(x=alt.X("epoch:Q"), y=alt.Y(f"{column}:Q"), stroke=stroke)]


def _of_training(metric_name: str) -> tuple[Column, ...]:
    factor = 100 if is_percent(metric_name) else 1
    return (
        Column("running_train_loss", label("train_loss")),
        Column("test_metric", label("test_metric", metric_name=metric_name), factor, may_be_log=False),
    )


def _epochs() -> Any:
    import altair as alt

    return alt.Axis(grid=False, tickCount=6)


def _scale(rows: Sequence[Mapping[str, Any]], column: str, may_be_log: bool) -> Any:
    """Choose a logarithmic scale for values that span more than a factor of ten."""
    import altair as alt

    values = [row[column] for row in rows if column in row]
    if may_be_log and 0 < 10 * min(values, default=0) < max(values, default=0):
        return alt.Scale(type="log", nice=False, padding=8)
    return alt.Scale(zero=False)


def _thinned(rows: Sequence[Mapping[str, Any]], columns: Sequence[Column], most: int) -> list[dict[str, Any]]:
    """Thin a curve evenly, including its last point, and drop values that are not finite."""
    fine = []
    for row in rows:
        numbers = {column: factor * _number(row.get(column)) for column, _, factor, _ in columns}
        values = {column: float(f"{number:.5g}") for column, number in numbers.items() if math.isfinite(number)}
        if values:
            fine.append({"epoch": float(f"{float(row['epoch']):.6g}"), "values": values})
    if len(fine) <= most:
        return fine
    return [fine[round(index * (len(fine) - 1) / (most - 1))] for index in range(most)]


def _number(value: Any) -> float:
    return math.nan if value is None else float(value)


def _means(rows: Sequence[Mapping[str, Any]], columns: Sequence[str]) -> list[dict[str, Any]]:
    """Average each arm where all its seeds have a value, so that the end of a seed does not shift the mean."""
    seeds: dict[str, set[int]] = {}
    at: dict[tuple[str, float], list[Mapping[str, Any]]] = {}
    for row in rows:
        seeds.setdefault(row["of"], set()).add(row["seed"])
        at.setdefault((row["of"], row["epoch"]), []).append(row)
    means = []
    for (name, epoch), here in at.items():
        mean: dict[str, Any] = {"of": name, "epoch": epoch}
        for column in columns:
            values = [row[column] for row in here if column in row]
            if len(values) == len(seeds[name]):
                mean[column] = float(f"{sum(values) / len(values):.5g}")
        means.append(mean)
    return means
