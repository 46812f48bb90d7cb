"""Write a figure, and what it shows."""

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from flatwide import runs
from flatwide.figures.tables import Table, to_csv

FORMATS = ("svg", "pdf")


def save(chart: Any, path: Path | str, *, data: Table, formats: Sequence[str] = ("svg",)) -> tuple[Path, ...]:
    """Write a chart as SVG or PDF and its table as CSV beside it.

    The same table gives the same bytes; of a PDF the same picture, for its objects come in any order.

    Args:
      path: without a suffix: `.svg`, `.pdf` and `.csv` are added.
      data: the table that was drawn, in the units of the files (fractions, not percent).
      formats: "svg", "pdf" or both.
    Returns: the paths of the images, in the order of `formats`, and of the table.
    Raises: ValueError for an unknown format, before anything is written.
    Cost: nothing is fetched. The first chart of a process takes about a second, the others a tenth.
    """
    for name in formats:
        if name not in FORMATS:
            raise ValueError(f"formats={tuple(formats)!r}: {name!r} is not known. Known: {', '.join(FORMATS)}.")
    images = []
    for name in formats:
        image = io.StringIO() if name == "svg" else io.BytesIO()
        chart.save(image, format=name)
        images.append((Path(f"{path}.{name}"), image.getvalue()))
    table = Path(f"{path}.csv")
    runs.write_atomically(table, to_csv(data))
    for file, content in images:
        runs.write_atomically(file, content)
    return (*(file for file, _ in images), table)
