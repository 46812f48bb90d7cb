"""Gain of SAM, and metric of both optimizers, against network size or another axis.

Both figures take the table of `analysis.gain.pair_seeds`, with a column `part` if there are several parts, and draw
every seed. Tooltips show its other columns: `rho`, `base_run` and `sam_run`.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from flatwide.figures import axes, lines
from flatwide.figures.labels import is_percent, label, wrapped
from flatwide.figures.style import BASE, GREEN, SAM, colors
from flatwide.figures.tables import Table, to_rows

_BEST = "at the best ρ"
_CORRECTED = (
    "corrected: each seed at the ρ chosen on the other seeds, with a 95 % interval that accounts for the choice"
)


def gain_against_width(
    pairs: Table,
    *,
    metric_name: str = "accuracy",
    base: str = "SGD",
    across: str = "num_params",
    corrected: "Table | None" = None,
    paper: "Table | None" = None,
    is_ordered: bool = False,
    name: str = "gain_by_width",
    interactive: bool = False,
) -> Any:
    """Draw the gain of SAM over its base optimizer against the number of parameters, one line per part.

    Args:
      pairs: one row per position and seed, with the column of `across`, `seed` and `gain`.
      metric_name: what the metric is; "loss" for a loss.
      base: name of the base optimizer.
      across: column of the horizontal axis.
      corrected: the gain corrected for the choice of rho: one row per position and seed, as in `pairs`, and one per
        position with `gain`, `low` and `high` and without a seed.
      paper: rows with the column of `across` and `gain`, and `part` if there are several.
      is_ordered: whether the parts have an order, which their colours then follow.
      name, interactive: as for `lines.figure`.
    """
    import altair as alt

    rows = to_rows(pairs)
    drawn = _gain_lines(
        rows, metric_name=metric_name, across=across, corrected=corrected, paper=paper, is_ordered=is_ordered
    )
    note = _CORRECTED if corrected is not None else ""
    y = alt.Y("value:Q", title=label("gain", metric_name=metric_name), scale=axes.padded_scale(), axis=_ticks())
    return lines.figure(
        [lines.Panel("", drawn)],
        name=name,
        title=f"Gain of SAM over {base}",
        across=_across(rows, across),
        y=y,
        note=note,
        has_zero=True,
        interactive=interactive,
    )


class Domain(NamedTuple):
    """Panel of `gain_of_domains`; the fields are arguments of `gain_against_width`."""

    title: str
    pairs: Table
    metric_name: str
    corrected: "Table | None" = None
    is_ordered: bool = False


def gain_of_domains(panels: Sequence[Domain], *, name: str = "gain_of_domains", interactive: bool = False) -> Any:
    """Draw the gain of SAM against the number of parameters, with one panel and separate axes per domain.

    Args:
      name, interactive: as for `lines.figure`.
    """
    import altair as alt

    drawn = []
    for panel in panels:
        rows = to_rows(panel.pairs)
        panel_lines = _gain_lines(
            rows,
            metric_name=panel.metric_name,
            across="num_params",
            corrected=panel.corrected,
            paper=None,
            is_ordered=panel.is_ordered,
        )
        # All domains share one legend, so a line is named by what it shows and not by its domain.
        panel_lines = [line._replace(name=_BEST if line.name == "SAM" else line.name) for line in panel_lines]
        title = wrapped(label("gain", metric_name=panel.metric_name))
        y = alt.Y("value:Q", title=title, scale=axes.padded_scale(), axis=_ticks())
        drawn.append(lines.Panel(panel.title, panel_lines, _across(rows, "num_params"), y))
    return lines.figure(
        drawn,
        name=name,
        title="Gain of SAM over its base optimizer",
        across=_across([], "num_params"),
        y=alt.Y("value:Q"),
        note=_CORRECTED if any(panel.corrected is not None for panel in panels) else "",
        has_zero=True,
        interactive=interactive,
    )


def _gain_lines(
    rows: Sequence[Mapping[str, Any]],
    *,
    metric_name: str,
    across: str,
    corrected: "Table | None",
    paper: "Table | None",
    is_ordered: bool,
) -> list[lines.Line]:
    """Return the lines of the gain: one per part, the corrected one, and the paper's hollow points."""
    factor = _factor(metric_name)
    parts = list(dict.fromkeys(row.get("part", "") for row in rows))
    palette = [SAM] if len(parts) == 1 else colors(len(parts), ordered=is_ordered)
    drawn = []
    for part, color in zip(parts, palette, strict=True):
        here = [row for row in rows if row.get("part", "") == part]
        drawn.append(lines.Line(part or "SAM", color, _dots(here, "gain", "sam_run", across, factor)))
        printed = [row for row in to_rows([] if paper is None else paper) if row.get("part", "") in (part, "")]
        drawn += _printed(printed, {"gain": color}, across, factor)
    if corrected is not None:
        corrected_rows = to_rows(corrected)
        dots = _dots([row for row in corrected_rows if "seed" in row], "gain", "sam_run", across, factor)
        means = [
            {"x": row[across], "mean": factor * row["gain"]} | {k: factor * row[k] for k in ("low", "high") if k in row}
            for row in corrected_rows
            if "seed" not in row
        ]
        drawn.append(lines.Line("corrected for the choice of ρ", GREEN, dots, means))
    return drawn


