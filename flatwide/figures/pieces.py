"""What the figures of a gallery share: one figure, the runs of a part, and how they are compared."""

import re
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from flatwide.analysis import fields, paper, table, widths
from flatwide.figures.tables import Table

if TYPE_CHECKING:
    import pandas as pd

DOMAINS = "Every domain"
GAIN, RHO, TRAINING = "What SAM buys", "Which ρ", "Training"

MOST_PARTS = 6  # in one figure
MOST_PIECES = 24  # more have no figures of their own: nobody would look through them
INTERVAL = "Bars are 95 % t intervals of the mean over seeds."


class Figure(NamedTuple):
    """A chart, and what a page or a folder needs to show it."""

    name: str  # stem of its files, and the beginning of all names inside the chart
    title: str
    caption: str
    chart: Any
    data: Table  # what it shows, in the units of the files
    section: str  # heading that it belongs under
    domain: str = ""  # that it is about, where there are several


class Piece(NamedTuple):
    """The runs of a part, and their widths as arrays."""

    name: str
    values: dict[str, Any]
    runs: "pd.DataFrame"
    cells: list[widths.Width]
    names: dict[tuple[Any, float, int], Any]  # width, rho, seed -> run
    sparsity: dict[Any, float]  # width -> sparsity


class Look(NamedTuple):
    """What the figures of a gallery share."""

    metric: str
    metric_name: str
    base: str
    chosen_by: str
    axes: list[str]  # columns that tell parts apart
    is_ordered: bool
    interactive: bool = False
    are_ours: bool = True  # whether flatwide trained the runs, so that it is known what the two of a seed share
    ending: str = ""  # of the figures' names, so that those of several domains can share a page

    @property
    def dots(self) -> str:
        """Say what a small dot of a gain is."""
        return dots(are_ours=self.are_ours)

    @property
    def of_metric(self) -> dict[str, Any]:
        """Give what the figures of the metric take."""
        return {"metric_name": self.metric_name, "base": self.base, "interactive": self.interactive}


def dots(*, are_ours: bool) -> str:
    """Say what a small dot of a gain is."""
    shared = "both runs of which start from the same weights" if are_ours else "its SAM run against its base run"
    return f"Each small dot is one seed{',' if are_ours else ':'} {shared}."


def arrange(part: table.Part, metric: str, choose_by: str | None) -> Piece | None:
    """Arrange a part; None where no run has the metric."""
    if all(row[metric] is None for row in fields.done(part.runs, [metric])):
        return None
    cells = widths.by_width(part.runs, metric=metric, choose_by=choose_by, base_needed=False)
    rows = fields.done(part.runs, ["num_params", "seed", "run"])
    names = {(row["num_params"], fields.effective_rho(row), int(row["seed"])): row.get("run") for row in rows}
    sparsity = {row["num_params"]: row["sparsity"] for row in rows if row.get("sparsity") is not None}
    return Piece(name=part.name, values=part.values, runs=part.runs, cells=cells, names=names, sparsity=sparsity)


def printed(group: Sequence[Piece], look: Look) -> list[dict[str, Any]]:
    """List the paper's values for the parts of a figure, at the sizes that the study has."""
    columns = ["num_params", "base", "sam", "gain", "base_band", "sam_band", "gain_band", "best_rho"]
    rows = []
    for piece in group:
        found = paper.beside(piece.runs, metric=look.metric, axes=look.axes)
        if look.metric_name in set(found["metric"]):
            rows += [{"part": piece.name} | row for row in fields.records(found, columns)]
    return rows


def capital(text: str) -> str:
    """Begin a text with a capital letter."""
    return text[:1].upper() + text[1:]


def slug(text: str) -> str:
    """Make a name that may stand in a file's name and in a chart."""
    return re.sub(r"[^a-z0-9]+", "_", text.lower()).strip("_")


def seeds_of(piece: Piece) -> Iterator[dict[str, Any]]:
    """List each seed of each width, with its base run, its run at the best rho and the gain, as far as it has them."""
    for cell in piece.cells:
        best, best_rho = cell.best, cell.best_rho
        for place, seed in enumerate(cell.seeds):
            row: dict[str, Any] = {"part": piece.name} if piece.name else {}
            row |= {"num_params": cell.num_params, "seed": seed}
            base = float(cell.values[place, 0])
            if np.isfinite(base):
                row |= {"base": base, "base_run": piece.names.get((cell.value, 0.0, seed))}
            sam = float("nan") if best is None else float(cell.values[place, 1 + best])
            if np.isfinite(sam):
                row |= {
                    "best_rho": best_rho,
                    "sam": sam,
                    "sam_run": piece.names.get((cell.value, best_rho, seed)),
                }
            if np.isfinite(base) and np.isfinite(sam):
                row["gain"] = float(cell.sign * (sam - base))
            if np.isfinite(base) or np.isfinite(sam):
                yield row


def short(value: float, *, digits: int = 5) -> float:
    """Round to a few significant digits, more than a screen shows."""
    return float(f"{value:.{digits}g}")
