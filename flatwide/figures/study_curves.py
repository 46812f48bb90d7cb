"""Curves over the epochs of a study, a panel for each width: seeds as thin lines and their mean as a thick one."""

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from flatwide.analysis import widths
from flatwide.figures import axes
from flatwide.figures.drawing import Drawing, Row, panel, parameters, short
from flatwide.figures.labels import factor, label, num_seeds, wrapped
from flatwide.figures.style import BASE, GREY, SAM
from flatwide.figures.tables import by_part

_COLORS = {"base": BASE, "sam": SAM}


class Column(NamedTuple):
    """Row of panels: a column of the curves, without a dot in its name, and its axis title."""

    name: str
    title: str
    factor: float = 1
    log_from: float = 10  # a logarithmic axis is for positive values that span more than this factor
    limit: str = ""  # column of a dashed line that belongs to the mean; both are then geometric


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
    """Draw columns against epochs, for the base and SAM at its best rho.

    Args:
      runs: one dict per run, with `run` (its name), `arm` ("base" or "sam"), `num_params`, `rho` and `seed`.
      curves: name of a run -> the rows of its `metrics.csv`, or other rows with an epoch.
      columns: columns to draw; None is training loss and test metric.
      paper: rows with `num_params`, `quantity` (a column), `epoch`, `value`, and `arm` if it is known.
      most_points: per curve, evenly spaced, so that 500 runs fit on a page.
      metric_name, base, name, interactive: as for `gain.gain_against_width`.
    """
    columns = columns or (
        Column("running_train_loss", label("train_loss")),
        Column("test_metric", label("test_metric", metric_name=metric_name), factor(metric_name), log_from=math.inf),
    )
    arms = {"base": base, "sam": "SAM"}
    rows = [
        {"num_params": run["num_params"], "of": arms[run["arm"]], "seed": run["seed"], "rho": run["rho"]} | point
        for run in runs
        for point in widths.evenly(list(_finite(curves[run["run"]], columns)), most_points)
    ]
    counts = Counter((run["arm"], run["num_params"]) for run in runs).values()
    lines = f"thin lines: each seed; thick lines: mean of {num_seeds(counts)}" if max(counts) > 1 else "one seed"
    printed = [
        {"num_params": row["num_params"], "epoch": row["epoch"], row["quantity"]: row["value"]}
        | {"shade": _COLORS.get(row["arm"], GREY)}
        for row in paper
    ]
    return over_epochs(
        rows,
        columns,
        series={arms[arm]: color for arm, color in _COLORS.items() if any(run["arm"] == arm for run in runs)},
        printed=printed,
        title=heading,
        notes=[f"{lines}; SAM at its best ρ", "hollow: the paper's values" if printed else ""],
        name=name,
        interactive=interactive,
    )


def has_points(rows: Iterable[Mapping[str, Any]], columns: Iterable[str]) -> bool:
    """Whether a run's curve has a finite value in one of the columns: a cut or diverged one may have none."""
    return any(math.isfinite(float(row.get(column, math.nan))) for row in rows for column in columns)


def explained(runs: Sequence[Mapping[str, Any]]) -> str:
    """Return the sentence of a caption that explains the lines of `runs`."""
    several = max(Counter((run["arm"], run["num_params"]) for run in runs).values()) > 1
    return "Thin lines are seeds, thick lines their mean." if several else "Each line is one seed."


