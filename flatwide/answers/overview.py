"""Overview of all domains of a results table: where the gain of SAM grows with width, and where that is undecided."""

from typing import Any, NamedTuple

from flatwide.analysis import estimates, fields, gain, table, verdict
from flatwide.analysis.estimates import NONE, Estimate


class Entry(NamedTuple):
    """One part of a table, such as a domain, at its smallest and largest width.

    values: the column values that distinguish it. name: the same in words.
    sizes: parameters of the widths that have a gain, ascending; best_rhos: the best rho of each.
    smallest, largest: the corrected gain at both ends; NaN below two seeds.
    slope: of the corrected gain, per tenfold increase in parameters.
    level: of the intervals of gains and slope, such that those of all parts hold jointly in 95 % of tables.
    verdict: whether the gain grows, by Holm's test over all parts.
    """

    values: dict[str, Any]
    name: str
    metric_name: str
    base: str
    sizes: tuple[int, ...]
    best_rhos: tuple[float, ...]
    smallest: Estimate
    largest: Estimate
    num_seeds: int
    slope: Estimate
    level: float
    verdict: verdict.Verdict

    @property
    def direction(self) -> int | None:
        """1 where the gain grows, -1 where it shrinks, 0 where neither is shown; None where this is unknown."""
        return self.verdict.direction


@table.for_table
def overview(split: table.Split) -> list[Entry]:
    """List every domain or, where one has several settings, each of these.

    Intervals have the Šidák level .95^(1/k) for k parts that have one, so that all hold jointly in 95 % of tables. With
    seven parts they are 2.7 times as long as at 95 % for three seeds, and 1.6 times for eight seeds.

    Returns: one entry for each, including domains without a gain, which have no sizes.
    """
    parts: list[tuple[table.Domain, table.Part | None]] = [
        (domain, part) for domain in split.domains for part in domain.parts or [None]
    ]
    scores = [part.scores if part and not part.not_learned else estimates.NO_SCORES for _, part in parts]
    asked = split.question.level
    level = estimates.sidak(sum(len(each.seeds) > 1 for each in scores), level=asked)
    return [
        _entry(domain, part, decided, level=level)
        for (domain, part), decided in zip(parts, verdict.holm(scores, level=asked), strict=True)
    ]


def _entry(domain: table.Domain, part: table.Part | None, decided: verdict.Verdict, *, level: float) -> Entry:
    """Summarize a part, or a domain without one."""
    runs, values = (part.runs, part.values) if part else (domain.runs, dict(domain.values))
    has_answer = part is not None and not part.not_learned
    widths = [width for width in part.widths if gain.pairs(width)] if part and has_answer else []
    gains = [width.comparison.gain.at(level) for width in widths]
    return Entry(
        values=values,
        name=table.name_of(values),
        metric_name=fields.metric_name(runs, domain.question.metric),
        base=fields.base_name(runs, unknown="base"),
        sizes=tuple(width.num_params for width in widths),
        best_rhos=tuple(width.best_rho for width in widths),
        smallest=gains[0] if gains else NONE,
        largest=gains[-1] if gains else NONE,
        num_seeds=min((each.num_seeds for each in gains), default=0),
        slope=estimates.slope(part.scores, level=level) if part and widths else NONE,
        level=level,
        verdict=decided,
    )


def headline(all_entries: list[Entry]) -> str:
    """Write one sentence: in how many domains SAM helps at the largest size, and the gain grows with width."""
    helped = sum(entry.largest.low > 0 for entry in all_entries)
    grows = sum(entry.verdict.kind == verdict.GROWS for entry in all_entries)
    where = f"in {helped} of {len(all_entries)} {_subject(all_entries)}"
    return f"SAM helps at the largest size {where}; its gain grows with width in {grows}."


def _subject(all_entries: list[Entry]) -> str:
    """Name what the entries are: domains, or settings of one or several."""
    count = len({table.domain_key(part.values) for part in all_entries})
    return "domains" if count == len(all_entries) else "settings" + (f" of {count} domains" if count > 1 else "")


def sentences(all_entries: list[Entry]) -> str:
    """Write in two sentences in how many domains the gain grows with width, by Holm's test over all of them."""
    subject = _subject(all_entries)
    by_kind: dict[str, list[Entry]] = {}
    for part in all_entries:
        by_kind.setdefault(part.verdict.kind, []).append(part)
    grows = by_kind.get(verdict.GROWS, [])
    test = "by Holm's test at 5 % for all of them together"
    if grows:
        helped = sum(part.largest.low > 0 for part in grows)
        of_them = "there" if len(grows) == 1 else f"in {'all' if helped == len(grows) else helped or 'none'} of them"
        seen = f"and at the largest size it is above zero {of_them}"
        if not helped:
            seen = (
                f"though at the largest size it is {'in' if len(grows) == 1 else ''}distinguishable from zero {of_them}"
            )
        where = f"in {len(grows)} of {len(all_entries)} {subject}, {test} ({_names(grows)})"
        first = f"The gain of SAM grows with width {where}, {seen}."
    else:
        first = f"The gain of SAM is not shown to grow with width in any of {len(all_entries)} {subject}, {test}."
    rest = [
        f"in {len(by_kind[kind])} {words} ({_names(by_kind[kind])})"
        for kind, words in (
            (verdict.LARGER, "it is larger at large widths, but that rests on one of them"),
            (verdict.PEAKS, "it peaks between the smallest and the largest size"),
            (verdict.NO_TREND, "neither growth nor its absence is shown"),
            (verdict.SMALLER, "it is smaller at large widths, but that rests on one of them"),
            (verdict.SHRINKS, "it shrinks"),
            (verdict.UNKNOWN, "there is no interval yet"),
        )
        if kind in by_kind
    ]
    if not rest:
        return first
    listed = " and ".join(filter(None, [", ".join(rest[:-1]), rest[-1]]))
    return f"{first} {listed[0].upper()}{listed[1:]}."


def _names(entries: list[Entry]) -> str:
    return "; ".join(part.name or "all runs" for part in entries)
