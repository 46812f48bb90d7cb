"""A report and the files beside it: the page, the summary, figures and tables in the formats of papers."""

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flatwide import registry
from flatwide import runs as files
from flatwide.figures import save
from flatwide.figures.gallery import Figure, gallery
from flatwide.figures.tables import to_csv
from flatwide.report import latex, output, page
from flatwide.report.content import Source, content

if TYPE_CHECKING:
    import pandas as pd

FORMATS = ("svg", "pdf", "latex")


def export(
    runs: "pd.DataFrame",
    source: Source,
    *,
    page_path: Path,
    summary_path: Path | None,
    folder: Path,
    metric: str,
    choose_by: str | None,
    curves: Mapping[str, list[dict[str, Any]]] | None,
    formats: Sequence[str],
) -> Path:
    """Write the page, the summary, and where there are formats figures and tables in `folder`.

    Raises: ValueError if a format is not known, a column is missing, or another's file is in the way.
    """
    from flatwide.analysis.summary import summary

    if strangers := [name for name in formats if name not in FORMATS]:
        raise ValueError(registry.unknown("format", strangers[0], FORMATS))
    options: dict[str, Any] = {"metric": metric, "choose_by": choose_by}
    summed = summary(runs, **options)
    figures = gallery(runs, **options, curves=curves, interactive=True)
    found = content(runs, summed, figures, source, **options)
    output.write_page(page_path, page.render(found))
    if summary_path:
        files.write_atomically(summary_path, to_csv(summed))
    if formats:
        for figure in gallery(runs, **options, curves=curves):
            _write_figure(figure, folder / figure.name, formats)
        if "latex" in formats:
            for table in found.tables:
                files.write_atomically(folder / f"{table.name}.tex", latex.table(table))
    return page_path


def _write_figure(figure: Figure, path: Path, formats: Sequence[str]) -> None:
    if "svg" in formats:
        save.save(figure.chart, path, data=figure.data)
    if "pdf" in formats:
        image = io.BytesIO()
        figure.chart.save(image, format="pdf")
        files.write_atomically(path.with_name(f"{path.name}.csv"), to_csv(figure.data))
        path.with_name(f"{path.name}.pdf").write_bytes(image.getvalue())
