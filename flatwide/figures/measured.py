"""Quantities measured on trained networks: against width, against rho, and against the metric.

Each figure takes a long table with one row per run and quantity: `quantity` (its column), `num_params`, `rho`, `seed`,
`value`, `is_best` (whether rho is the best of the width), and optionally `run`, `part` and `metric`. There is a panel
for each quantity, or for each part if there are several. A quantity whose values are all positive has geometric means
and intervals of the mean logarithm.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from flatwide import catalogue
from flatwide.analysis import measured, widths
from flatwide.analysis.measured import DIFFERENCE, RATIO
from flatwide.catalogue.entries import Quantity
from flatwide.figures import axes, lines
from flatwide.figures.drawing import Drawing, Row, parameters, short
from flatwide.figures.gain import against, value_axis
from flatwide.figures.labels import label, wrapped
from flatwide.figures.style import BASE, DEFAULT, GREY, SAM, Style, colors
from flatwide.figures.tables import Table, by_part, to_rows

MOST_DOTS = 1200  # per figure, so that a page of ten thousand runs opens quickly
_MOST_LINES = 8
_FEW_RHOS = 4  # up to this many rhos have separate lines
_LOG_FROM = 5  # times the smallest value: a larger range has a logarithmic axis


def against_width(
    table: Table,
    *,
    beside: Mapping[str, Sequence[Row]] | None = None,
    paper: "Table | None" = None,
    name: str = "measured_by_width",
    style: Style = DEFAULT,
) -> Any:
    """Draw quantities of the base and of SAM at its best rho against width; up to four rhos also have lines.

    Args:
      table: as above.
      beside: quantity -> rows with `num_params`, `value` and `of`: reference values, such as the learning rate that was
        used.
      paper: rows with `quantity`, `num_params`, `value`, and, if the paper states them, `rho` and `part`.
    """
    panels = []
    for each in _quantities(to_rows(table), paper):
        here = each.rows
        drawn = [each.line(style.base, BASE, [row for row in here if row["rho"] == 0], "num_params")]
        drawn.append(each.line("SAM at its best ρ", SAM, [row for row in here if row["is_best"]], "num_params"))
        rhos = sorted({row["rho"] for row in here if row["rho"] > 0})
        few = rhos if 1 < len(rhos) <= _FEW_RHOS else []
        for rho, color in zip(few, colors(len(few), ordered=True), strict=True):
            means = each.line("", color, [row for row in here if row["rho"] == rho], "num_params").means or ()
            bare = [{"x": row["x"], "mean": row["mean"]} for row in means]
            drawn.append(lines.Line(f"mean at ρ = {rho:g}", color, [], bare))
        sizes = {row["num_params"] for row in here}
        given = [row for row in (beside or {}).get(each.quantity.name, ()) if row["num_params"] in sizes]
        used = lines.intervals(given, "value", x="num_params")
        drawn += [lines.Line(given[0]["of"], GREY, [], used)] if given else []
        # The paper's points are of the base, and of SAM at the best rho of each width or at an unstated rho.
        best = {row["num_params"]: row["rho"] for row in here if row["is_best"]}
        printed = [row for row in each.printed if row["num_params"] in sizes]
        of_base = [row for row in printed if row.get("rho") == 0]
        of_sam = [row for row in printed if row.get("rho", at := best.get(row["num_params"])) == at]
        for rows, color in ((of_base, BASE), (of_sam, SAM)):
            drawn += lines.hollow(rows, "value", color, x="num_params", part=each.part)
        panels.append((each, [line for line in drawn if line.dots or line.means]))
    return _figure(panels, "num_params", f"{style.base} and SAM", name=name, style=style)


def against_rho(
    table: Table,
    *,
    paper: "Table | None" = None,
    most_dots: int = MOST_DOTS,
    name: str = "measured_by_rho",
    style: Style = DEFAULT,
) -> Any:
    """Draw quantities against rho, one line per width, for at most eight widths.

    Args: as for `against_width`, and
      most_dots: limit per figure; with more runs, only the first seeds (at least two) have dots.
    """
    rows = to_rows(table)
    sizes = widths.evenly(sorted({row["num_params"] for row in rows}), _MOST_LINES)
    palette = [SAM] if len(sizes) == 1 else colors(len(sizes), ordered=True)
    seeds = {row["seed"] for row in rows}
    shown = _first_seeds([row for row in rows if row["num_params"] in sizes], most_dots)
    panels = []
    for each in _quantities(rows, paper):
        drawn = []
        for size, color in zip(sizes, palette, strict=True):
            of_size, printed = (
                [row for row in some if row["num_params"] == size] for some in (each.rows, each.printed)
            )
            line = each.line(parameters(size), color, of_size, "rho")
            dots = [dot for dot in line.dots if dot["seed"] in shown]
            drawn += [line._replace(dots=dots)] if dots else []
            drawn += lines.hollow([row for row in printed if "rho" in row], "value", color, x="rho", part=each.part)
        panels.append((each, drawn))
    words = lines.SEEDS
    if len(shown) < len(seeds):
        words = words.format(seeds=f"{len(seeds)} seeds").replace("each seed", f"{len(shown)} of the seeds")
    title = f"From {style.base} (ρ = 0) to large ρ"
    return _figure(panels, "rho", title, subtitle=words, name=name, style=style)


def against_metric(
    table: Table,
    *,
    most_dots: int = MOST_DOTS,
    correlations: Mapping[str, measured.Ends],
    name: str = "metric_by_measured",
    style: Style = DEFAULT,
) -> Any:
    """Draw the metric of every run against quantities, coloured by width.

    Args:
      table: as above, with `metric`. correlations: quantity -> its rank correlation with the metric, for the titles.
      most_dots: as for `against_rho`.
    """
    import altair as alt

    rows = [row for row in to_rows(table) if "metric" in row]
    shown, seeds = _first_seeds(rows, most_dots), {row["seed"] for row in rows}
    sizes = sorted({row["num_params"] for row in rows})
    series = dict(zip(map(parameters, sizes), colors(len(sizes), ordered=True), strict=True))
    drawing = Drawing(name, series=series, interactive=style.interactive, symbolType="circle")
    y, charts = value_axis(style.metric, style), []
    for index, (quantity, every) in enumerate(by_part(rows, "quantity").items()):
        facts = [fact for fact in ("run", "rho", "seed") if fact in every[0]]
        here = [row for row in every if row["seed"] in shown]
        drawing.add(
            f"{index}_seeds",
            (
                {"x": short(row["value"], digits=6), "value": short(style.factor * row["metric"], digits=6)}
                | {"of": parameters(row["num_params"])}
                | {fact: row[fact] for fact in facts}
                for row in here
            ),
        )
        title = catalogue.quantity(quantity).label
        x = alt.X("x:Q", title=title, **_scaled([row["value"] for row in every], grid=False))
        tips = drawing.tips({fact: label(fact) for fact in ("of", *facts)}, x=title, value=y.to_dict()["title"])
        dots = drawing.view(f"{index}_seeds", f"{index}_seeds").mark_circle(size=34)
        dots = dots.encode(x=x, y=y, color=drawing.color, opacity=drawing.opacity(0.6), **tips)
        dots.width, dots.height = 300, 220
        dots.title = alt.Title(measured.correlation_text(correlations[quantity]), fontSize=13, fontWeight="normal")
        charts.append(dots)
    some = f", of {len(shown)} of the seeds" if len(shown) < len(seeds) else ""
    number = f"{len(seeds)} seed{'s' * (len(seeds) > 1)}"
    note = f"each dot is one run{some}; rank correlations are within each width and seed, of {number}"
    title = "Is flatness correlated with the metric?"
    return drawing.finish(charts, title=title, notes=[note], color="shared", x="independent", y="shared")


class _Measured(NamedTuple):
    """What a panel shows of a quantity, and how it is averaged."""

    quantity: Quantity
    part: str
    rows: list[Row]
    printed: list[Row]  # the paper's values
    values: list[float]  # of all parts
    comparison: str

    def panel(self, drawn: list[lines.Line]) -> lines.Panel:
        """Return the panel of some lines; where its title names the quantity, its axis needs only the unit."""
        import altair as alt

        quantity = self.quantity
        title = quantity.unit if quantity.unit and not self.part else wrapped(quantity.label)
        y = alt.Y("value:Q", title=title, **_scaled(self.values))
        return lines.Panel(self.part or quantity.title, drawn, y=y, tip=quantity.label)

    def line(self, name: str, color: str, rows: Sequence[Row], x: str) -> lines.Line:
        """Return a line with a dot per seed and their means."""
        rows = sorted(rows, key=lambda row: (row[x], row["seed"]))
        means = [self._mean(at, [row["value"] for row in here]) for at, here in by_part(rows, x).items()]
        return lines.Line(name, color, lines.dots(rows, "value", x=x), means)

    def _mean(self, x: float, values: Sequence[float]) -> Row:
        """Return a mean with its interval, which can be very long with two seeds and is then cut."""
        estimate = measured.mean(values, comparison=self.comparison)
        least, most = min(self.values), max(self.values)
        row: Row = {"x": x, "mean": estimate.value}
        if math.isfinite(estimate.low):
            reach = max(most - least, 1e-3 * abs(most))
            # A bar that reaches below 0 would leave a logarithmic axis without a scale.
            is_ratio = self.comparison == RATIO or 0 < _LOG_FROM * least < most
            low, high = (least / 3, most * 3) if is_ratio else (least - reach, most + reach)
            row |= {"low": max(estimate.low, low), "high": min(estimate.high, high)}
            row |= {"is_cut": True} if (row["low"], row["high"]) != (estimate.low, estimate.high) else {}
        return row


def _quantities(rows: Sequence[Row], paper: "Table | None") -> Iterator[_Measured]:
    """Group rows by quantity and part."""
    printed = by_part(to_rows(paper), "quantity")
    for name, every in by_part(rows, "quantity").items():
        quantity, values = catalogue.quantity(name), [row["value"] for row in every]
        comparison = RATIO if min(values) > 0 and not quantity.is_signed else DIFFERENCE
        for part, here in by_part(every).items():
            yield _Measured(
                quantity=quantity,
                part=part,
                rows=here,
                printed=printed.get(name, []),
                values=values,
                comparison=comparison,
            )


def _scaled(values: Sequence[float], **options: Any) -> dict[str, Any]:
    """Return scale and ticks for values of a quantity."""
    return axes.scaled((min(values), max(values)), log_from=_LOG_FROM, format=",.4~g", **options)


def _figure(
    panels: Sequence[tuple[_Measured, list[lines.Line]]],
    across: str,
    title: str,
    *,
    subtitle: str = lines.SEEDS,
    name: str,
    style: Style,
) -> Any:
    """Draw panels side by side, each with its own axis."""
    if len(panels) == 1:
        title = f"{title}: {panels[0][0].quantity.title}"
    means = [row for _, drawn in panels for line in drawn for row in line.means or ()]
    ratios = [each.comparison == RATIO for each, _ in panels]
    notes = []
    if any(ratios) and any("low" in row for row in means):
        scope = "" if all(ratios) else " of positive quantities"
        notes.append(f"means{scope} are geometric, with intervals of the mean logarithm")
    if any("is_cut" in row for row in means):
        notes.append("bars that extend far beyond the dots are cut off")
    shown, note = [each.panel(drawn) for each, drawn in panels], "\n".join(notes)
    return against(shown, across, "value", title=title, subtitle=subtitle, note=note, name=name, style=style)


def _first_seeds(rows: Sequence[Row], most_dots: int) -> set[int]:
    """Return as many seeds as the limit on dots allows, at least two."""
    seeds = sorted({row["seed"] for row in rows})
    return set(seeds[: max(2, int(len(seeds) * most_dots / max(len(rows), 1)))])
