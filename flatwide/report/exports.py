"""Output files of a report: the page, the summary, and figures and tables in formats for papers."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flatwide import registry
from flatwide.analysis import answer, fields, headline
from flatwide.figures import rendering, save
from flatwide.figures.collection import every_figure
from flatwide.figures.tables import to_csv
from flatwide.report import charts, latex, output, page
from flatwide.report.content import Source, content
from flatwide.runs.directory import write_atomically, write_json

if TYPE_CHECKING:
    import pandas as pd

FORMATS = (*save.FORMATS, "latex", "json")


def _library() -> tuple[str, str]:
    """Return the JavaScript that draws the charts of a page, and a description of the problem if there is none."""
    try:
        return rendering.library(), ""
    except rendering.RenderingError as error:
        return "", f"{error} Until then this page has their numbers."


def export(
    runs: "pd.DataFrame",
    source: Source,
    *,
    page_path: Path,
    summary_path: Path | None,
    folder: Path,
    metric: str,
    choose_by: str | None,
    tune: Sequence[str] = (),
    curves: Mapping[str, list[dict[str, Any]]] | None,
    series: Mapping[str, list[dict[str, Any]]] | None = None,
    arrays: Mapping[tuple[str, str], Mapping[str, Any]] | None = None,
    formats: Sequence[str],
    tell: Callable[[str], None] = lambda text: None,
) -> Path:
    """Write the page, the summary, and figures and tables in the given formats in `folder`.

    Args:
      tune: fields that base and SAM each choose for themselves.
      metric, choose_by, curves, series, arrays: as for `figures.gallery.gallery`.
      tell: called with the headlines and their table, as text for a terminal, after all files are written.
    Raises: ValueError for an unknown format, a missing column, or a file in the way that flatwide did not write.
    """
    from flatwide.analysis.summary import summary

    if unknown_formats := [name for name in formats if name not in FORMATS]:
        raise ValueError(registry.unknown("format", unknown_formats[0], FORMATS))
    runs = fields.with_collapsed(runs)
    options: dict[str, Any] = {"metric": metric, "choose_by": choose_by}
    summed = summary(runs, **options, tune=tune)
    sources: dict[str, Any] = {"curves": curves, "series": series, "arrays": arrays, "are_ours": source.are_ours}
    drawn = every_figure(runs, **options, tune=tune, interactive=True, **sources)
    figures = [(figure, charts.spec_of(figure)) for figure in drawn]
    library, problem = _library() if figures else ("", "")
    source = source._replace(notes=(*source.notes, *([problem] if problem else ())))
    page_content = content(runs, summed, figures, source, **options, tune=tune)
    output.write_page(page_path, page.render(page_content, library=library))
    if summary_path:
        write_atomically(summary_path, to_csv(summed))
    images = [name for name in formats if name in save.FORMATS]
    pictures = [
        save.Picture(charts.still(spec), folder / figure.name, figure.data) for figure, spec in figures if images
    ]
    save.save_all(pictures, formats=() if problem else images)
    if "latex" in formats:
        for table in [*([page_content.overview.table] if page_content.overview else []), *page_content.tables]:
            write_atomically(folder / f"{table.name}.tex", latex.table(table))
    if "json" in formats:
        paragraphs = [{"part": part, "text": text} for part, text in page_content.answers]
        asked = {"metric": metric, "choose_by": choose_by, "tune": tune}
        write_json(folder / "answer.json", asked | {"answer": paragraphs, "summary": fields.records(summed)})
    if page_content.headlines:
        start = answer.beginning_of_tuned(tune) if tune else None
        fair = [
            f"{name}: {text}" if name else text
            for name, text in page_content.answers
            if start and text.startswith(start)
        ]
        tell("\n\n".join([*fair, headline.terminal(page_content.headlines)]))
    return page_path
