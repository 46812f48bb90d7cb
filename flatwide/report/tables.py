"""The tables of a page, formatted from the tables of the analysis."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

from flatwide.analysis import decomposition, fields, interpolation, paper, table, trend, tuned, widths
from flatwide.analysis import verdict as verdicts
from flatwide.analysis.intervals import Mean
from flatwide.analysis.overview import Entry
from flatwide.report.key_table import KeyTable, Row, Units, is_missing, units, width_text

if TYPE_CHECKING:
    import pandas as pd

_TRENDS = {
    verdicts.GROWS: "grows",
    verdicts.LARGER: "larger at large widths, but depends on a single width",
    verdicts.SHRINKS: "shrinks",
    verdicts.SMALLER: "smaller at large widths, but depends on a single width",
    verdicts.PEAKS: "peaks in between",
    verdicts.NO_TREND: "none detected",
    verdicts.UNKNOWN: "–",
}


def key_tables(
    runs: "pd.DataFrame",
    summary: "pd.DataFrame",
    *,
    metric: str,
    choose_by: str | None,
    base: str,
    lost: str = "diverged",
) -> list[KeyTable]:
    """Return the tables of a domain.

    Args:
      runs: the results table.
      summary: its summary, from `analysis.summary.summary`.
      base: name of the base optimizer.
      lost: label of runs whose status is diverged.
    """
    summary_rows = fields.records(summary) if len(summary) else []
    rows = [row for row in summary_rows if row["row"] == "width"]
    if not rows:
        return []
    all_runs = fields.records(runs)
    write = units(all_runs, metric=metric)
    front = front_of(rows, all_runs, table.axes(runs))
    key_tables_ = [_gain(rows, front, write, base, lost), _rho(rows, front, write)]
    tuned_rows = [row for row in summary_rows if row["row"] == "tuned"]
    axes = [name for name in table.axes(runs) if any(not is_missing(row.get(name)) for row in tuned_rows)]
    key_tables_ += [_tuned(tuned_rows, front_of(tuned_rows, all_runs, axes), write, base)] if tuned_rows else []
    if any(not is_missing(row.get("equal_compute_gain")) for row in rows):
        key_tables_.append(_equal_compute(rows, front, write, fields.records(paper.equal_compute_beside(runs))))
    key_tables_ += [_fit(rows, front)] if any("base_train_loss" in row for row in rows) else []
    parts = table.parts(runs)
    key_tables_.append(_beside(parts, front, write, metric=metric, base=base))
    key_tables_.append(_by_rho(parts, front, write, metric=metric))
    key_tables_.append(_growth(parts, front, write, metric=metric, choose_by=choose_by))
    key_tables_.append(_trend(parts, write, metric=metric, choose_by=choose_by))
    return [item for item in key_tables_ if item.rows]


def domains_table(domains: list[Entry], *, metric: str) -> KeyTable:
    """Return the table of all domains: the gain at both ends, its slope, and the best rho of each width."""
    cells = []
    for domain in domains:
        write = units([{"metric_name": domain.metric_name}], metric=metric)

        def gain(mean: Mean, write: Units = write) -> str:
            ends = "" if is_missing(mean.low) else f" ({write.interval(mean.low, mean.high)})"
            return write.gain(mean.mean) + ends

        slope = Mean(domain.slope.slope, domain.slope.standard_error, domain.slope.low, domain.slope.high)
        cells.append(
            [
                domain.name or "all runs",
                write.metric.removesuffix(write.unit) + write.points,
                domain.base,
                " to ".join(f"{size:,}" for size in dict.fromkeys((*domain.sizes[:1], *domain.sizes[-1:]))) or "–",
                gain(domain.smallest),
                gain(domain.largest),
                gain(slope),
                _TRENDS[domain.verdict.kind],
                ", ".join(map(_number, domain.best_rhos)) or "–",
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
    columns = ["domain", "metric", "base", "parameters", "gain at the smallest", "gain at the largest"]
    columns += ["slope", "trend", "best rho, by size", "seeds"]
    return KeyTable(name="domains_table", title="The gain in every domain", note=note, columns=columns, rows=cells)


class Front(NamedTuple):
    """The first columns of a table: the part of the runs, the width and the size."""

    columns: list[str]
    cells: Callable[[Row], list[str]]


def front_of(rows: list[Row], runs: list[Row], parts: list[str]) -> Front:
    """Return the first columns of a table: those of the parts, and the sizes that distinguish its widths."""
    of_size: dict[str, dict[Any, set[Any]]] = {name: {} for name in fields.SHAPES if name not in parts}
    for run in runs:
        for name, seen in of_size.items():
            seen.setdefault(run.get("num_params"), set()).add(run.get(name))
    sizes = [
        name
        for name, seen in of_size.items()
        if all(len(seen.get(row["num_params"], ())) == 1 for row in rows)
        and len({value for row in rows for value in seen[row["num_params"]]}) > 1
    ]

    def cells(row: Row) -> list[str]:
        size = [str(width_text(next(iter(of_size[name][row["num_params"]])))) for name in sizes]
        part_cells = ["" if is_missing(row.get(name)) else str(row[name]) for name in parts]
        return [*part_cells, *size, f"{int(row['num_params']):,}"]

    return Front([*parts, *sizes, "parameters"], cells)


def _gain(rows: list[Row], front: Front, write: Units, base: str, lost: str) -> KeyTable:
    columns = [
        f"{base}{write.unit}",
        f"SAM{write.unit}",
        f"gain{write.points}",
        "standard error",
        "corrected gain",
        "95 % interval",
        "selection bias",
        "seeds",
    ]
    columns += [lost, "collapsed"]
    cells = [
        [
            *front.cells(row),
            write.value(row["base"]),
            write.value(row["sam"]),
            write.gain(row["gain"]),
            write.value(row["standard_error"]),
            write.gain(row["corrected_gain"]),
            write.interval(row["corrected_low"], row["corrected_high"]),
            write.gain(row["selection_bias"]),
            str(int(row["num_seeds"])),
            str(int(row["num_diverged"])),
            str(int(row["num_collapsed"])),
        ]
        for row in rows
    ]
    note = (
        f"Means over seeds of the {write.metric}. The gain{write.points} is at the best rho of all seeds, which is "
        "optimistically biased; the corrected gain scores each seed at the rho that the other seeds choose, and its "
        "interval accounts for the choice. Runs that collapsed to chance are included."
    )
    return KeyTable(
        name="gain_by_width_table",
        title="The gain at each width",
        note=note,
        columns=[*front.columns, *columns],
        rows=cells,
    )


def _rho(rows: list[Row], front: Front, write: Units) -> KeyTable:
    edges = {"low": "smallest of the grid", "high": "largest of the grid"}
    cells = [
        [
            *front.cells(row),
            _number(row["best_rho"]),
            "–" if is_missing(row["best_rho_low"]) else f"{row['best_rho_low']:g} to {row['best_rho_high']:g}",
            str(row["best_rho_set"] or "–").replace(" ", ", "),
            str(int(row["num_rhos"])),
            edges.get(str(row["at_grid_edge"]), ""),
        ]
        for row in rows
    ]
    chosen = " and ".join(dict.fromkeys(str(row["chosen_by"]).replace("_", " ") for row in rows))
    note = (
        f"The best rho of the grid by the {chosen}, and a 95 % confidence set: every rho that no other rho is "
        "significantly better than. If the best rho is at an edge of the grid, a better one may lie outside."
    )
    columns = [*front.columns, "best rho", "95 % interval", "statistically indistinguishable rhos", "rhos compared"]
    return KeyTable(
        name="best_rho_table",
        title="Which rho for my width?",
        note=note,
        columns=[*columns, "at a grid edge"],
        rows=cells,
    )


def _tuned(rows: list[Row], front: Front, write: Units, base: str) -> KeyTable:
    words = {
        tuned.SAME: f"SAM and {base} at the settings chosen by {base}",
        tuned.TUNED: f"SAM and {base}, each at its own settings",
        tuned.TWICE: f"the same, {base} for twice as long",
        tuned.AVERAGED: f"the same, the average of {base}",
        tuned.AVERAGED_TWICE: f"the same, the average of {base} for twice as long",
        tuned.BOTH_AVERAGED: "the same, the averages of both",
    }
    cells = [
        [
            *front.cells(row),
            words[row["comparison"]],
            write.value(row["base"]),
            write.value(row["sam"]),
            row["base_choice"] + (" *" if row["base_at_edge"] else ""),
            row["sam_choice"] + (" *" if row["sam_at_edge"] else ""),
            write.gain(row["tuned_gain"]),
            write.interval(row["tuned_low"], row["tuned_high"]),
            f"{int(row['num_base_cells'])}, {int(row['num_sam_cells'])}",
            str(int(row["num_seeds"])),
        ]
        for row in rows
    ]
    note = (
        "In both arms each seed is scored at the settings that the other seeds choose. The choices shown are those of "
        "all seeds; a star marks a choice at an edge of its grid, so that a better one may lie outside. The 95 % "
        "intervals are simulated for the number of seeds and of settings."
    )
    columns = [
        *front.columns,
        "compared",
        f"{base}{write.unit}",
        f"SAM{write.unit}",
        f"choice of {base}",
        "choice of SAM",
    ]
    columns += [f"gain{write.points}", "95 % interval", f"settings of {base}, SAM", "seeds"]
    return KeyTable(
        name="tuned_gain", title="Fair comparison: each arm at its own settings", note=note, columns=columns, rows=cells
    )


def _equal_compute(rows: list[Row], front: Front, write: Units, printed: list[Row]) -> KeyTable:
    paper_rows = {row["num_params"]: row for row in printed}

    def of_paper(row: Row) -> list[str]:
        paper_row = paper_rows.get(row["num_params"])
        return ["–" if paper_row is None else _with_band(write, paper_row, "gain")] if paper_rows else []

    cells = [
        [
            *front.cells(row),
            write.gain(row["gain"]),
            write.gain(row["equal_compute_gain"]),
            write.interval(row["equal_compute_low"], row["equal_compute_high"]),
            *of_paper(row),
        ]
        for row in rows
        if not is_missing(row.get("equal_compute_gain"))
    ]
    note = (
        "SAM computes two gradients per step, or one while it is off. Here the base was trained longer, so that both "
        f"computed the same number of gradients. Gains{write.points}, with t intervals."
    )
    columns = [*front.columns, "gain at equal steps", "gain at equal compute", "95 % interval"]
    columns += ["paper's gain at equal compute"] if paper_rows else []
    return KeyTable(
        name="equal_compute_table", title="Is SAM worth its second gradient?", note=note, columns=columns, rows=cells
    )


def _beside(parts: list[table.Part], front: Front, write: Units, *, metric: str, base: str) -> KeyTable:
    """Return the table of the paper's values for the same networks."""
    cells = []
    for part in parts:
        for row in fields.records(paper.beside(part.runs, metric=metric, axes=list(part.values))):
            if str(row["metric"]) not in set(part.runs["metric_name"].dropna()):
                continue
            values = [_with_band(write, row, name) for name in ("base", "sam", "gain")]
            radius = "–" if row["best_rho"] is None else f"{row['best_rho']:g}"
            cells.append([*front.cells(part.values | row), *values, radius, str(row["source"])])
    columns = [*front.columns, f"{base}{write.unit}", f"SAM{write.unit}", f"gain{write.points}", "best rho", "source"]
    note = (
        "The paper's values for the same data, networks and settings, with half the width of its error band where it "
        "draws one. They were read off figures, to three or four digits; the length of training and other details may "
        "differ from yours."
    )
    return KeyTable(
        name="paper_table", title="The paper's values for these networks", note=note, columns=columns, rows=cells
    )


