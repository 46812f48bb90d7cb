"""The content of a page, computed from the results table before any of it becomes HTML."""

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from flatwide.analysis import fields, metrics, table
from flatwide.answers import answer, cautions, headline, joint, overview, short
from flatwide.columns import DONE
from flatwide.figures.gallery import DOMAINS, GAIN, Figure
from flatwide.figures.pieces import slug
from flatwide.report import (
    charts,
    facts,
    key_table,
    measured,
    run_table,
    tables,
    terms,
    trend_tables,
)
from flatwide.report.key_table import KeyTable
from flatwide.runs.commands import Command

if TYPE_CHECKING:
    import pandas as pd

_SETTINGS_OF_TABLE = "Settings shared by all runs"
_MANY_LOOKS = (
    "This study looked at its results several times and stopped when it knew. The verdict above allows for that; the "
    "intervals below do not, so they are too short, and settings that were dropped have fewer seeds."
)


class Source(NamedTuple):
    """The origin of the runs, beyond what their table holds.

    name: of the work directory or table, for the title. commands: those that trained the runs, where recorded.
    earlier_command: the last command of a study from before commands were recorded, or "".
    num_planned: runs of the study, None if unknown.
    identities: config values beyond the table by name of the run, see `table.Reading.beside`.
    verdict: of a study that steers itself. notes: how the table was read. is_table: whether the runs came as a table.
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
    verdict: str = ""
    has_states: bool = True
    are_ours: bool = True


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
    short: short.Short
    lead: charts.Chart | None  # the gain by size
    summary: key_table.KeyTable | None  # the numbers behind the headline
    answers: list[tuple[str, str]]  # in detail, each with the part of the runs that it concerns; "" for all
    explanation: str
    cautions: list[str]  # those that could change the headline most come first
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
    split: table.Split,
    summary: "pd.DataFrame",
    figures: Iterable[tuple[Figure, dict[str, Any]]],
    source: Source,
    others: Sequence[table.Split] = (),
) -> Content:
    """Return the content of the page of a results table.

    Args:
      others: of the same table for further metrics.
      summary: of the table, from `analysis.summary.summary`.
      figures: the charts to show, each with its spec.
    """
    from importlib import metadata

    runs, rows, metric = split.runs, fields.records(split.runs), split.question.metric
    field_names = facts.config_fields(runs.columns)
    trained = _trained(rows, source)
    varied = facts.varied(trained, field_names)
    base = fields.base_name(runs)
    drawn, data = charts.charts(figures)
    lead = next((chart for chart in drawn if chart.figure.section in (DOMAINS, GAIN)), None)
    key_tables: list[KeyTable] = []
    sections: list[Section] = []
    for domain in split.domains:
        of_domain = [chart for chart in drawn if chart is not lead and chart.figure.domain == domain.name]
        minima = measured.find(domain)
        key_tables += _tables(domain, _rows_of(summary, domain), minima, source)
        sections += _sections(domain, of_domain, minima)
    answered = short.short(split, others)
    answers = _answers(split, answered)
    if source.verdict:
        answered, answers = _steered(answered, source.verdict, others), [("", _MANY_LOOKS)]
    by_other = [_by_other(other, base) for other in others]
    answers += [paragraph for paragraphs, _ in by_other for paragraph in paragraphs]
    key_tables = [*(each for _, tables in by_other for each in tables), *key_tables]
    objections = cautions.cautions(split, has_states=source.has_states, are_ours=source.are_ours)
    shown_cautions = cautions.merged(objections, num_parts=sum(bool(part.name) for part in split.parts))
    if not source.has_states:
        rows = [row | {"status": facts.NO_METRIC} if row["status"] == "diverged" else row for row in rows]
    aside = facts.varied(rows, (name for name in runs.columns if name.startswith(f"{fields.ASIDE}.")))
    shown = run_table.run_table(rows, varied=[*varied, *aside])
    texts = [*answered.findings, *(text for _, text in answers), *shown_cautions, *varied]
    texts += [f"{each.title} {each.note}" for each in key_tables]
    texts += [f"{each.heading} {each.explanation}" for each in sections if each.explanation]
    texts += [text for each in sections for _, text in each.answers]
    units = metrics.units(runs, metric)
    many = len(split.domains) > 1
    return Content(
        version=metadata.version("flatwide"),
        title=_title(rows, base or "its base", source, num_domains=len(split.domains)),
        subtitle=_subtitle(rows, varied, source),
        progress=_progress(rows, source),
        short=answered,
        lead=lead,
        summary=_summary(answered, units, base),
        answers=answers,
        explanation=_explanation(metrics.units_of("metric", metric) if many else units, base),
        cautions=shown_cautions,
        sections=sections,
        data=data,
        tables=key_tables,
        runs=shown,
        commands=facts.recorded(source.commands),
        unrecorded="" if source.is_table else facts.unrecorded(rows, source.commands, earlier=source.earlier_command),
        settings=_settings(trained, field_names, varied, source),
        settings_heading=_SETTINGS_OF_TABLE if source.is_table else "Config fields that differ from their defaults",
        facts=facts.facts(rows, num_planned=source.num_planned, identities=source.identities),
        notes=source.notes,
        terms=terms.terms(
            " ".join(texts), columns=[column["name"] for column in shown["columns"]], are_ours=source.are_ours
        ),
    )


def _tables(
    domain: table.Domain, summary: "pd.DataFrame", minima: measured.MeasuredRuns, source: Source
) -> list[KeyTable]:
    """Return the tables of a domain, of whose summary these are the rows."""
    base, lost = domain.base or "base", "diverged" if source.has_states else facts.NO_METRIC
    listed = tables.key_tables(domain, summary, base=base, lost=lost, are_ours=not source.is_table)
    measured_table = measured.measured_table(minima, base=base)
    listed += [measured_table] if measured_table.rows else []
    if not domain.name:
        return listed
    return [
        each._replace(
            name=f"{each.name}_{slug(domain.name)}",
            title=f"{domain.name}: {each.title}",
            caption=f"{domain.name}: {each.caption or each.title}",
        )
        for each in listed
    ]


def _sections(domain: table.Domain, drawn: list[charts.Chart], minima: measured.MeasuredRuns) -> list[Section]:
    """Group the charts of a domain by heading, in order of first appearance, with the findings of each heading."""
    findings = measured.findings(minima, base=domain.base or "its base")
    front = f"{domain.name}: " if domain.name else ""
    return [
        Section(front + heading, members, *findings.get(heading, measured.Finding("", [])))
        for heading in dict.fromkeys(chart.figure.section for chart in drawn)
        if (members := [chart for chart in drawn if chart.figure.section == heading])
    ]


def _trained(rows: list[dict[str, Any]], source: Source) -> list[dict[str, Any]]:
    """Return the readable rows, with the number of threads of the config.

    The table has the number of threads used, which is no setting if the config leaves it to the machine.
    """
    return [
        row | {"threads": source.identities.get(row.get("run", ""), {}).get("threads")}
        for row in rows
        if row["status"] not in facts.UNREADABLE
    ]


def _summary(answered: short.Short, write: metrics.Units, base: str) -> KeyTable | None:
    """Return the table below the headline: every part, or the widths of the only one."""
    if answered.entries:
        return trend_tables.domains_table(answered.entries, metric=answered.metric)
    if not answered.lines or not answered.lines[0].rows:
        return None
    cells = [
        [
            ("parameters", f"{row.num_params:,}"),
            (f"{base or 'base'}{write.value_unit}", write.value(row.base)),
            (f"SAM{write.value_unit}", write.value(row.sam)),
            (f"gain{write.gain_unit}", write.gain(row.gain)),
            ("joint 95 % interval", write.interval(row.low, row.high)),
            ("best rho", key_table.number(row.best_rho)),
        ]
        for row in answered.lines[0].rows
    ]
    note = "Corrected for the choice of rho; the intervals hold for all widths together."
    return key_table.key_table("summary", cells, title="In short", note=note)


def _settings(
    trained: list[dict[str, Any]], field_names: list[str], varied: list[str], source: Source
) -> list[tuple[str, str]]:
    """Return the settings of the runs, if no recorded command shows them: of a table those that all runs share."""
    if not trained or source.commands:
        return []
    shared = [name for name in field_names if name not in varied or not source.is_table]
    return facts.settings(trained, shared, with_defaults=source.is_table)


def _rows_of(summary: "pd.DataFrame", domain: table.Domain) -> "pd.DataFrame":
    """Select the rows of a domain from the summary of all domains."""
    rows: Any = summary
    for column, value in domain.values.items() if len(summary) else ():
        rows = rows[rows[column] == value]
    return rows


def _title(rows: list[dict[str, Any]], base: str, source: Source, *, num_domains: int) -> str:
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


def _answers(split: table.Split, answered: short.Short) -> list[tuple[str, str]]:
    """Return the paragraphs of the long answer, with several parts the headline of each first."""
    paragraphs = answer.paragraphs(split)
    if not answered.lines:
        paragraphs += [(domain.name, text) for domain in split.domains if (text := _best_run(domain))]
    if not answered.entries:
        return paragraphs
    lines = [(line.part, f"{line.text}.") for line in answered.lines]
    return [("", overview.sentences(answered.entries)), *lines, *paragraphs]


def _steered(answered: short.Short, verdict: str, others: Sequence[table.Split]) -> short.Short:
    """Return the short answer of a study that steered itself: its verdict, which allows for all looks."""
    line = headline.Headline(part="", text=verdict.rstrip("."), rows=(), is_percent=False)
    return answered._replace(
        sentence=verdict, findings=short.of_others(others, is_steered=True), lines=[line], entries=[]
    )


def _by_other(split: table.Split, base: str) -> tuple[list[tuple[str, str]], list[KeyTable]]:
    """Return the paragraphs by a further metric, and the table of its headline if it has one."""
    answered, name, metric = short.short(split), joint.title(split), split.question.metric
    paragraphs = [(f"{name}, {part}" if part else name, text) for part, text in _answers(split, answered)]
    found = _summary(answered, metrics.units(split.runs, metric), base)
    titled = {"name": f"summary_{metric}", "title": f"In short, by {name}"}
    return paragraphs, [found._replace(**titled)] if found else []


def _best_run(domain: table.Domain) -> str:
    """Return a sentence about the best run of a domain; empty if none is done."""
    metric, write = domain.question.metric, domain.units
    rows = fields.records(domain.runs)
    finished = [row for row in rows if row["status"] == "finished" and row.get(metric) is not None]
    if not finished:
        return ""
    best = max(finished, key=lambda row: -row[metric] if write.lower_is_better else row[metric])
    run_name = f" ({best['run']})" if best.get("run") and len(finished) > 1 else ""
    subject = f"The best of {len(finished):,} runs" if len(finished) > 1 else "The only run"
    return f"{subject} has a {write.title} of {write.value(best[metric])}{run_name}."


def _explanation(write: metrics.Units, base: str) -> str:
    name = base or "its base optimizer"
    metric_name = write.title.removesuffix(" (%)")
    return (
        f"SAM takes each training step with the gradient at a point a distance ρ (rho) uphill from the weights, which "
        f"biases {name} towards flatter minima; width is the size of the network's layers, which sets its number of "
        f"parameters; the gain is the {metric_name} with SAM minus that with {name} alone, signed so that a positive "
        "gain means that SAM is better."
    )
