"""Overview of all domains of a results table: where the gain of SAM grows with width, and where that is undecided."""

from typing import TYPE_CHECKING, Any, NamedTuple

from flatwide.analysis import arms, domains, estimates, fields, gain, rho, table, trend, verdict, widths
from flatwide.analysis.estimates import NONE, Estimate, Scores

if TYPE_CHECKING:
    import pandas as pd


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


class _Part(NamedTuple):
    """A part of the table: the values that distinguish it, its runs, these arranged by width, and its scores."""

    values: dict[str, Any]
    runs: "pd.DataFrame"
    cells: list[widths.Width]
    scores: Scores


def overview(
    runs: "pd.DataFrame", *, width: str = "num_params", metric: str = "test_metric", choose_by: str | None = None
) -> list[Entry]:
    """List every domain or, where one has several settings, each of these.

    Intervals have the Šidák level .95^(1/k) for k parts that have one, so that all hold jointly in 95 % of tables. With
    seven parts they are 2.7 times as long as at 95 % for three seeds, and 1.6 times for eight seeds.

    Args: as for `gain.gain_by_width`, but the runs may be of any domains and differ in other columns.
    Returns: one entry for each, including domains without a gain, which have no sizes.
    """
    options: dict[str, Any] = {"width": width, "metric": metric, "choose_by": choose_by}
    parts_of_table = [
        table.Part(domain.values | part.values, part.runs)
        for domain in domains.domains(fields.narrow(runs, width=width))
        for part in table.parts(domain.runs, width=width) or [table.Part({}, domain.runs)]
    ]
    have_pair = [len({fields.effective_rho(row) > 0 for row in fields.done(part.runs)}) == 2 for part in parts_of_table]
    parts = []
    for part, has_pair in zip(parts_of_table, have_pair, strict=True):
        cells = widths.by_width(part.runs, **options) if has_pair else []
        scores = trend.scores(cells)
        parts.append(_Part(values=part.values, runs=part.runs, cells=cells, scores=scores))
    level = estimates.sidak(sum(len(part.scores.seeds) > 1 for part in parts))
    decided = verdict.holm([part.scores for part in parts])
    return [
        _entry(part, verdict_of_part, level=level, width=width, metric=metric)
        for part, verdict_of_part in zip(parts, decided, strict=True)
    ]


def _entry(part: _Part, decided: verdict.Verdict, *, level: float, width: str, metric: str) -> Entry:
    """Summarize a part."""
    corrected = [arms.estimate(cell.comparison, level=level) for cell in part.cells]
    plain = gain.of_widths(part.cells, width=width)
    rows = [
        (cell, corrected_gain)
        for cell, corrected_gain, row in zip(part.cells, corrected, plain, strict=True)
        if row["num_seeds"]
    ]
    ends = [corrected_gain for _, corrected_gain in rows] or [NONE]
    best = [row["best_rho"] for row in rho.of_widths([cell for cell, _ in rows], width=width, chosen_by="")]
    return Entry(
        values=part.values,
        name=domains.name(part.values),
        metric_name="loss" if metric.endswith("loss") else gain.metric_name(part.runs),
        base=gain.base_name(part.runs, unknown="base"),
        sizes=tuple(cell.num_params for cell, _ in rows),
        best_rhos=tuple(best),
        smallest=ends[0],
        largest=ends[-1],
        num_seeds=min((corrected_gain.num_seeds for _, corrected_gain in rows), default=0),
        slope=trend.slope(part.scores, level=level) if rows else NONE,
        level=level,
        verdict=decided,
    )


def sentences(all_entries: list[Entry]) -> str:
    """Write in two sentences in how many domains the gain grows with width, by Holm's test over all of them."""
    all_domains = {
        tuple(part.values.get(column) for column in (*domains.COLUMNS, "metric_name")) for part in all_entries
    }
    subject = "domains" if len(all_domains) == len(all_entries) else f"settings of {len(all_domains)} domains"
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