def _by_rho(parts: list[table.Part], front: Front, write: Units, *, metric: str) -> KeyTable:
    """Return the table of the metric at every rho in the paper, beside that of the runs."""
    cells = []
    for part in parts:
        printed = fields.records(paper.rho_beside(part.runs, metric=metric))
        done = fields.done(part.runs, [metric, "num_params"]) if printed else []
        scores: dict[tuple[int, float], list[float]] = {}
        for row in done:
            if row[metric] is not None:
                scores.setdefault((row["num_params"], fields.effective_rho(row)), []).append(row[metric])
        for row in printed:
            matches = scores.get((row["num_params"], row["rho"]))
            mean = "–" if matches is None else write.value(sum(matches) / len(matches))
            cells.append([*front.cells(part.values | row), f"{row['rho']:g}", mean, write.value(row["value"])])
    columns = [*front.columns, "rho", write.metric, f"paper's{write.unit}"]
    note = (
        "Means over seeds at every rho in figures 8 to 11 and 19 of the paper, where rho 0 is SGD; yours where there "
        "are runs."
    )
    return KeyTable(
        name="paper_by_rho_table", title="Every rho beside the paper's", note=note, columns=columns, rows=cells
    )


def _with_band(write: Units, row: Row, name: str) -> str:
    """Return a value of the paper with its error band as text."""
    band = row.get(f"{name}_band")
    value = write.gain(row[name]) if name == "gain" else write.value(row[name])
    return value if band is None or row[name] is None else f"{value} ± {write.value(band)}"


