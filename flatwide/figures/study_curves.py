"""Training curves of a study: the base and SAM at its best rho, at the smallest and the largest width."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from flatwide.figures import axes
from flatwide.figures.labels import is_percent, label, num_seeds, wrapped
from flatwide.figures.lines import legend_selection, opacity, panel_chart
from flatwide.figures.style import BASE, GREY, SAM, finish

_COLORS = {"base": BASE, "sam": SAM}


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

    columns = _of_training(metric_name) if columns is None else columns
    sizes = sorted({run["num_params"] for run in runs})
    arms = {"base": base, "sam": "SAM"}
    tables: dict[str, list[dict[str, Any]]] = {}
    for size in sizes:
        rows = [
            {"epoch": point["epoch"], "of": arms[run["arm"]], "seed": run["seed"], "rho": run["rho"]} | point["values"]
            for run in runs
            if run["num_params"] == size
            for point in _thinned(curves[run["run"]], columns, most_points)
        ]
        tables[f"{name}_{size}"] = rows
        tables[f"{name}_{size}_means"] = _means(rows, [column.name for column in columns])
    used = [arm for arm in arms if any(run["arm"] == arm for run in runs)]
    scale = alt.Scale(domain=[arms[arm] for arm in used], range=[_COLORS[arm] for arm in used])
    color = alt.Color("of:N", scale=scale, legend=alt.Legend())
    hide = f"{name}_hidden" if interactive else None
    panels = []
    for column in columns:
        for size in sizes:
            layers = _curve_layers(name, column, size, color, tables, hide)
            printed = [row for row in paper if (row["num_params"], row["quantity"]) == (size, column.name)]
            layers += _printed(printed, column.name, f"{name}_{column.name}_{size}_printed", tables)
            panels.append(panel_chart(layers, (300, 200), title=f"{size:,} parameters"))
    # One grid of all panels: rows of panels would each have their own columns.
    whole = alt.ConcatChart(concat=panels, columns=len(sizes))
    params = [legend_selection(whole, name)] if interactive else []
    title = alt.Title(
        heading, subtitle=_subtitle(runs, has_printed=any(table.endswith("_printed") for table in tables))
    )
    return finish(whole, title=title, datasets=tables, params=params, shared_or_independent={"color": "shared"})


def explained(runs: Sequence[Mapping[str, Any]]) -> str:
    """Return the sentence of a caption that explains the lines of `runs`."""
    several = max(Counter((run["arm"], run["num_params"]) for run in runs).values()) > 1
    return "Thin lines are seeds, thick lines their mean." if several else "Each line is one seed."


def _subtitle(runs: Sequence[Mapping[str, Any]], *, has_printed: bool) -> str:
    """Return the sentence that explains the lines."""
    counts = Counter((run["arm"], run["num_params"]) for run in runs).values()
    lines = f"thin lines: each seed; thick lines: mean of {num_seeds(counts)}" if max(counts) > 1 else "one seed"
    return f"{lines}; SAM at its best ρ" + ("; hollow: the paper's values" if has_printed else "")


def _curve_layers(
    name: str,
    column: Column,
    size: int,
    color: Any,
    tables: Mapping[str, Sequence[Mapping[str, Any]]],
    hide: str | None,
) -> list[Any]:
    """Draw the curve of each seed and their mean, from the `tables` of a size."""
    import altair as alt

    rows = tables[f"{name}_{size}"]
    x = axes.epochs(row["epoch"] for row in rows)
    y = _vertical(rows, column)
    tips: dict[str, Any] = {}
    if hide is not None:
        tooltips = [alt.Tooltip(f"{c}:Q", title=label(c)) for c in ("rho", "seed", "epoch")]
        tips["tooltip"] = [*tooltips, alt.Tooltip(f"{column.name}:Q", title=column.title, format=".4~g")]
    seeds = alt.Chart(alt.NamedData(name=f"{name}_{size}"), name=f"{name}_{column.name}_{size}_seeds")
    means = alt.Chart(alt.NamedData(name=f"{name}_{size}_means"), name=f"{name}_{column.name}_{size}_mean")
    return [
        seeds.mark_line(strokeWidth=1).encode(
            x=x, y=y, color=color, detail="seed:N", opacity=opacity(0.35, hide), **tips
        ),
        means.mark_line(strokeWidth=2.5).encode(x=x, y=y, color=color, opacity=opacity(1, hide)),
    ]


def _printed(
    rows: Sequence[Mapping[str, Any]], column: str, stem: str, tables: dict[str, list[dict[str, Any]]]
) -> list[Any]:
    """Draw the paper's values as hollow points, in the colour of their arm; add the rows to `tables`."""
    import altair as alt

    if not rows:
        return []
    tables[stem] = [
        {"epoch": row["epoch"], column: row["value"], "shade": _COLORS.get(row["arm"], GREY)} for row in rows
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


def _vertical(rows: Sequence[Mapping[str, Any]], column: Column) -> Any:
    """Return the vertical axis, logarithmic if the values are positive and span more than a factor of ten."""
    import altair as alt

    values = [row[column.name] for row in rows if column.name in row]
    is_log = column.may_be_log and 0 < 10 * min(values, default=0) < max(values, default=0)
    scale = alt.Scale(type="log", nice=False, padding=8) if is_log else axes.padded_scale()
    axis = axes.log_axis(values) if is_log else alt.Axis(tickCount=5)
    return alt.Y(f"{column.name}:Q", title=wrapped(column.title), scale=scale, axis=axis)


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
