"""The tables of a domain, formatted from the tables of the analysis."""

from typing import TYPE_CHECKING, Any

from flatwide import paper
from flatwide.analysis import comparisons, fields, interpolation, table
from flatwide.analysis.metrics import Units
from flatwide.report import paper_tables, trend_tables
from flatwide.report.front import Front, front_of
from flatwide.report.key_table import KeyTable, Row, is_missing, rho

if TYPE_CHECKING:
    import pandas as pd


def key_tables(domain: table.Domain, summary: "pd.DataFrame", *, base: str, lost: str = "diverged") -> list[KeyTable]:
    """Return the tables of a domain.

    Args:
      summary: its rows, from `analysis.summary.summary`.
      base: name of the base optimizer.
      lost: label of runs whose status is diverged.
    """
    summary_rows = fields.records(summary) if len(summary) else []
    rows = [row for row in summary_rows if row["row"] == "width"]
    if not rows:
        return []
    all_runs = fields.records(domain.runs, [*fields.SHAPES, "num_params"])
    write, metric = domain.units, domain.question.metric
    front = front_of(rows, all_runs, domain.axes)
    key_tables_ = [_gain(rows, front, write, base, lost), _rho(rows, front, write)]
    tuned_rows = [row for row in summary_rows if row["row"] == "tuned"]
    axes = [name for name in domain.axes if any(not is_missing(row.get(name)) for row in tuned_rows)]
    key_tables_ += [_tuned(tuned_rows, front_of(tuned_rows, all_runs, axes), write, base)] if tuned_rows else []
    if any(not is_missing(row.get("equal_compute_gain")) for row in rows):
        key_tables_.append(
            paper_tables.equal_compute(rows, front, write, fields.records(paper.equal_compute_beside(domain.runs)))
        )
    key_tables_ += [_fit(rows, front)] if any("base_train_loss" in row for row in rows) else []
    key_tables_.append(paper_tables.beside(domain.parts, front, write, metric=metric, base=base))
    key_tables_.append(paper_tables.by_rho(domain.parts, front, write, metric=metric))
    key_tables_.append(trend_tables.growth(domain.parts, front, write))
    key_tables_.append(trend_tables.slopes(domain.parts, write))
    return [item for item in key_tables_ if item.rows]


def _gain(rows: list[Row], front: Front, write: Units, base: str, lost: str) -> KeyTable:
    columns = [
        f"{base}{write.value_unit}",
        f"SAM{write.value_unit}",
        f"gain{write.gain_unit}",
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
        f"Means over seeds of the {write.title}. The gain{write.gain_unit} is at the best rho of all seeds, which is "
        "optimistically biased; the corrected gain scores each seed at the rho that the other seeds choose, and its "
        "interval accounts for the choice. Runs that collapsed to chance are included."
    )
    return KeyTable(
        name="gain_by_width_table",
        title="The gain at each width",
        caption=f"Gain of SAM over {base} at each width",
        note=note,
        columns=[*front.columns, *columns],
        rows=cells,
    )


def _rho(rows: list[Row], front: Front, write: Units) -> KeyTable:
    edges = {
        "low": "smallest of the grid",
        "high": "largest of the grid",
        "low and high": "smallest and largest of the grid",
    }
    cells = [
        [
            *front.cells(row),
            rho(row["best_rho"]),
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
        caption="Best ρ at each width, with a 95 % confidence set",
        note=note,
        columns=[*columns, "at a grid edge"],
        rows=cells,
    )


def _tuned(rows: list[Row], front: Front, write: Units, base: str) -> KeyTable:
    words = {
        comparisons.SAME: f"SAM and {base} at the settings chosen by {base}",
        comparisons.TUNED: f"SAM and {base}, each at its own settings",
        comparisons.EQUAL_COMPUTE: f"the same, {base} longer, at equal compute",
        comparisons.AVERAGED: f"the same, the average of {base}",
        comparisons.AVERAGED_EQUAL_COMPUTE: f"the same, the average of {base} longer, at equal compute",
        comparisons.BOTH_AVERAGED: "the same, the averages of both",
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
        "intervals account for both choices."
    )
    columns = [
        *front.columns,
        "compared",
        f"{base}{write.value_unit}",
        f"SAM{write.value_unit}",
        f"choice of {base}",
        "choice of SAM",
    ]
    columns += [f"gain{write.gain_unit}", "95 % interval", f"settings of {base}, SAM", "seeds"]
    return KeyTable(
        name="tuned_gain",
        title="Fair comparison: each arm at its own settings",
        caption="Gain of SAM with each arm at its own settings",
        note=note,
        columns=columns,
        rows=cells,
    )


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
        caption="Training loss, and share of seeds that interpolate the training labels",
        note=note,
        columns=front.columns + columns,
        rows=cells,
    )
