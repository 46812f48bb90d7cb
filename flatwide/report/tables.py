"""The tables of a page: numbers as a reader wants them, from the tables of the analysis."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

from flatwide.analysis import decomposition, fields, interpolation, paper, table, trend, tuned, widths
from flatwide.analysis import verdict as verdicts
from flatwide.analysis.intervals import Mean
from flatwide.analysis.overview import Entry
from flatwide.report.key_table import KeyTable, Row, Units, is_missing, units

if TYPE_CHECKING:
    import pandas as pd

_TRENDS = {
    verdicts.GROWS: "grows",
    verdicts.LARGER: "larger at large widths, resting on one",
    verdicts.SHRINKS: "shrinks",
    verdicts.SMALLER: "smaller at large widths, resting on one",
    verdicts.PEAKS: "peaks in between",
    verdicts.NO_TREND: "none shown",
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
    """Make the tables that a reader looks up.

    Args:
      runs: the results table.
      summary: what `analysis.summary.summary` makes of it.
      base: name of the base optimizer.
      lost: what a run is called whose status is diverged.
    """
    every = fields.records(summary) if len(summary) else []
    rows = [row for row in every if row["row"] == "width"]
    if not rows:
        return []
    all_runs = fields.records(runs)
    write = units(all_runs, metric=metric)
    front = front_of(rows, all_runs, table.axes(runs))
    found = [_gain(rows, front, write, base, lost), _rho(rows, front, write)]
    fair = [row for row in every if row["row"] == "tuned"]
    axes = [name for name in table.axes(runs) if any(not is_missing(row.get(name)) for row in fair)]
    found += [_tuned(fair, front_of(fair, all_runs, axes), write, base)] if fair else []
    if any(not is_missing(row.get("equal_compute_gain")) for row in rows):
        found.append(_equal_compute(rows, front, write, fields.records(paper.equal_compute_beside(runs))))
    found += [_fit(rows, front)] if any("base_train_loss" in row for row in rows) else []
    parts = table.parts(runs)
    found.append(_beside(parts, front, write, metric=metric, base=base))
    found.append(_by_rho(parts, front, write, metric=metric))
    found.append(_growth(parts, front, write, metric=metric, choose_by=choose_by))
    found.append(_trend(parts, write, metric=metric, choose_by=choose_by))
    return [one for one in found if one.rows]


def domains_table(entries: list[Entry], *, metric: str) -> KeyTable:
    """Make the table of every domain: the gain at both ends, its slope, and the best rho of each width."""
    cells = []
    for entry in entries:
        write = units([{"metric_name": entry.metric_name}], metric=metric)

        def gain(found: Mean, write: Units = write) -> str:
            ends = "" if is_missing(found.low) else f" ({write.interval(found.low, found.high)})"
            return write.gain(found.mean) + ends

        slope = Mean(entry.slope.slope, entry.slope.standard_error, entry.slope.low, entry.slope.high)
        cells.append(
            [
                entry.name or "all runs",
                write.metric.removesuffix(write.unit) + write.points,
                entry.base,
                " to ".join(f"{size:,}" for size in dict.fromkeys((*entry.sizes[:1], *entry.sizes[-1:]))) or "–",
                gain(entry.smallest),
                gain(entry.largest),
                gain(slope),
                _TRENDS[entry.verdict.kind],
                ", ".join(map(_number, entry.best_rhos)) or "–",
                str(entry.num_seeds),
            ]
        )
    level = f"{100 * max((entry.level for entry in entries), default=0.95):.3g} %"
    note = (
        f"Gains corrected for the choice of rho; the slope is for ten times the parameters. The intervals have {level} "
        "each, so that those of one column hold for all rows together in 95 % of tables. "
        "Accuracies and mean average precisions are in percentage points, other metrics in their own unit, and a gain "
        "above zero means that SAM is better. The trend is by Holm's test at 5 % for all rows together."
    )
    columns = ["domain", "metric", "base", "parameters", "gain at the smallest", "gain at the largest"]
    columns += ["slope", "trend", "best rho, by size", "seeds"]
    return KeyTable(name="domains_table", title="The gain in every domain", note=note, columns=columns, rows=cells)


class Front(NamedTuple):
    """The first cells of each row: what part it is of, its width and its size."""

    columns: list[str]
    cells: Callable[[Row], list[str]]


def front_of(rows: list[Row], runs: list[Row], parts: list[str]) -> Front:
    """Choose the first cells of the rows of a table: the columns of parts, and the sizes that tell widths apart."""
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
        size = [str(next(iter(of_size[name][row["num_params"]]))) for name in sizes]
        own = ["" if is_missing(row.get(name)) else str(row[name]) for name in parts]
        return [*own, *size, f"{int(row['num_params']):,}"]

    return Front([*parts, *sizes, "parameters"], cells)


def _gain(rows: list[Row], front: Front, write: Units, base: str, lost: str) -> KeyTable:
    columns = [
        f"{base}{write.unit}",
        f"SAM{write.unit}",
        f"gain{write.points}",
        "standard error",
        "corrected gain",
        "95 % interval",
        "bias of choosing",
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
        f"Means over seeds of the {write.metric}. The gain{write.points} is at the best rho of all seeds, which picks "
        "some luck; the corrected gain scores each seed at the rho that the other seeds choose, and its interval "
        "allows for the choice. Runs that collapsed to chance are counted in it."
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
        f"The best rho of the grid by the {chosen}, and every rho that no other is significantly better than: a 95 % "
        "confidence set. Where it stands at an end of the grid, a better one may lie beyond."
    )
    columns = [*front.columns, "best rho", "95 % interval", "rhos that the seeds cannot tell apart", "rhos compared"]
    return KeyTable(
        name="best_rho_table", title="Which rho for my width?", note=note, columns=[*columns, "at an end"], rows=cells
    )


def _tuned(rows: list[Row], front: Front, write: Units, base: str) -> KeyTable:
    words = {
        tuned.SAME: f"SAM and {base} at the settings that {base} chooses",
        tuned.TUNED: f"SAM and {base}, each at its own",
        tuned.TWICE: f"the same, {base} for twice as long",
        tuned.EQUAL_GRADIENTS: f"the same, {base} for as many gradients",
        tuned.AVERAGED: f"the same, the average of {base}",
        tuned.AVERAGED_TWICE: f"the same, the average of {base} for twice as long",
        tuned.AVERAGED_EQUAL_GRADIENTS: f"the same, the average of {base} for as many gradients",
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
        "Each seed is scored at the settings that the other seeds choose, in both arms alike; the choices shown are "
        "those of all seeds, with a star where one is at the end of its grid, so that a better may lie beyond. The "
        "95 % intervals are simulated for the number of seeds and of settings."
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
        name="tuned_gain", title="A fair fight: each arm at settings of its own", note=note, columns=columns, rows=cells
    )


def _equal_compute(rows: list[Row], front: Front, write: Units, printed: list[Row]) -> KeyTable:
    theirs = {row["num_params"]: row for row in printed}

    def of_paper(row: Row) -> list[str]:
        found = theirs.get(row["num_params"])
        return ["–" if found is None else _with_band(write, found, "gain")] if theirs else []

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
        "SAM takes two gradients a step, or one where it is off. Here its base was trained for so much longer that "
        "both have had as many. "
        f"Gains{write.points}, with their t interval."
    )
    columns = [*front.columns, "gain at equal steps", "gain at equal compute", "95 % interval"]
    columns += ["paper's gain at equal compute"] if theirs else []
    return KeyTable(
        name="equal_compute_table", title="Is SAM worth its second gradient?", note=note, columns=columns, rows=cells
    )


def _beside(parts: list[table.Part], front: Front, write: Units, *, metric: str, base: str) -> KeyTable:
    """Make the table of what the paper prints for the same networks."""
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
        "What the paper prints for the same data, networks and settings, with half of the band that it draws where it "
        "draws one. It was read off figures, to three or four digits; the length of training and more may differ from "
        "yours."
    )
    return KeyTable(
        name="paper_table", title="The paper's values for these networks", note=note, columns=columns, rows=cells
    )


def _by_rho(parts: list[table.Part], front: Front, write: Units, *, metric: str) -> KeyTable:
    """Make the table of the metric at every rho that the paper tells of, beside ours."""
    cells = []
    for part in parts:
        printed = fields.records(paper.rho_beside(part.runs, metric=metric))
        done = fields.done(part.runs, [metric, "num_params"]) if printed else []
        ours: dict[tuple[int, float], list[float]] = {}
        for row in done:
            if row[metric] is not None:
                ours.setdefault((row["num_params"], fields.effective_rho(row)), []).append(row[metric])
        for row in printed:
            own = ours.get((row["num_params"], row["rho"]))
            mean = "–" if own is None else write.value(sum(own) / len(own))
            cells.append([*front.cells(part.values | row), f"{row['rho']:g}", mean, write.value(row["value"])])
    columns = [*front.columns, "rho", write.metric, f"paper's{write.unit}"]
    note = (
        "Means over seeds at every rho of the paper's figures 8 to 11 and 19, rho 0 being its SGD; ours where there "
        "are runs."
    )
    return KeyTable(
        name="paper_by_rho_table", title="Every rho beside the paper's", note=note, columns=columns, rows=cells
    )


def _with_band(write: Units, row: Row, name: str) -> str:
    """Write a value of the paper with its band."""
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
        "A network interpolates where it fits the labels that it was trained on: 99.9 % of them, or a loss of at most "
        f"{interpolation.LOSS_NEEDED:g} where the metric is no fraction. SAM is at its best rho."
    )
    columns = ["base training loss", "SAM training loss", "base seeds that interpolate", "SAM seeds that interpolate"]
    return KeyTable(
        name="interpolation_table",
        title="Where networks fit all they are shown",
        note=note,
        columns=front.columns + columns,
        rows=cells,
    )


def _growth(parts: list[table.Part], front: Front, write: Units, *, metric: str, choose_by: str | None) -> KeyTable:
    def with_interval(row: Row, name: str) -> str:
        return f"{write.gain(row[name])} ({write.interval(row[f'{name}_low'], row[f'{name}_high'])})"

    cells = []
    for part in parts:
        found = fields.records(decomposition.decompose(part.runs, metric=metric, choose_by=choose_by))
        for row in found[1:]:
            cells.append(
                front.cells(part.values | row)
                + [with_interval(row, name) for name in ("gain_growth", "sam_improvement", "base_decline")]
                + [str(int(row["num_seeds"]))]
            )
    note = (
        f"Growth of the gain{write.points} = SAM getting better + the base getting worse, since the width at which the "
        "base is best (or since the smallest, where the base never gets worse), with 95 % intervals. Each seed counts "
        "from the width at which the base of the other seeds is best, so that none picks its luck."
    )
    columns = [*front.columns, "growth of the gain", "SAM better by", "base worse by", "seeds"]
    return KeyTable(
        name="decomposition_table",
        title="Is it SAM getting better, or the base getting worse?",
        note=note,
        columns=columns,
        rows=cells,
    )


def _trend(parts: list[table.Part], write: Units, *, metric: str, choose_by: str | None) -> KeyTable:
    cells = []
    options = {"metric": metric, "choose_by": choose_by}
    for part, weights in zip(parts, trend.weights_of_parts(parts, **options), strict=True):
        scores = trend.scores(widths.by_width(part.runs, **options), weights=weights)
        found, decided = trend.of_scores(scores), verdicts.verdict(scores)
        if found.num_widths < 2 or is_missing(found.slope):
            continue
        rule = trend.paper_rule(part.runs, metric=metric)
        rests = f" ({', '.join(f'{size:,}' for size in decided.rests_on)})" if decided.rests_on else ""
        peak = f" ({', '.join(f'{size:,}' for size in decided.peaks_at)})" if decided.peaks_at else ""
        cells.append(
            [
                part.name or "all runs",
                write.gain(found.slope),
                write.interval(found.low, found.high),
                f"{write.gain(decided.rise.mean)} ({write.interval(decided.rise.low, decided.rise.high)})",
                f"{_TRENDS[decided.kind]}{rests}{peak}",
                f"{write.gain(found.unweighted.mean)} ({write.interval(found.unweighted.low, found.unweighted.high)})",
                f"{found.p_value:.3g}",
                f"{found.num_widths}",
                f"{found.num_seeds}",
                f"{'yes' if rule.grows else 'no'} ({rule.num_rises} of {rule.num_steps} steps rise)",
            ]
        )
    note = (
        f"Slope of the corrected gain{write.points} for ten times the parameters, each width weighted by how quiet its "
        "runs are, and with all widths alike; the rise is the gain at the largest width less the weighted mean of the "
        "smaller half. The gain grows if slope and rise are above zero by their 95 % intervals and neither rests on "
        "one width. The p-value is the share of all orders of the widths that give at least the unweighted slope. The "
        "paper's rule asks whether the plain gain at the largest width is above that at the smallest."
    )
    columns = ["runs", "slope", "95 % interval", "rise", "trend", "unweighted slope", "p-value", "widths", "seeds"]
    columns += ["grows by the paper's rule"]
    return KeyTable(name="trend_table", title="Does the gain grow with width?", note=note, columns=columns, rows=cells)


def _number(value: Any) -> str:
    return "–" if is_missing(value) else f"{value:g}"
