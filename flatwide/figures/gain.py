"""Gain of SAM, and metric of both optimizers, against network size or another axis.

Both figures take the table of `analysis.gain.pair_seeds`, with a column `part` if there are several parts, and draw
every seed. Tooltips show its other columns: `rho`, `base_run` and `sam_run`.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

from flatwide.figures import axes, lines
from flatwide.figures.labels import label, wrapped
from flatwide.figures.style import BASE, DEFAULT, GREEN, SAM, Style, colors
from flatwide.figures.tables import Table, by_part, to_rows

_CORRECTED = (
    "corrected: each seed at the ρ chosen on the other seeds, with a 95 % interval that accounts for the choice"
)


class Domain(NamedTuple):
    """Panel of the gain: the runs of a domain; the fields are arguments of `gain_against_width`."""

    title: str
    pairs: Table
    style: Style
    corrected: "Table | None" = None


def gain_against_width(
    pairs: Table,
    *,
    across: str = "num_params",
    corrected: "Table | None" = None,
    paper: "Table | None" = None,
    name: str = "gain_by_width",
    style: Style = DEFAULT,
) -> Any:
    """Draw the gain of SAM over its base optimizer against the number of parameters, one line per part.

    Args:
      pairs: one row per position and seed, with the column of `across`, `seed` and `gain`.
      across: column of the horizontal axis.
      corrected: the gain corrected for the choice of rho: one row per position and seed, as in `pairs`, and one per
        position with `gain`, `low` and `high` and without a seed.
      paper: rows with the column of `across` and `gain`, and `part` if there are several.
    """
    domain, title = Domain("", pairs, style, corrected), f"Gain of SAM over {style.base}"
    return gain_of_domains([domain], title=title, plain="SAM", across=across, paper=paper, name=name)


def gain_of_domains(
    domains: Sequence[Domain],
    *,
    title: str = "Gain of SAM over its base optimizer",
    plain: str = "at the best ρ",
    across: str = "num_params",
    paper: "Table | None" = None,
    name: str = "gain_of_domains",
) -> Any:
    """Draw the gain of SAM against the number of parameters, with one panel and separate axes per domain.

    Args: as for `gain_against_width`, and
      plain: name of a line without a part. All domains share one legend, so it says what the line shows.
    """
    panels = [
        lines.Panel(
            each.title, _gain_lines(each, plain, across, paper), lines.Across(across), value_axis("gain", each.style)
        )
        for each in domains
    ]
    note = _CORRECTED if any(each.corrected is not None for each in domains) else ""
    return against(panels, across, "gain", title=title, note=note, name=name, style=domains[0].style)


def _gain_lines(domain: Domain, plain: str, across: str, paper: "Table | None") -> list[lines.Line]:
    """Return the lines of the gain: one per part or a `plain` one, the corrected one, and the paper's hollow points."""
    share: dict[str, Any] = {"x": across, "factor": domain.style.factor}
    facts: dict[str, Any] = {"run": "sam_run", "rho": "best_rho"}
    parts = by_part(to_rows(domain.pairs))
    palette = [SAM] if len(parts) == 1 else colors(len(parts), ordered=domain.style.is_ordered)
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
    across: str = "num_params",
    paper: "Table | None" = None,
    name: str = "metric_by_width",
    style: Style = DEFAULT,
) -> Any:
    """Draw the metric of SAM and of its base optimizer against the number of parameters, one panel per part.

    Args: as for `gain_against_width`; the rows of `pairs` and of `paper` have `base` or `sam` or both.
    """
    share: dict[str, Any] = {"x": across, "factor": style.factor}
    rows = [{"base_rho": 0.0} | row for row in to_rows(pairs)]
    arms = {"base": (style.base, BASE, "base_rho"), "sam": ("SAM", SAM, "best_rho")}
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
    title = " and ".join(title for title, _, _ in arms.values())
    return against(panels, across, style.metric, title=title, name=name, style=style)


def against(
    panels: Sequence[lines.Panel], across: str, column: str, *, title: str, name: str, style: Style, **texts: str
) -> Any:
    """Draw the metric or its gain, which has a line at zero, against a column.

    Args:
      across, column: those of the horizontal and of the vertical axis. texts: `subtitle` and `note` of `lines.figure`.
    """
    return lines.figure(
        panels,
        name=name,
        title=title,
        across=lines.Across(across),
        y=value_axis(column, style),
        has_zero=column == "gain",
        interactive=style.interactive,
        **texts,
    )


def value_axis(column: str, style: Style) -> Any:
    """Return the vertical axis of a metric or of its gain."""
    import altair as alt

    return alt.Y("value:Q", title=wrapped(label(column, metric_name=style.metric_name)), **axes.scaled())