def metric_against_width(
    pairs: Table,
    *,
    metric: str = "test_metric",
    metric_name: str = "accuracy",
    base: str = "SGD",
    across: str = "num_params",
    paper: "Table | None" = None,
    name: str = "metric_by_width",
    interactive: bool = False,
) -> Any:
    """Draw the metric of SAM and of its base optimizer against the number of parameters, one panel per part.

    Args: as for `gain_against_width`; the rows of `pairs` and of `paper` have `base` or `sam` or both.
      metric: column that the values come from, for the axis title.
    """
    import altair as alt

    rows, factor = to_rows(pairs), _factor(metric_name)
    arms = [arm for arm in (("base", base, BASE), ("sam", "SAM", SAM)) if any(arm[0] in row for row in rows)]
    panels = []
    for part in dict.fromkeys(row.get("part", "") for row in rows):
        here = [row for row in rows if row.get("part", "") == part]
        drawn = [lines.Line(title, color, _dots(here, arm, f"{arm}_run", across, factor)) for arm, title, color in arms]
        printed = [row for row in to_rows([] if paper is None else paper) if row.get("part", "") in (part, "")]
        drawn += _printed(printed, {arm: color for arm, _, color in arms}, across, factor)
        panels.append(lines.Panel(part, drawn))
    y = alt.Y("value:Q", title=label(metric, metric_name=metric_name), scale=axes.padded_scale(), axis=_ticks())
    return lines.figure(
        panels,
        name=name,
        title=" and ".join(title for _, title, _ in arms),
        across=_across(rows, across),
        y=y,
        interactive=interactive,
    )


def _factor(metric_name: str) -> int:
    return 100 if is_percent(metric_name) else 1


def _ticks() -> Any:
    import altair as alt

    return alt.Axis(tickCount=6)


def _across(rows: Sequence[Mapping[str, Any]], column: str) -> lines.Across:
    return lines.Across(column, sorted({row[column] for row in rows}))


def _dots(rows: Sequence[Mapping[str, Any]], column: str, run: str, across: str, factor: int) -> list[dict[str, Any]]:
    """List the dots of a line, with the values of their tooltips."""
    dots = []
    for row in rows:
        if column in row:
            facts = {
                "run": row.get(run),
                "rho": 0.0 if column == "base" else row.get("best_rho"),
                "seed": row.get("seed"),
            }
            facts = {name: value for name, value in facts.items() if value is not None}
            dots.append({"x": row[across], "value": factor * row[column]} | facts)
    return dots


def _band(row: Mapping[str, Any], column: str, factor: int) -> dict[str, float]:
    """Return the ends of the band that the paper gives around a value, if any."""
    band = row.get(f"{column}_band")
    return {} if band is None else {"low": factor * (row[column] - band), "high": factor * (row[column] + band)}


def _printed(
    rows: Sequence[Mapping[str, Any]], columns: Mapping[str, str], across: str, factor: int
) -> list[lines.Line]:
    """Return the paper's hollow points, in the colours of the lines they belong to."""
    paper_lines = []
    for column, color in columns.items():
        rows_with_value = [row for row in rows if row.get(column) is not None]
        means = [
            {"x": row[across], "mean": factor * row[column]} | _band(row, column, factor) for row in rows_with_value
        ]
        if means:
            paper_lines.append(lines.Line(lines.PAPER, color, [], means, is_hollow=True))
    return paper_lines
