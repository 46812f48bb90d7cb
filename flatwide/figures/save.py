"""Write a figure, and what it shows."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from flatwide.figures.tables import Table, to_csv
from flatwide.runs.directory import write_atomically

FORMATS = ("svg", "pdf")


def save(chart: Any, path: Path | str, *, data: Table, formats: Sequence[str] = ("svg",)) -> tuple[Path, ...]:
    """Write a chart as SVG or PDF and its table as CSV beside it.

    The same table gives the same bytes; of a PDF the same picture, for its objects come in any order.

    Args:
      chart: of Altair, or its Vega-Lite spec as a dict.
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
    spec = chart if isinstance(chart, dict) else chart.to_dict()
    for name in formats:
        images.append((Path(f"{path}.{name}"), _image(spec, name)))
    table = Path(f"{path}.csv")
    write_atomically(table, to_csv(data))
    for file, content in images:
        write_atomically(file, content)
    return (*(file for file, _ in images), table)


def _image(spec: dict[str, Any], name: str) -> str | bytes:
    """Draw a spec without a browser, by the version of Vega-Lite that Altair writes for."""
    import altair
    import vl_convert

    version = ".".join(altair.SCHEMA_VERSION.removeprefix("v").split(".")[:2])
    convert = {"svg": vl_convert.vegalite_to_svg, "pdf": vl_convert.vegalite_to_pdf}[name]
    return convert(spec, vl_version=version)
