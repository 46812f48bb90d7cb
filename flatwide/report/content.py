"""The content of a page, computed from the results table before any of it becomes HTML."""

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from flatwide.analysis import answer, cautions, domains, fields, gain, headline, overview, table
from flatwide.columns import DONE
from flatwide.figures.gallery import DOMAINS, Figure
from flatwide.figures.pieces import slug
from flatwide.report import (
    advice_table,
    charts,
    facts,
    key_table,
    measured,
    run_table,
    tables,
    terms,
    transfer_table,
)
from flatwide.report.key_table import KeyTable
from flatwide.runs.commands import Command

if TYPE_CHECKING:
    import pandas as pd


class Source(NamedTuple):
    """The origin of the runs, beyond what their table holds.

    name: of the work directory or table, for the title. commands: those that trained the runs, where recorded.
    earlier_command: the last command of a study from before commands were recorded, or "".
    num_planned: runs of the study, None if unknown.
    identities: config values beyond the table by name of the run, see `facts.read_identities`.
    notes: how the table was read. is_table: whether the runs came as a table.
    are_ours: whether flatwide trained the runs, so that the effect of a seed and the command to resume are known.
    has_states: whether the table has the status of each run; otherwise a run without a metric counts as diverged.
    """

    name: str
    commands: tuple[Command, ...] = ()
    earlier_command: str = ""
    num_planned: int | None = None
    identities: Mapping[str, Mapping[str, Any]] = {}
    notes: tuple[str, ...] = ()
    is_table: bool = False
    has_states: bool = True
    are_ours: bool = True


class Overview(NamedTuple):
    """The beginning of a page of several domains: the gain in each, as charts, as a table and in two sentences."""

    charts: list[charts.Chart]
    table: key_table.KeyTable
    answer: str


class Section(NamedTuple):
    """Charts under one heading, and the text before them."""

    heading: str
    charts: list[charts.Chart]
    explanation: str
    answers: list[tuple[str, str]]  # same form as those of the page


class Content(NamedTuple):
    """The parts of a page, in order."""

    version: str
    title: str
    subtitle: str
    progress: str
    overview: Overview | None  # of the domains; None where there is one
    headlines: list[headline.Headline]
    summary: key_table.KeyTable | None  # the numbers behind the headlines
    answers: list[tuple[str, str]]  # each with the part of the runs that it concerns; "" for all
    explanation: str
    cautions: list[str]
    sections: list[Section]
    data: dict[str, Any]
    tables: list[key_table.KeyTable]
    runs: dict[str, Any]
    commands: list[facts.Recorded]
    unrecorded: str
    settings: list[tuple[str, str]]  # fields and their values, if there are no commands to show them
    settings_heading: str
    facts: list[tuple[str, str]]
    notes: tuple[str, ...]
    terms: list[tuple[str, str]]


