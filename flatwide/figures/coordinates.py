"""How far training and SAM's perturbation move a network, against its width."""

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from flatwide.figures import axes
from flatwide.figures.style import GREY, colors, finish

# Kind of a quantity -> title of its panel and of its axis.
PANELS = {
    "features": ("Features", "change of each kernel's output"),
    "outputs": ("Outputs of the network", "change"),
    "perturbation": ("Perturbation", "effect on the output of each leaf"),
    "share": ("Share of the perturbation", "share of the squared length, by layer"),
}


def lines_over_widths(rows: Sequence[Mapping[str, Any]]) -> Any:
    """Draw each quantity on logarithmic axes, one panel per kind; flat lines mean the same training at every width.

    Args:
      rows: `kind`, `name`, `multiple` of the base width, `seed`, `value`; only positive, finite values
        are drawn.
    """
    import altair as alt

    kinds = [kind for kind in PANELS if any(row["kind"] == kind for row in rows)]
    tables, panels = {}, []
    for kind in kinds:
        here = [row for row in rows if row["kind"] == kind and 0 < row["value"] < float("inf")]
        names = list(dict.fromkeys(row["name"] for row in here))
        data = alt.NamedData(name=f"coordinates_{kind}")
        tables[data.name] = [
            {"of": name or "outputs", "x": x, "value": statistics.geometric_mean(values)}
            for name in names
            for x in sorted({row["multiple"] for row in here})
            if (values := [row["value"] for row in here if (row["name"], row["multiple"]) == (name, x)])
        ]
        title, axis = PANELS[kind]
        multiples = sorted({row["multiple"] for row in here})
        ticks = alt.Axis(values=multiples, format="~g", grid=False)
        x = alt.X("x:Q", title="width / base width", scale=alt.Scale(type="log", nice=False, padding=12), axis=ticks)
        y = alt.Y(
            "value:Q",
            title=axis,
            scale=alt.Scale(type="log", nice=False, padding=8),
            axis=axes.log_axis(row["value"] for row in here),
        )
        scale = alt.Scale(domain=[name or "outputs" for name in names], range=colors(len(names), ordered=False))
        legend = alt.Legend(orient="bottom", columns=1, title=None) if names != [""] else None
        line = alt.Chart(data).mark_line(point={"size": 40}, strokeWidth=2)
        panels.append(
            line.encode(x=x, y=y, color=alt.Color("of:N", scale=scale, legend=legend)).properties(
                width=300, height=220, title=title
            )
        )
    note = "geometric means over seeds; a flat line means the same training at every width"
    title = alt.Title("Five steps at growing widths", subtitle=[note], subtitleColor=GREY)
    whole = alt.ConcatChart(concat=panels, columns=2)
    return finish(whole, title=title, datasets=tables, shared_or_independent={"color": "independent"})
