"""Every domain of a results table at a glance: where the gain of SAM grows with width, and where it cannot be told."""

import math
from typing import TYPE_CHECKING, Any, NamedTuple

from flatwide.analysis import domains, fields, gain, intervals, rho, selection, table, trend, widths

if TYPE_CHECKING:
    import pandas as pd

NO_GAIN = intervals.NONE
NO_TREND = trend.Trend()


class Entry(NamedTuple):
    """One part of a table, such as a domain, at its smallest and largest width.

    values: what tells it from the others. name: the same in words.
    sizes: parameters of the widths that have a gain, ascending; best_rhos: the best rho of each.
    smallest, largest: the corrected gain at both ends with its 95 % interval; NaN below two seeds.
    slope: of the corrected gain, for ten times the parameters.
    """

    values: dict[str, Any]
    name: str
    metric_name: str
    base: str
    sizes: tuple[int, ...]
    best_rhos: tuple[float, ...]
    smallest: intervals.Mean
    largest: intervals.Mean
    num_seeds: int
    slope: trend.Trend

    @property
    def direction(self) -> int | None:
        """Tell whether the gain grows (1), shrinks (-1) or either may be (0), by the interval; None without one."""
        if not math.isfinite(self.slope.low):
            return None
        return int(self.slope.low > 0) - int(self.slope.high < 0)


def overview(
    runs: "pd.DataFrame", *, width: str = "num_params", metric: str = "test_metric", choose_by: str | None = None
) -> list[Entry]:
    """List every domain, or where one has several settings, each of those.

    Args: as for `gain.gain_by_width`, but the runs may be of any domains and differ in other columns.
    Returns: an entry for a domain without a gain too: it has no sizes.
    """
    found = []
    for domain in domains.domains(fields.narrow(runs, width=width)):
        parts = table.parts(domain.runs, width=width) or [table.Part({}, domain.runs)]
        for part in parts:
            values = domain.values | part.values
            found.append(_entry(values, part.runs, width=width, metric=metric, choose_by=choose_by))
    return found


def _entry(values: dict[str, Any], runs: "pd.DataFrame", *, width: str, metric: str, choose_by: str | None) -> Entry:
    """Sum up a part."""
    has_pair = len({fields.effective_rho(row) > 0 for row in fields.done(runs)}) == 2
    options: dict[str, Any] = {"width": width, "metric": metric, "choose_by": choose_by}
    cells = widths.by_width(runs, **options) if has_pair else []
    rows = [
        (cell, corrected)
        for cell, corrected, plain in zip(
            cells, map(selection.correct, cells), gain.of_widths(cells, width=width), strict=True
        )
        if plain["num_seeds"]
    ]
    ends = [intervals.Mean(one.gain, one.standard_error, one.low, one.high) for _, one in rows] or [NO_GAIN]
    best = [row["best_rho"] for row in rho.of_widths([cell for cell, _ in rows], width=width, chosen_by="")]
    has_names = {"optimizer", "base_optimizer"} <= set(runs.columns)
    return Entry(
        values,
        domains.name(values),
        "loss" if metric.endswith("loss") else gain.metric_name(runs),
        gain.base_name(runs) if has_names else "base",
        tuple(cell.num_params for cell, _ in rows),
        tuple(best),
        ends[0],
        ends[-1],
        min((corrected.num_seeds for _, corrected in rows), default=0),
        trend.trend(runs, **options) if rows else NO_TREND,
    )


def sentences(found: list[Entry]) -> str:
    """Say in two sentences in how many domains the gain grows with width, by intervals alone."""
    places = {tuple(entry.values.get(column) for column in (*domains.COLUMNS, "metric_name")) for entry in found}
    what = "domains" if len(places) == len(found) else f"settings of {len(places)} domains"
    by_direction: dict[int | None, list[Entry]] = {1: [], 0: [], -1: [], None: []}
    for entry in found:
        by_direction[entry.direction].append(entry)
    grows = by_direction[1]
    if grows:
        helped = sum(entry.largest.low > 0 for entry in grows)
        of_them = "there" if len(grows) == 1 else f"in {'all' if helped == len(grows) else helped or 'none'} of them"
        seen = f"and at the largest size it is above zero {of_them}"
        if not helped:
            seen = f"though at the largest size it can{'not' if len(grows) == 1 else ''} be told from zero {of_them}"
        first = (
            f"The gain of SAM grows with width in {len(grows)} of {len(found)} {what}, by a 95 % interval of its slope "
            f"above zero ({_names(grows)}), {seen}."
        )
    else:
        first = (
            f"The gain of SAM is seen to grow with width in none of {len(found)} {what}: no 95 % interval of its slope "
            "lies above zero."
        )
    rest = [
        f"in {len(entries)} {words} ({_names(entries)})"
        for entries, words in (
            (by_direction[0], "the interval includes zero, so that neither growth nor its absence is shown"),
            (by_direction[-1], "it lies below zero, so that the gain shrinks"),
            (by_direction[None], "there is no interval yet"),
        )
        if entries
    ]
    if not rest:
        return first
    listed = " and ".join(filter(None, [", ".join(rest[:-1]), rest[-1]]))
    return f"{first} {listed[0].upper()}{listed[1:]}."


def _names(entries: list[Entry]) -> str:
    return "; ".join(entry.name or "all runs" for entry in entries)