def content(
    runs: "pd.DataFrame",
    summary: "pd.DataFrame",
    figures: Iterable[tuple[Figure, dict[str, Any]]],
    source: Source,
    *,
    metric: str = "test_metric",
    choose_by: str | None = None,
    tune: Sequence[str] = (),
) -> Content:
    """Return the content of the page of a results table.

    Args:
      runs: the results table.
      summary: its summary, from `analysis.summary.summary`.
      figures: the charts to show, each with its spec.
      metric, choose_by: as for `analysis.gain.gain_by_width`. tune: as for `analysis.tuned.tuned_gain`.
    """
    from importlib import metadata

    rows = fields.records(runs)
    is_table = source.is_table
    field_names = facts.config_fields(runs.columns)
    # The table has the number of threads used, which is no setting if the config leaves it to the machine.
    identities = source.identities
    trained = [
        row | {"threads": identities.get(row.get("run", ""), {}).get("threads")}
        for row in rows
        if row["status"] not in facts.UNREADABLE
    ]
    varied = facts.varied(trained, field_names)
    base = gain.base_name(runs)
    drawn_charts, data = charts.charts(figures)
    options: dict[str, Any] = {"metric": metric, "choose_by": choose_by}
    all_domains = domains.domains(runs)
    lost = "diverged" if source.has_states else facts.NO_METRIC
    key_tables, sections = [], []
    for domain in all_domains:
        base_of_domain = gain.base_name(domain.runs)
        minima = measured.find(domain.runs, **options)
        domain_tables = tables.key_tables(
            domain.runs, _rows_of(summary, domain), **options, base=base_of_domain or "base", lost=lost
        )
        domain_tables += (
            [advice_table.advice_table(domain.runs, **options, are_ours=not is_table)] if domain_tables else []
        )
        if domain_tables and tune:
            domain_tables.append(transfer_table.transfer_table(domain.runs, **options, tune=tune))
        domain_tables = [each for each in domain_tables if each.rows]
        domain_tables += measured.key_tables(minima, base=base_of_domain or "base")
        key_tables += [_of_domain(item, domain) for item in domain_tables]
        drawn = [chart for chart in drawn_charts if chart.domain == domain.name and chart.section != DOMAINS]
        sections += _sections(drawn, measured.findings(minima, base=base_of_domain or "its base"), domain.name)
    parts = [part.name for part in table.parts(fields.narrow(runs)) if part.name]
    answers = _answers(runs, all_domains, **options, tune=tune)
    beginning = None
    if len(all_domains) > 1:
        domain_entries = overview.overview(runs, **options)
        drawn = [chart for chart in drawn_charts if chart.section == DOMAINS]
        beginning = Overview(
            drawn, tables.domains_table(domain_entries, metric=metric), overview.sentences(domain_entries)
        )
        answers = [pair for pair in answers if pair[0]]
    lines = headline.headlines(runs, **options)
    objections = cautions.cautions(runs, **options, has_states=source.has_states, are_ours=source.are_ours)
    shown_cautions = cautions.told_once(objections, num_parts=len(parts))
    aside = facts.varied(rows, (name for name in runs.columns if name.startswith(f"{fields.ASIDE}.")))
    labelled_rows = rows if source.has_states else [_without_state(row) for row in rows]
    shown = run_table.run_table(labelled_rows, varied=[*varied, *aside])
    words = " ".join(
        [
            beginning.answer if beginning else "",
            *(text for _, text in answers),
            *shown_cautions,
            *varied,
            *(f"{item.title} {item.note}" for item in key_tables),
        ]
        + [f"{section.heading} {section.explanation}" for section in sections if section.explanation]
        + [text for section in sections for _, text in section.answers]
    )
    constant = [name for name in field_names if name not in varied]
    return Content(
        version=metadata.version("flatwide"),
        title=_title(rows, base, source, num_domains=len(all_domains)),
        subtitle=_subtitle(rows, varied, source),
        progress=_progress(rows, source),
        overview=beginning,
        headlines=lines,
        summary=_summary(lines, rows, base, metric),
        answers=answers,
        explanation=_explanation(rows if len(all_domains) == 1 else [], base, metric),
        cautions=shown_cautions,
        sections=sections,
        data=data,
        tables=key_tables,
        runs=shown,
        commands=facts.recorded(source.commands),
        unrecorded="" if is_table else facts.unrecorded(rows, source.commands, earlier=source.earlier_command),
        **_settings(trained, field_names, constant, source),
        facts=facts.facts(labelled_rows, num_planned=source.num_planned, identities=source.identities),
        notes=source.notes,
        terms=terms.terms(words, columns=[column["name"] for column in shown["columns"]], are_ours=source.are_ours),
    )


def _summary(lines: list[headline.Headline], rows: list[dict[str, Any]], base: str, metric: str) -> KeyTable | None:
    """Return the table below the headline: at most five widths of one part, or the largest width of each part."""
    if not lines:
        return None
    write = key_table.units(rows, metric=metric)
    is_alone = len(lines) == 1
    cells = [
        [
            *([] if is_alone else [line.part]),
            f"{row.num_params:,}",
            write.value(row.base),
            write.value(row.sam),
            write.gain(row.gain),
            write.interval(row.low, row.high),
            key_table.rho(row.best_rho),
        ]
        for line in lines
        for row in (line.rows if is_alone else line.rows[-1:])
    ]
    columns = [*([] if is_alone else ["part"]), "parameters", base or "base", "SAM", f"gain{write.points}"]
    return KeyTable(
        name="summary",
        title="In short",
        note="Corrected for the choice of rho; the intervals hold for all widths together.",
        columns=[*columns, "jointly 95 %", "best rho"],
        rows=cells,
    )


def _settings(
    trained: list[dict[str, Any]], field_names: list[str], constant: list[str], source: Source
) -> dict[str, Any]:
    """Return the settings of the runs, if no recorded command shows them."""
    if not trained or source.commands:
        return {"settings": [], "settings_heading": ""}
    if source.is_table:
        shown = facts.settings(trained, constant, with_defaults=True)
        return {"settings": shown, "settings_heading": "Settings shared by all runs"}
    heading = "Config fields that differ from their defaults"
    return {"settings": facts.settings(trained, field_names), "settings_heading": heading}


