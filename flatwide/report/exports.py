"""Output files of a report: the page, the summary, and figures and tables in formats for papers."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from flatwide import registry
from flatwide.analysis import fields, table
from flatwide.answers import short
from flatwide.figures import rendering, save
from flatwide.figures.gallery import every_figure
from flatwide.figures.tables import to_csv
from flatwide.report import card, charts, latex, output, page
from flatwide.report.content import Source, content
from flatwide.report.gaps import gaps
from flatwide.runs.directory import write_atomically, write_json

FORMATS = (*save.FORMATS, "latex", "json")


def _library() -> tuple[str, str]:
    """Return the JavaScript that draws the charts of a page, and a description of the problem if there is none."""
    try:
        return rendering.library(), ""
    except rendering.RenderingError as error:
        return "", f"{error} Until then this page has their numbers."


def export(
    split: table.Split,
    source: Source,
    *,
    others: Sequence[table.Split] = (),
    page_path: Path,
    summary_path: Path | None,
    folder: Path,
    formats: Sequence[str],
    card_path: Path | None = None,
    tell: Callable[[str], None] = lambda text: None,
    **sources: Any,
) -> Path:
    """Write the page, the summary, and figures and tables in the given formats in `folder`.

    Args:
      others: of the same table for further metrics, which have their answers on the page.
      card_path: of the verdict card, an SVG or a PNG; None writes none.
      tell: called with the short answer, as text for a terminal, and with what the table lacks, after all
        files are written.
      sources: `curves`, `series` and `arrays` of `figures.gallery.gallery`.
    Raises: ValueError for an unknown format, a missing column, or a file in the way that flatwide did not write.
    """
    from flatwide.analysis.summary import summary

    if unknown_formats := [name for name in formats if name not in FORMATS]:
        raise ValueError(registry.unknown("format", unknown_formats[0], FORMATS))
    summed = summary(split)
    drawn = every_figure(split, interactive=True, are_ours=source.are_ours, **sources)
    figures = [(figure, charts.spec_of(figure)) for figure in drawn]
    library, problem = _library() if figures else ("", "")
    source = source._replace(notes=(*source.notes, *([problem] if problem else ())))
    page_content = content(split, summed, figures, source, others)
    output.check_page(page_path)
    write_atomically(page_path, page.render(page_content, library=library))
    if summary_path:
        write_atomically(summary_path, to_csv(summed))
    if images := [name for name in formats if name in save.FORMATS]:
        pictures = [save.Picture(charts.still(spec), folder / figure.name, figure.data) for figure, spec in figures]
        save.save_all(pictures, formats=() if problem else images)
    if card_path:
        card.write(card_path, split, page_content.short.lines, source, figures)
    if "latex" in formats:
        for each in [*([page_content.summary] if page_content.short.entries else []), *page_content.tables]:
            write_atomically(folder / f"{each.name}.tex", latex.table(each))
    if "json" in formats:
        paragraphs = [{"part": part, "text": text} for part, text in page_content.answers]
        asked = {name: value for name, value in split.question._asdict().items() if name != "level"}
        write_json(folder / "answer.json", asked | {"answer": paragraphs, "summary": fields.records(summed)})
    tell(short.terminal(page_content.short))
    if lacking := gaps(split):
        tell("\n".join(lacking))
    return page_path
