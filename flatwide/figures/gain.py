"""Gain of SAM, and metric of both optimizers, against network size or another axis.

Both figures take the table of `analysis.gain.pair_seeds`, with a column `part` if there are several parts, and draw
every seed. Tooltips show its other columns: `rho`, `base_run` and `sam_run`.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

from flatwide.figures import axes, lines
from flatwide.figures.labels import factor, label, wrapped
from flatwide.figures.style import BASE, GREEN, SAM, colors
from flatwide.figures.tables import Table, by_part, to_rows

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
    domain = Domain(title="", pairs=pairs, metric_name=metric_name, corrected=corrected, is_ordered=is_ordered)
    return lines.figure(
        [lines.Panel("", _gain_lines(domain, "SAM", across, paper))],
        name=name,
        title=f"Gain of SAM over {base}",
        across=lines.Across(across),
        y=value_axis("gain", metric_name),
        note="" if corrected is None else _CORRECTED,
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
    across = lines.Across("num_params")
    return lines.figure(
        # All domains share one legend, so a line is named by what it shows and not by its domain.
        [
            lines.Panel(each.title, _gain_lines(each, "at the best ρ"), across, value_axis("gain", each.metric_name))
            for each in panels
        ],
        name=name,
        title="Gain of SAM over its base optimizer",
        across=across,
        y=value_axis("gain", ""),
        note=_CORRECTED if any(panel.corrected is not None for panel in panels) else "",
        has_zero=True,
        interactive=interactive,
    )


def _gain_lines(
    domain: Domain, plain: str, across: str = "num_params", paper: "Table | None" = None
) -> list[lines.Line]:
    """Return the lines of the gain: one per part or a `plain` one, the corrected one, and the paper's hollow points."""
    share: dict[str, Any] = {"x": across, "factor": factor(domain.metric_name)}
    facts: dict[str, Any] = {"run": "sam_run", "rho": "best_rho"}
    parts = by_part(to_rows(domain.pairs))
    palette = [SAM] if len(parts) == 1 else colors(len(parts), ordered=domain.is_ordered)
    drawn = []
    for (part, rows), color in zip(parts.items(), palette, strict=True):
        drawn.append(lines.Line(part or plain, color, lines.dots(rows, "gain", **share, **facts)))
        drawn += lines.hollow(to_rows(paper), "gain", color, part=part, **share)
    if domain.corrected is not None:
        seeds, means = ([row for row in to_rows(domain.corrected) if ("seed" in row) == has] for has in (True, False))
        dots = lines.dots(seeds, "gain", **share, **facts)
        drawn.append(lines.Line("corrected for the choice of ρ", GREEN, dots, lines.intervals(means, "gain", **share)))
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
    share: dict[str, Any] = {"x": across, "factor": factor(metric_name)}
    rows = [{"base_rho": 0.0} | row for row in to_rows(pairs)]
    arms = {"base": (base, BASE, "base_rho"), "sam": ("SAM", SAM, "best_rho")}
    arms = {arm: shown for arm, shown in arms.items() if any(arm in row for row in rows)}
    panels = []
    for part, here in by_part(rows).items():
        drawn = [
            lines.Line(title, color, lines.dots(here, arm, **share, run=f"{arm}_run", rho=rho))
            for arm, (title, color, rho) in arms.items()
        ]
        for arm, (_, color, _) in arms.items():
            drawn += lines.hollow(to_rows(paper), arm, color, part=part, **share)
        panels.append(lines.Panel(part, drawn))
    return lines.figure(
        panels,
        name=name,
        title=" and ".join(title for title, _, _ in arms.values()),
        across=lines.Across(across),
        y=value_axis(metric, metric_name),
        interactive=interactive,
    )


def value_axis(column: str, metric_name: str) -> Any:
    """Return the vertical axis of a metric or of its gain."""
    import altair as alt

    return alt.Y("value:Q", title=wrapped(label(column, metric_name=metric_name)), **axes.scaled())