def _without_state(row: dict[str, Any]) -> dict[str, Any]:
    return row | {"status": facts.NO_METRIC if row["status"] == "diverged" else row["status"]}


def _rows_of(summary: "pd.DataFrame", domain: domains.Domain) -> "pd.DataFrame":
    """Select the rows of a domain from the summary of all domains."""
    rows: Any = summary
    for column, value in domain.values.items() if len(summary) else ():
        rows = rows[rows[column] == value]
    return rows


def _of_domain(item: key_table.KeyTable, domain: domains.Domain) -> key_table.KeyTable:
    """Add the domain to the name and title of a table."""
    if not domain.name:
        return item
    return item._replace(name=f"{item.name}_{slug(domain.name)}", title=f"{domain.name}: {item.title}")


def _title(rows: list[dict[str, Any]], base: str, source: Source, *, num_domains: int) -> str:
    base = base or "its base"
    if source.is_table:
        return f"SAM against {base}: {source.name}"
    if num_domains > 1:
        return f"SAM against {base} in {num_domains} domains"
    where = [" and ".join(sorted({str(row[name]) for row in rows if row.get(name)})) for name in ("model", "dataset")]
    return f"SAM against {base}: {' on '.join(where)}" if all(where) else f"SAM against {base}"


def _subtitle(rows: list[dict[str, Any]], varied: list[str], source: Source) -> str:
    text = f"{len(rows):,} run{'s' if len(rows) != 1 else ''}" + ("" if source.is_table else f" in {source.name}")
    if not varied:
        return text + "."
    listed = " and ".join(filter(None, [", ".join(varied[:-1]), varied[-1]]))
    return f"{text}, varying {listed}."


def _progress(rows: list[dict[str, Any]], source: Source) -> str:
    """Return the progress of a study; empty once it is complete."""
    num_done = sum(row["status"] in DONE for row in rows)
    planned = source.num_planned
    if planned is None or num_done >= planned:
        return ""
    return (
        f"This study is incomplete: {num_done:,} of {planned:,} runs are done. The results below will change. While "
        "the study runs, the page is rewritten as runs finish, and reloads itself every minute."
    )


def _answers(
    runs: "pd.DataFrame", all_domains: list[domains.Domain], *, metric: str, choose_by: str | None, tune: Sequence[str]
) -> list[tuple[str, str]]:
    paragraphs = answer.paragraphs(runs, metric=metric, choose_by=choose_by, tune=tune)
    if not paragraphs[0][1].startswith("There is no gain yet"):
        return paragraphs
    return paragraphs + [(domain.name, text) for domain in all_domains if (text := _best_run(domain, metric))]


def _best_run(domain: domains.Domain, metric: str) -> str:
    """Return a sentence about the best run of a domain; empty if none is done."""
    rows = fields.records(domain.runs)
    finished = [row for row in rows if row["status"] == "finished" and row.get(metric) is not None]
    if not finished:
        return ""
    write = key_table.units(rows, metric=metric)
    higher = finished[0].get("higher_is_better", True) and not metric.endswith("loss")
    best = max(finished, key=lambda row: row[metric] if higher else -row[metric])
    run_name = f" ({best['run']})" if best.get("run") and len(finished) > 1 else ""
    subject = f"The best of {len(finished):,} runs" if len(finished) > 1 else "The only run"
    return f"{subject} has a {write.metric} of {write.value(best[metric])}{run_name}."


def _explanation(rows: list[dict[str, Any]], base: str, metric: str) -> str:
    write = key_table.units(rows, metric=metric)
    name = base or "its base optimizer"
    metric_name = write.metric.removesuffix(" (%)")
    return (
        f"SAM takes each training step with the gradient at a point a distance ρ (rho) uphill from the weights, which "
        f"biases {name} towards flatter minima; width is the size of the network's layers, which sets its number of "
        f"parameters; the gain is the {metric_name} with SAM minus that with {name} alone, signed so that a positive "
        "gain means that SAM is better."
    )


def _sections(drawn_charts: list[charts.Chart], findings: Mapping[str, measured.Finding], domain: str) -> list[Section]:
    """Group charts by heading, in order of first appearance, with the findings of each heading."""
    by_heading: dict[str, list[charts.Chart]] = {}
    for chart in drawn_charts:
        by_heading.setdefault(chart.section, []).append(chart)
    no_finding = measured.Finding("", [])
    front = f"{domain}: " if domain else ""
    return [
        Section(front + heading, members, *findings.get(heading, no_finding)) for heading, members in by_heading.items()
    ]
