"""Everything a page says, before any of it is HTML: pure, from the results table."""

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
    """Where runs came from, which their table does not say.

    name: what the page is called after. commands: what trained them, as far as it is recorded.
    earlier_command: of a work directory from before commands were recorded, the one that its report was told, or "".
    num_planned: runs of the study, None if that is not known.
    identities: name of a run -> what its config says beyond the table, see `facts.read_identities`.
    notes: what a reader must know about how the table was read. is_table: whether they came as a table.
    are_ours: whether flatwide trained them, so that it is known what a seed decides and how to go on.
    has_states: whether it is known what became of each run; otherwise one without a metric counts as diverged.
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
    """What a page of several domains begins with: the gain in each of them, drawn, as a table, and in two sentences."""

    charts: list[charts.Chart]
    table: key_table.KeyTable
    answer: str


class Section(NamedTuple):
    """Charts under one heading, and what is to be said before them."""

    heading: str
    charts: list[charts.Chart]
    explanation: str
    answers: list[tuple[str, str]]  # as those of the page


class Content(NamedTuple):
    """What a page shows, in its order."""

    version: str
    title: str
    subtitle: str
    progress: str
    overview: Overview | None  # of the domains; None where there is one
    headlines: list[headline.Headline]
    summary: key_table.KeyTable | None  # the numbers behind the headlines
    answers: list[tuple[str, str]]  # each with the part of the runs that it is about; "" for all
    explanation: str
    cautions: list[str]
    sections: list[Section]
    data: dict[str, Any]
    tables: list[key_table.KeyTable]
    runs: dict[str, Any]
    commands: list[facts.Recorded]
    unrecorded: str
    settings: list[tuple[str, str]]  # fields and their values, where no command says them
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
    """Say what a results table has to say.

    Args:
      runs: the results table.
      summary: what `analysis.summary.summary` makes of it.
      figures: the charts to show, each with its spec.
      metric, choose_by: as for `analysis.gain.gain_by_width`. tune: as for `analysis.tuned.tuned_gain`.
    """
    from importlib import metadata

    rows = fields.records(runs)
    is_table = source.is_table
    known = facts.config_fields(runs.columns)
    # The table has the threads that were used, which tell no settings apart where a config leaves them to the machine.
    named = source.identities
    trained = [
        row | {"threads": named.get(row.get("run", ""), {}).get("threads")}
        for row in rows
        if row["status"] not in facts.UNREADABLE
    ]
    varied = facts.varied(trained, known)
    base = gain.base_name(runs)
    found, data = charts.charts(figures)
    options: dict[str, Any] = {"metric": metric, "choose_by": choose_by}
    every = domains.domains(runs)
    lost = "diverged" if source.has_states else facts.NO_METRIC
    key_tables, sections = [], []
    for domain in every:
        own = gain.base_name(domain.runs)
        minima = measured.find(domain.runs, **options)
        here = tables.key_tables(domain.runs, _rows_of(summary, domain), **options, base=own or "base", lost=lost)
        here += [advice_table.advice_table(domain.runs, **options, are_ours=not is_table)] if here else []
        if here and tune:
            here.append(transfer_table.transfer_table(domain.runs, **options, tune=tune))
        here = [one for one in here if one.rows]
        key_tables += [_of_domain(one, domain) for one in [*here, *measured.key_tables(minima, base=own or "base")]]
        drawn = [chart for chart in found if chart.domain == domain.name and chart.section != DOMAINS]
        sections += _sections(drawn, measured.findings(minima, base=own or "its base"), domain.name)
    parts = [part.name for part in table.parts(fields.narrow(runs)) if part.name]
    answers = _answers(runs, every, **options, tune=tune)
    beginning = None
    if len(every) > 1:
        entries = overview.overview(runs, **options)
        drawn = [chart for chart in found if chart.section == DOMAINS]
        beginning = Overview(drawn, tables.domains_table(entries, metric=metric), overview.sentences(entries))
        answers = [one for one in answers if one[0]]
    lines = headline.headlines(runs, **options)
    objections = cautions.cautions(runs, **options, has_states=source.has_states, are_ours=source.are_ours)
    raised = cautions.merged(objections, num_parts=len(parts))
    aside = facts.varied(rows, (name for name in runs.columns if name.startswith(f"{fields.ASIDE}.")))
    told = rows if source.has_states else [_without_state(row) for row in rows]
    shown = run_table.run_table(told, varied=[*varied, *aside])
    words = " ".join(
        [
            beginning.answer if beginning else "",
            *(text for _, text in answers),
            *raised,
            *varied,
            *(f"{one.title} {one.note}" for one in key_tables),
        ]
        + [f"{section.heading} {section.explanation}" for section in sections if section.explanation]
        + [text for section in sections for _, text in section.answers]
    )
    constant = [name for name in known if name not in varied]
    return Content(
        version=metadata.version("flatwide"),
        title=_title(rows, base, source, num_domains=len(every)),
        subtitle=_subtitle(rows, varied, source),
        progress=_progress(rows, source),
        overview=beginning,
        headlines=lines,
        summary=_summary(lines, rows, base, metric),
        answers=answers,
        explanation=_explanation(rows if len(every) == 1 else [], base, metric),
        cautions=raised,
        sections=sections,
        data=data,
        tables=key_tables,
        runs=shown,
        commands=facts.recorded(source.commands),
        unrecorded="" if is_table else facts.unrecorded(rows, source.commands, earlier=source.earlier_command),
        **_settings(trained, known, constant, source),
        facts=facts.facts(told, num_planned=source.num_planned, identities=source.identities),
        notes=source.notes,
        terms=terms.terms(words, columns=[column["name"] for column in shown["columns"]], are_ours=source.are_ours),
    )


def _summary(lines: list[headline.Headline], rows: list[dict[str, Any]], base: str, metric: str) -> KeyTable | None:
    """Make the table below the headline: at most five widths of one part, or the largest width of each of several."""
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


def _settings(trained: list[dict[str, Any]], known: list[str], constant: list[str], source: Source) -> dict[str, Any]:
    """List what the table says of how runs were trained, where no command says it."""
    if not trained or source.commands:
        return {"settings": [], "settings_heading": ""}
    if source.is_table:
        shown = facts.settings(trained, constant, with_defaults=True)
        return {"settings": shown, "settings_heading": "What all runs have in common"}
    heading = "Config fields of the runs, but for those at their defaults"
    return {"settings": facts.settings(trained, known), "settings_heading": heading}


def _without_state(row: dict[str, Any]) -> dict[str, Any]:
    return row | {"status": facts.NO_METRIC if row["status"] == "diverged" else row["status"]}


def _rows_of(summary: "pd.DataFrame", domain: domains.Domain) -> "pd.DataFrame":
    """Take the rows of a domain out of the summary of all."""
    found: Any = summary
    for column, value in domain.values.items() if len(summary) else ():
        found = found[found[column] == value]
    return found


def _of_domain(found: key_table.KeyTable, domain: domains.Domain) -> key_table.KeyTable:
    """Say in the title of a table which domain it is of."""
    if not domain.name:
        return found
    return found._replace(name=f"{found.name}_{slug(domain.name)}", title=f"{domain.name}: {found.title}")


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
    return f"{text}, which differ in {listed}."


def _progress(rows: list[dict[str, Any]], source: Source) -> str:
    """Say how far a study is; empty once it is done."""
    num_done = sum(row["status"] in DONE for row in rows)
    planned = source.num_planned
    if planned is None or num_done >= planned:
        return ""
    return (
        f"This study is not done: {num_done:,} of {planned:,} runs. What follows is about those, and will change. "
        "While the study runs, the page is written again now and then: load it again to see more."
    )


def _answers(
    runs: "pd.DataFrame", every: list[domains.Domain], *, metric: str, choose_by: str | None, tune: Sequence[str]
) -> list[tuple[str, str]]:
    found = answer.paragraphs(runs, metric=metric, choose_by=choose_by, tune=tune)
    if not found[0][1].startswith("There is no gain yet"):
        return found
    return found + [(domain.name, text) for domain in every if (text := _best_run(domain, metric))]


def _best_run(domain: domains.Domain, metric: str) -> str:
    """Say which run of a domain is best; empty if none is done."""
    rows = fields.records(domain.runs)
    known = [row for row in rows if row["status"] == "finished" and row.get(metric) is not None]
    if not known:
        return ""
    write = key_table.units(rows, metric=metric)
    higher = known[0].get("higher_is_better", True) and not metric.endswith("loss")
    best = max(known, key=lambda row: row[metric] if higher else -row[metric])
    where = f" ({best['run']})" if best.get("run") and len(known) > 1 else ""
    which = f"The best of {len(known):,} runs" if len(known) > 1 else "The one run"
    return f"{which} has a {write.metric} of {write.value(best[metric])}{where}."


def _explanation(rows: list[dict[str, Any]], base: str, metric: str) -> str:
    write = key_table.units(rows, metric=metric)
    name = base or "its base optimizer"
    what = write.metric.removesuffix(" (%)")
    return (
        f"SAM takes each training step with the gradient found a distance ρ (rho) uphill from the weights, which leads "
        f"{name} to flatter minima; width is the size of the network's layers, and with it its number of parameters; "
        f"the gain is the {what} with SAM less that with {name} alone, counted so that above zero SAM is better."
    )


def _sections(found: list[charts.Chart], said: Mapping[str, measured.Finding], domain: str) -> list[Section]:
    """Gather charts under their headings, in the order in which those first come, and what was measured with them."""
    by_heading: dict[str, list[charts.Chart]] = {}
    for chart in found:
        by_heading.setdefault(chart.section, []).append(chart)
    nothing = measured.Finding("", [])
    front = f"{domain}: " if domain else ""
    return [Section(front + heading, members, *said.get(heading, nothing)) for heading, members in by_heading.items()]