def over_epochs(
    rows: Iterable[Row],
    columns: Sequence[Column],
    *,
    series: Mapping[str, str],
    printed: Sequence[Row] = (),
    title: str,
    notes: Sequence[str],
    name: str,
    interactive: bool = False,
) -> Any:
    """Draw columns against epochs: a row of panels for each, in which each width has one.

    Args:
      rows: `num_params`, `of` (its series), `seed`, `epoch` and the columns; missing values are not drawn.
      series: name -> colour.
      printed: the paper's values: `num_params`, `epoch`, one of the columns, and `shade`, a colour.
      title, notes: heading of the figure. name, interactive: as for `lines.figure`.
    """
    import altair as alt

    drawing = Drawing(name, series=series, interactive=interactive)
    of_size = dict(sorted(by_part(rows, "num_params").items()))
    for size, here in of_size.items():
        drawing.add(f"{size}", ({k: v for k, v in row.items() if k != "num_params"} for row in here))
        drawing.add(f"{size}_means", _means(here, columns))
    panels = []
    for column in columns:
        for size, here in of_size.items():
            x = axes.epochs(row["epoch"] for row in here)
            drawn = [here] if not column.limit else of_size.values()  # panels with a limit share their vertical axis
            values = [row[k] for some in drawn for row in some for k in (column.name, column.limit) if k in row]
            heading, scaled = wrapped(column.title), axes.scaled(values, log_from=column.log_from)
            y, limit = (alt.Y(f"{field}:Q", title=heading, **scaled) for field in (column.name, column.limit))
            tips = drawing.tips(
                {"of": "series"} | {fact: label(fact) for fact in ("rho", "seed", "epoch") if fact in here[0]},
                **{column.name: column.title},
            )
            stem = f"{column.name}_{size}"
            share: Row = {"x": x, "color": drawing.color}
            seeds = drawing.view(f"{size}", f"{stem}_seeds").mark_line(strokeWidth=1)
            means = drawing.view(f"{size}_means", f"{stem}_mean").mark_line(strokeWidth=2.5)
            layers = [
                seeds.encode(**share, y=y, detail="seed:N", opacity=drawing.opacity(0.35), **tips),
                means.encode(**share, y=y, opacity=drawing.opacity(1)),
            ]
            if column.limit:
                dashed = drawing.view(f"{size}_means", f"{stem}_limit").mark_line(strokeWidth=1.6, strokeDash=[5, 3])
                layers.insert(0, dashed.encode(**share, y=limit, opacity=drawing.opacity(0.9)))
            points = [row for row in printed if row["num_params"] == size and column.name in row]
            if points:
                stem = f"{stem}_printed"
                drawing.add(stem, ({k: v for k, v in row.items() if k != "num_params"} for row in points))
                marks = drawing.view(stem, f"{stem}_points").mark_point(
                    size=60, filled=False, strokeWidth=1.8, shape="diamond"
                )
                layers.append(marks.encode(x=alt.X("epoch:Q"), y=y, stroke=alt.Stroke("shade:N", scale=None)))
            panels.append(panel(layers, (300, 200), parameters(size)))
    if len(series) == 1:
        title = f"{title}: {next(iter(series))}"
    kind = "shared" if any(column.limit for column in columns) else "independent"
    # One grid of all panels: rows of panels would each have their own columns.
    return drawing.finish(panels, title=title, notes=notes, columns=len(of_size), color="shared", y=kind)


def _finite(rows: Iterable[Mapping[str, Any]], columns: Sequence[Column]) -> Iterator[Row]:
    """List the points of a curve in the units of the figure, without values that are not finite."""
    for row in rows:
        numbers = {each.name: float(row[each.name]) for each in columns if row.get(each.name) is not None}
        values = {each.name: short(each.factor * numbers[each.name]) for each in columns if each.name in numbers}
        finite = {name: value for name, value in values.items() if math.isfinite(value)}
        if finite:
            yield {"epoch": short(float(row["epoch"]), digits=6)} | finite


def _means(rows: Sequence[Row], columns: Sequence[Column]) -> list[Row]:
    """Average each series where all its seeds have a value, so that the end of a seed does not shift the mean."""
    means = []
    for name, of_series in by_part(rows, "of").items():
        seeds = {row["seed"] for row in of_series}
        for epoch, here in by_part(of_series, "epoch").items():
            mean: Row = {"of": name, "epoch": epoch}
            for column in columns:
                for field in filter(None, (column.name, column.limit)):
                    values = np.array([row[field] for row in here if field in row])
                    if len(values) == len(seeds):
                        mean[field] = short(np.exp(np.log(values).mean()) if column.limit else values.mean())
            means.append(mean)
    return means