def _fit(rows: list[Row], front: Front) -> KeyTable:
    def share(value: Any) -> str:
        return "–" if is_missing(value) else f"{100 * value:.0f} %"

    def loss(value: Any) -> str:
        return "–" if is_missing(value) else f"{value:.3g}"

    cells = [
        [
            *front.cells(row),
            *(loss(row.get(f"{arm}_train_loss")) for arm in ("base", "sam")),
            *(share(row.get(f"{arm}_interpolates")) for arm in ("base", "sam")),
        ]
        for row in rows
    ]
    note = (
        "A network interpolates if it fits at least 99.9 % of its training labels or, if the metric is not a fraction, "
        f"has a training loss of at most {interpolation.LOSS_NEEDED:g}. SAM is at its best rho."
    )
    columns = ["base training loss", "SAM training loss", "base seeds that interpolate", "SAM seeds that interpolate"]
    return KeyTable(
        name="interpolation_table",
        title="Where the networks interpolate the training labels",
        note=note,
        columns=front.columns + columns,
        rows=cells,
    )


def _growth(parts: list[table.Part], front: Front, write: Units, *, metric: str, choose_by: str | None) -> KeyTable:
    def with_interval(row: Row, name: str) -> str:
        return f"{write.gain(row[name])} ({write.interval(row[f'{name}_low'], row[f'{name}_high'])})"

    cells = []
    for part in parts:
        growth = fields.records(decomposition.decompose(part.runs, metric=metric, choose_by=choose_by))
        for row in growth[1:]:
            cells.append(
                front.cells(part.values | row)
                + [with_interval(row, name) for name in ("gain_growth", "sam_improvement", "base_decline")]
                + [str(int(row["num_seeds"]))]
            )
    note = (
        f"Growth of the gain{write.points} = improvement of SAM + decline of the base, relative to the width at which "
        "the base is best (or to the smallest, if the base never declines), with 95 % intervals. The reference width "
        "of each seed is that at which the base of the other seeds is best, which avoids selection bias."
    )
    columns = [*front.columns, "growth of the gain", "SAM better by", "base worse by", "seeds"]
    return KeyTable(
        name="decomposition_table",
        title="Does SAM improve, or does the base decline?",
        note=note,
        columns=columns,
        rows=cells,
    )


