"""Types and functions that the figures of a gallery share."""

import math
import re
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from flatwide import paper
from flatwide.analysis import fields, table
from flatwide.figures import rendering
from flatwide.figures.labels import setting
from flatwide.figures.style import Style
from flatwide.figures.tables import Table

if TYPE_CHECKING:
    pass

DOMAINS = "Every domain"
GAIN, RHO, TRAINING = "Gain of SAM", "Choice of ρ", "Training"

MOST_PARTS = 6  # in one figure
MOST_PIECES = 24  # with more, there are no separate figures: nobody would look through them
_INTERVAL = "Bars are 95 % t intervals of the mean over seeds."


class Figure(NamedTuple):
    """Chart with the texts and the data that a page or a folder shows with it."""

    name: str  # stem of its files, and prefix of all names inside the chart
    title: str
    caption: str
    chart: Any
    data: Table  # rows that it shows, in the units of the files
    section: str  # heading under which it appears
    domain: str = ""  # its domain, if there are several

    def __repr__(self) -> str:
        """Return its name, title and caption; the data would fill the screen."""
        return f"Figure({self.name}: {self.title}. {self.caption})"

    def _repr_svg_(self) -> str:
        """Return the picture that a notebook shows; altair's own would fetch its JavaScript from another host."""
        return rendering.render([rendering.Job(kind="svg", spec=self.chart.to_dict())])[0].decode()


class Piece(NamedTuple):
    """A part of a table as the figures of its domain show it."""

    name: str
    part: table.Part
    names: dict[tuple[Any, float, int], Any]  # width, rho, seed -> run
    sparsity: dict[Any, float]  # width -> sparsity

    @property
    def front(self) -> dict[str, str]:
        """Column of its rows that says which part they belong to."""
        return {"part": self.name} if self.name else {}

    @property
    def ending(self) -> str:
        """Suffix of the names of its own figures."""
        return f"_{slug(self.name)}" if self.name else ""

    def titled(self, title: str) -> str:
        """Return the title of a figure of this part."""
        return ", ".join(filter(None, [title, self.name]))

    def has_number(self, axis: str) -> bool:
        """Whether one of its settings is a number."""
        return isinstance(self.part.settings.get(axis), (int, float))

    def without(self, axis: str) -> str:
        """Return its name without one of its settings."""
        return setting(", ".join(f"{name}={value}" for name, value in self.part.settings.items() if name != axis))


def interval(rows: Iterable[Mapping[str, Any]], *columns: str) -> str:
    """Return the sentence that explains the bars of a figure, or that one seed has no interval.

    Args:
      rows: the dots of the figure, one per seed.
      columns: columns that together determine the position and series of a dot.
    """
    counts = Counter(tuple(row.get(column) for column in columns) for row in rows)
    return _INTERVAL if max(counts.values(), default=0) > 1 else "One seed: no interval."


def arrange(part: table.Part) -> Piece | None:
    """Name the runs of a part; None if no run has the metric."""
    metric = part.question.metric
    if all(row[metric] is None for row in fields.done(part.runs, [metric])):
        return None
    rows = fields.done(part.runs, ["num_params", "seed", "run"])
    names = {(row["num_params"], fields.effective_rho(row), int(row["seed"])): row.get("run") for row in rows}
    sparsity = {row["num_params"]: row["sparsity"] for row in rows if row.get("sparsity") is not None}
    return Piece(name=setting(part.name_in_domain), part=part, names=names, sparsity=sparsity)


def styled(runs: table.Part | table.Domain, style: Style) -> Style:
    """Return a style with the metric and the base of some runs."""
    metric = runs.question.metric
    names = fields.metric_name(runs.runs, metric), fields.base_name(runs.runs, unknown="base")
    return style._replace(metric=metric, metric_name=names[0], base=names[1])


def printed(group: Sequence[Piece], style: Style) -> list[dict[str, Any]]:
    """List the paper's values for the parts of a figure, at the sizes of the study."""
    columns = ["num_params", "base", "sam", "gain", "base_band", "sam_band", "gain_band", "best_rho"]
    rows = []
    for piece in group:
        paper_table = paper.beside(piece.part.runs, metric=style.metric, axes=style.axes)
        if style.metric_name in set(paper_table["metric"]):
            rows += [{"part": piece.name} | row for row in fields.records(paper_table, columns)]
    return rows


def pages(items: Sequence[Any], most: int) -> Iterator[tuple[str, Sequence[Any]]]:
    """Cut a list into those of several figures, each with the suffix of the figure's name; a single one has none."""
    for start in range(0, len(items), most):
        yield f"_{start // most + 1}" if len(items) > most else "", items[start : start + most]


def slug(text: str) -> str:
    """Convert a text to a name for files and charts."""
    return re.sub(r"[^a-z0-9]+", "_", text.lower()).strip("_")


def seeds_of(piece: Piece) -> Iterator[dict[str, Any]]:
    """List each seed of each width, with its base run, its run at the best rho and the gain, if present."""
    for width in piece.part.widths:
        best, best_rho = width.best, width.best_rho
        for index, seed in enumerate(width.seeds):
            row: dict[str, Any] = piece.front | {"num_params": width.num_params, "seed": seed}
            base = float(width.values[index, 0])
            if np.isfinite(base):
                row |= {"base": base, "base_run": piece.names.get((width.value, 0.0, seed))}
            sam = float("nan") if best is None else float(width.values[index, 1 + best])
            if np.isfinite(sam):
                row |= {"best_rho": best_rho, "sam": sam}
                row |= {"sam_run": piece.names.get((width.value, best_rho, seed))}
            if np.isfinite(base) and np.isfinite(sam):
                row["gain"] = float(width.sign * (sam - base))
            if np.isfinite(base) or np.isfinite(sam):
                yield row


def ends(piece: Piece, also: Iterable[int] = ()) -> Iterator[dict[str, Any]]:
    """List the runs of the base and of SAM at its best rho, at both end widths and at other given sizes."""
    return compared(piece, {piece.part.widths[0].num_params, piece.part.widths[-1].num_params, *also})


def compared(piece: Piece, sizes: Collection[int]) -> Iterator[dict[str, Any]]:
    """List the runs of the base and of SAM at its best rho, at some sizes."""
    for width in (width for width in piece.part.widths if width.num_params in sizes):
        best_rho = width.best_rho
        for seed in width.seeds:
            for arm, rho in (("base", 0.0), ("sam", best_rho)):
                run = piece.names.get((width.value, rho, seed))
                if run is not None:
                    yield {"run": run, "arm": arm, "num_params": width.num_params, "rho": rho, "seed": seed}


def by_epoch(series: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """List the finite values measured on a run at each epoch, in columns named as those of a table."""
    epochs: dict[float, dict[str, Any]] = {}
    for row in series:
        if row["value"] is not None and math.isfinite(row["value"]):
            here = epochs.setdefault(row["epoch"], {"epoch": row["epoch"]})
            here[f"{row['measurement']}.{row['quantity']}"] = row["value"]
    return [epochs[epoch] for epoch in sorted(epochs)]
