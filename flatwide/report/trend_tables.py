"""Tables of how the gain changes with width, of one domain and of all."""

from flatwide.analysis import decomposition, estimates, fields, table, trend
from flatwide.analysis import verdict as verdicts
from flatwide.analysis.estimates import Estimate
from flatwide.analysis.metrics import Units, units_of
from flatwide.answers.overview import Entry
from flatwide.report.front import Front
from flatwide.report.key_table import KeyTable, Row, is_missing, rho

_TRENDS = {
    verdicts.GROWS: "grows",
    verdicts.LARGER: "larger at large widths, but depends on a single width",
    verdicts.SHRINKS: "shrinks",
    verdicts.SMALLER: "smaller at large widths, but depends on a single width",
    verdicts.PEAKS: "peaks in between",
    verdicts.NO_TREND: "none detected",
    verdicts.UNKNOWN: "–",
}


def domains_table(domains: list[Entry], *, metric: str) -> KeyTable:
    """Return the table of all domains: the gain at both ends, its slope, and the best rho of each width."""
    cells = []
    for domain in domains:
        write = units_of(domain.metric_name, metric)

        def gain(mean: Estimate, write: Units = write) -> str:
            ends = "" if is_missing(mean.low) else f" ({write.interval(mean.low, mean.high)})"
            return write.gain(mean.value) + ends

        cells.append(
            [
                domain.name or "all runs",
                write.title.removesuffix(write.value_unit) + write.gain_unit,
                domain.base,
                " to ".join(f"{size:,}" for size in dict.fromkeys((*domain.sizes[:1], *domain.sizes[-1:]))) or "–",
                gain(domain.smallest),
                gain(domain.largest),
                gain(domain.slope),
                _TRENDS[domain.verdict.kind],
                ", ".join(map(rho, domain.best_rhos)) or "–",
                str(domain.num_seeds),
            ]
        )
    level = f"{100 * max((domain.level for domain in domains), default=0.95):.3g} %"
    note = (
        "Gains are corrected for the choice of rho; the slope is per tenfold increase in parameters. Each interval has "
        f"a level of {level}, so that the intervals of a column hold for all rows together in 95 % of tables. "
        "Accuracies and mean average precisions are in percentage points, other metrics in their own unit; a positive "
        "gain means that SAM is better. Trends are decided by Holm's test at 5 % for all rows together."
    )
    noun = "domain" if len({table.domain_key(entry.values) for entry in domains}) > 1 else "setting"
    columns = [noun, "metric", "base", "parameters", "gain at the smallest", "gain at the largest"]
    columns += ["slope", "trend", "best rho, by size", "seeds"]
    return KeyTable(
        name="domains_table",
        title=f"The gain in every {noun}",
        caption=f"Gain of SAM in every {noun}",
        note=note,
        columns=columns,
        rows=cells,
    )


def growth(parts: list[table.Part], front: Front, write: Units) -> KeyTable:
    """Return the table that splits the growth of the gain into improvement of SAM and decline of the base."""

    def with_interval(row: Row, name: str) -> str:
        return f"{write.gain(row[name])} ({write.interval(row[f'{name}_low'], row[f'{name}_high'])})"

    cells = []
    for part in parts:
        splits = fields.records(decomposition.decompose(part))
        for row in splits[1:]:
            cells.append(
                front.cells(part.values | row)
                + [with_interval(row, name) for name in ("gain_growth", "sam_improvement", "base_decline")]
                + [str(int(row["num_seeds"]))]
            )
    note = (
        f"Growth of the gain{write.gain_unit} = improvement of SAM + decline of the base, relative to the width at "
        "which the base is best (or to the smallest, if the base never declines), with 95 % intervals. The reference "
        "width of each seed is that at which the base of the other seeds is best, which avoids selection bias."
    )
    columns = [*front.columns, "growth of the gain", "SAM better by", "base worse by", "seeds"]
    return KeyTable(
        name="decomposition_table",
        title="Does SAM improve, or does the base decline?",
        caption="Growth of the gain as improvement of SAM and decline of the base",
        note=note,
        columns=columns,
        rows=cells,
    )


def slopes(parts: list[table.Part], write: Units) -> KeyTable:
    """Return the table of the trend of the gain with width."""
    cells = []
    for part in parts:
        slope, decided = estimates.slope(part.scores), part.verdict
        if is_missing(slope.value):
            continue
        rule = trend.paper_rule(part)
        rests = f" ({', '.join(f'{size:,}' for size in decided.rests_on)})" if decided.rests_on else ""
        peak = f" ({', '.join(f'{size:,}' for size in decided.peaks_at)})" if decided.peaks_at else ""
        cells.append(
            [
                part.name_in_domain or "all runs",
                write.gain(slope.value),
                write.interval(slope.low, slope.high),
                f"{write.gain(decided.rise.value)} ({write.interval(decided.rise.low, decided.rise.high)})",
                f"{_TRENDS[decided.kind]}{rests}{peak}",
                "–" if is_missing(slope.p_value) else f"{slope.p_value:.3g}",
                f"{len(part.scores.num_params)}",
                f"{slope.num_seeds}",
                f"{'yes' if rule.grows else 'no'} ({rule.num_rises} of {rule.num_steps} steps rise)",
            ]
        )
    note = (
        f"Slope of the corrected gain{write.gain_unit} per tenfold increase in parameters, all widths alike; the rise "
        "is the gain at the largest width minus the mean of the smaller half. The gain grows if the 95 % intervals of "
        "slope and rise are above zero and neither depends on a single width. The p-value is that of the slope. The "
        "paper's rule compares the uncorrected gain at the largest width with that at the smallest."
    )
    columns = ["runs", "slope", "95 % interval", "rise", "trend", "p-value", "widths", "seeds"]
    columns += ["grows by the paper's rule"]
    return KeyTable(
        name="trend_table",
        title="Does the gain grow with width?",
        caption="Trend of the gain with the number of parameters",
        note=note,
        columns=columns,
        rows=cells,
    )
