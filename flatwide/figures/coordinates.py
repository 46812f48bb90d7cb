"""How far training and SAM's perturbation move a network, against its width."""

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from flatwide.figures import axes
from flatwide.figures.drawing import Drawing, panel
from flatwide.figures.style import colors
from flatwide.figures.tables import by_part

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

    drawing, panels = Drawing("coordinates"), []
    of_kind = by_part((row for row in rows if 0 < row["value"] < float("inf")), "kind")
    for kind in (kind for kind in PANELS if kind in of_kind):
        here, (heading, title) = of_kind[kind], PANELS[kind]
        names = [name or "outputs" for name in by_part(here, "name")]
        drawing.add(
            kind,
            (
                {"of": name or "outputs", "x": x, "value": statistics.geometric_mean(row["value"] for row in same)}
                for name, of_name in by_part(here, "name").items()
                for x, same in sorted(by_part(of_name, "multiple").items())
            ),
        )
        ticks = alt.Axis(values=sorted(by_part(here, "multiple")), format="~g", grid=False)
        x = alt.X("x:Q", title="width / base width", scale=alt.Scale(type="log", nice=False, padding=12), axis=ticks)
        y = alt.Y("value:Q", title=title, **axes.scaled((row["value"] for row in here), log_from=0))
        scale = alt.Scale(domain=names, range=colors(len(names), ordered=False))
        legend = alt.Legend(orient="bottom", columns=1, title=None) if names != ["outputs"] else None
        line = drawing.view(kind, f"{kind}_lines").mark_line(point={"size": 40}, strokeWidth=2)
        line = line.encode(x=x, y=y, color=alt.Color("of:N", scale=scale, legend=legend))
        panels.append(panel([line], (300, 220), heading))
    note = "geometric means over seeds; a flat line means the same training at every width"
    return drawing.finish(panels, title="Five steps at growing widths", notes=[note], color="independent")