def _trend(parts: list[table.Part], write: Units, *, metric: str, choose_by: str | None) -> KeyTable:
    cells = []
    options = {"metric": metric, "choose_by": choose_by}
    for part, weights in zip(parts, trend.weights_of_parts(parts, **options), strict=True):
        scores = trend.scores(widths.by_width(part.runs, **options), weights=weights)
        slope, decided = trend.of_scores(scores), verdicts.verdict(scores)
        if slope.num_widths < 2 or is_missing(slope.slope):
            continue
        rule = trend.paper_rule(part.runs, metric=metric)
        rests = f" ({', '.join(f'{size:,}' for size in decided.rests_on)})" if decided.rests_on else ""
        peak = f" ({', '.join(f'{size:,}' for size in decided.peaks_at)})" if decided.peaks_at else ""
        cells.append(
            [
                part.name or "all runs",
                write.gain(slope.slope),
                write.interval(slope.low, slope.high),
                f"{write.gain(decided.rise.mean)} ({write.interval(decided.rise.low, decided.rise.high)})",
                f"{_TRENDS[decided.kind]}{rests}{peak}",
                f"{write.gain(slope.unweighted.mean)} ({write.interval(slope.unweighted.low, slope.unweighted.high)})",
                f"{slope.p_value:.3g}",
                f"{slope.num_widths}",
                f"{slope.num_seeds}",
                f"{'yes' if rule.grows else 'no'} ({rule.num_rises} of {rule.num_steps} steps rise)",
            ]
        )
    note = (
        f"Slope of the corrected gain{write.points} per tenfold increase in parameters, with widths weighted by the "
        "estimated precision of their gains, and unweighted; the rise is the gain at the largest width minus the "
        "weighted mean of the smaller half. The gain grows if the 95 % intervals of slope and rise are above zero and "
        "neither depends on a single width. The p-value is the share of all orderings of the widths with at least the "
        "unweighted slope. The paper's rule compares the uncorrected gain at the largest width with that at the "
        "smallest."
    )
    columns = ["runs", "slope", "95 % interval", "rise", "trend", "unweighted slope", "p-value", "widths", "seeds"]
    columns += ["grows by the paper's rule"]
    return KeyTable(name="trend_table", title="Does the gain grow with width?", note=note, columns=columns, rows=cells)


def _number(value: Any) -> str:
    return "–" if is_missing(value) else f"{value:g}"
