"""Write figures and their data to files."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from flatwide.figures import rendering
from flatwide.figures.tables import Table, to_csv
from flatwide.runs.directory import write_atomically

FORMATS = ("svg", "pdf")


def save(chart: Any, path: Path | str, *, data: Table, formats: Sequence[str] = ("svg",)) -> tuple[Path, ...]:
    """Write a chart as SVG or PDF, with its table as CSV.

    The same table gives the same bytes of SVG and CSV, and the same picture as PDF, whose objects come in any order.

    Args:
      chart: an Altair chart, or its Vega-Lite spec as a dict.
      path: without a suffix; `.svg`, `.pdf` and `.csv` are added.
      data: the table that was drawn, in the units of the files (fractions, not percent).
      formats: "svg", "pdf" or both.
    Returns: paths of the images, in the order of `formats`, and of the table.
    Raises: ValueError for an unknown format, before anything is written; RenderingError if the chart cannot be
      rendered; then only the table is written.
    Cost: one process, about 1 s; nothing is downloaded. `save_all` renders many charts in one process.
    """
    return save_all([Picture(chart, path, data)], formats=formats)[0]


class Picture(NamedTuple):
    """Chart, path of its files without a suffix, and table that it shows, as for `save`."""

    chart: Any
    path: Path | str
    data: Table


def save_all(pictures: Sequence[Picture], *, formats: Sequence[str] = ("svg",)) -> list[tuple[Path, ...]]:
    """Write charts as `save` does, all rendered by one process.

    Returns: for each chart the paths that `save` returns.
    Raises: ValueError for an unknown format, before anything is written; RenderingError if the charts cannot be
      rendered; then only the tables are written.
    """
    for name in formats:
        if name not in FORMATS:
            raise ValueError(f"formats={tuple(formats)!r}: {name!r} is not known. Known: {', '.join(FORMATS)}.")
    specs = [chart if isinstance(chart, dict) else chart.to_dict() for chart, _, _ in pictures]
    for picture in pictures:
        write_atomically(Path(f"{picture.path}.csv"), to_csv(picture.data))
    drawn = iter(rendering.render([rendering.Job(name, spec) for spec in specs for name in formats]))
    written = []
    for picture in pictures:
        files = [Path(f"{picture.path}.{name}") for name in formats]
        for file in files:
            write_atomically(file, next(drawn))
        written.append((*files, Path(f"{picture.path}.csv")))
    return written
