"""Tables of how the gain changes with width, of one domain and of all."""

from flatwide.analysis import decomposition, estimates, fields, table, trend
from flatwide.analysis import verdict as verdicts
from flatwide.analysis.estimates import Estimate
from flatwide.analysis.metrics import Units, units_of
from flatwide.answers.overview import Entry
from flatwide.report.key_table import Front, KeyTable, bracketed, is_missing, key_table, number

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
    noun = "domain" if len({table.domain_key(entry.values) for entry in domains}) > 1 else "setting"
    cells = []
    for domain in domains:
        write = units_of(domain.metric_name, metric)

        def gain(mean: Estimate, write: Units = write) -> str:
            return write.gain(mean.value) if is_missing(mean.low) else bracketed(write, mean.value, mean.low, mean.high)

        ends = dict.fromkeys((*domain.sizes[:1], *domain.sizes[-1:]))
        cells.append(
            [
                (noun, domain.name or "all runs"),
                ("metric", write.title.removesuffix(write.value_unit) + write.gain_unit),
                ("base", domain.base),
                ("parameters", " to ".join(f"{size:,}" for size in ends) or "–"),
                ("gain at the smallest", gain(domain.smallest)),
                ("gain at the largest", gain(domain.largest)),
                ("slope", gain(domain.slope)),
                ("trend", _TRENDS[domain.verdict.kind]),
                ("best rho, by size", ", ".join(map(number, domain.best_rhos)) or "–"),
                ("seeds", str(domain.num_seeds)),
            ]
        )
    level = f"{100 * max((domain.level for domain in domains), default=0.95):.3g} %"
    return key_table(
        "domains_table",
        cells,
        title=f"The gain in every {noun}",
        caption=f"Gain of SAM in every {noun}",
        note="Gains are corrected for the choice of rho; the slope is per tenfold increase in parameters. Each "
        f"interval has a level of {level}, so that the intervals of a column hold for all rows together in 95 % of "
        "tables. Accuracies and mean average precisions are in percentage points, other metrics in their own unit; a "
        "positive gain means that SAM is better. Trends are decided by Holm's test at 5 % for all rows together.",
    )


def growth(parts: list[table.Part], front: Front, write: Units) -> KeyTable:
    """Return the table that splits the growth of the gain into improvement of SAM and decline of the base."""
    named = {"gain_growth": "growth of the gain", "sam_improvement": "SAM better by", "base_decline": "base worse by"}
    cells = [
        [
            *front(part.values | row),
            *(
                (heading, bracketed(write, row[name], row[f"{name}_low"], row[f"{name}_high"]))
                for name, heading in named.items()
            ),
            ("seeds", f"{row['num_seeds']:.0f}"),
        ]
        for part in parts
        for row in fields.records(decomposition.decompose(part))[1:]
    ]
    return key_table(
        "decomposition_table",
        cells,
        title="Does SAM improve, or does the base decline?",
        caption="Growth of the gain as improvement of SAM and decline of the base",
        note=f"Growth of the gain{write.gain_unit} = improvement of SAM + decline of the base, relative to the width "
        "at which the base is best (or to the smallest, if the base never declines), with 95 % intervals. The "
        "reference width of each seed is that at which the base of the other seeds is best, which avoids selection "
        "bias.",
    )


def slopes(parts: list[table.Part], write: Units) -> KeyTable:
    """Return the table of the trend of the gain with width."""
    cells = []
    for part in parts:
        slope, decided, rule = estimates.slope(part.scores), part.verdict, trend.paper_rule(part)
        if is_missing(slope.value):
            continue
        named = (", ".join(f"{size:,}" for size in some) for some in (decided.rests_on, decided.peaks_at) if some)
        cells.append(
            [
                ("runs", part.name_in_domain or "all runs"),
                ("slope", write.gain(slope.value)),
                ("95 % interval", write.interval(slope.low, slope.high)),
                ("rise", bracketed(write, decided.rise.value, decided.rise.low, decided.rise.high)),
                ("trend", "".join([_TRENDS[decided.kind], *(f" ({sizes})" for sizes in named)])),
                ("p-value", number(slope.p_value, ".3g")),
                ("widths", f"{len(part.scores.num_params)}"),
                ("seeds", f"{slope.num_seeds}"),
                (
                    "grows by the paper's rule",
                    f"{'yes' if rule.grows else 'no'} ({rule.num_rises} of {rule.num_steps} steps rise)",
                ),
            ]
        )
    return key_table(
        "trend_table",
        cells,
        title="Does the gain grow with width?",
        caption="Trend of the gain with the number of parameters",
        note=f"Slope of the corrected gain{write.gain_unit} per tenfold increase in parameters, all widths alike; the "
        "rise is the gain at the largest width minus the mean of the smaller half. The gain grows if the 95 % "
        "intervals of slope and rise are above zero and neither depends on a single width. The p-value is that of the "
        "slope. The paper's rule compares the uncorrected gain at the largest width with that at the smallest.",
    )
