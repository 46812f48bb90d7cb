"""Write a figure, and what it shows."""

import io
from pathlib import Path
from typing import Any

from flatwide import runs
from flatwide.figures.tables import Table, to_csv


def save(chart: Any, path: Path | str, *, data: Table) -> tuple[Path, Path]:
    """Write a chart as SVG and its table as CSV beside it; the same table gives the same bytes.

    Args:
      path: without a suffix: `.svg` and `.csv` are added.
      data: the table that was drawn, in the units of the files (fractions, not percent).
    Returns: the paths of both files.
    Cost: nothing is fetched. The first chart of a process takes about a second, the others a tenth.
    """
    svg, table = Path(f"{path}.svg"), Path(f"{path}.csv")
    image = io.StringIO()
    chart.save(image, format="svg")
    runs.write_atomically(table, to_csv(data))
    runs.write_atomically(svg, image.getvalue())
    return svg, table
