"""The tables of a domain, formatted from the tables of the analysis."""

from typing import TYPE_CHECKING

from flatwide import paper
from flatwide.analysis import comparisons, fields, interpolation, table
from flatwide.analysis.metrics import Units
from flatwide.report import paper_tables, setting_tables, trend_tables
from flatwide.report.key_table import Front, KeyTable, Row, front_of, is_missing, key_table, number

if TYPE_CHECKING:
    import pandas as pd

_ARMS = (("base", "base"), ("SAM", "sam"))
_EDGES = {
    "low": "smallest of the grid",
    "high": "largest of the grid",
    "low and high": "smallest and largest of the grid",
}


def key_tables(
    domain: table.Domain, summary: "pd.DataFrame", *, base: str, lost: str = "diverged", are_ours: bool = True
) -> list[KeyTable]:
    """Return the tables of a domain.

    Args:
      summary: its rows, from `analysis.summary.summary`.
      base: name of the base optimizer.
      lost: label of runs whose status is diverged.
      are_ours: whether flatwide trained the runs.
    """
    summary_rows = fields.records(summary) if len(summary) else []
    rows = [row for row in summary_rows if row["row"] == "width"]
    if not rows:
        return []
    all_runs = fields.records(domain.runs, [*fields.SHAPES, "num_params"])
    write, metric = domain.units, domain.question.metric
    front = front_of(rows, all_runs, domain.axes)
    tuned = [row for row in summary_rows if row["row"] == "tuned"]
    axes = [name for name in domain.axes if any(not is_missing(row.get(name)) for row in tuned)]
    listed = [
        _gain(rows, front, write, base, lost),
        _rho(rows, front),
        _tuned(tuned, front_of(tuned, all_runs, axes), write, base),
        paper_tables.equal_compute(rows, front, write, fields.records(paper.equal_compute_beside(domain.runs))),
        _fit(rows if any("base_train_loss" in row for row in rows) else [], front),
        paper_tables.beside(domain.parts, front, write, metric=metric, base=base),
        paper_tables.by_rho(domain.parts, front, write, metric=metric),
        trend_tables.growth(domain.parts, front, write),
        trend_tables.slopes(domain.parts, write),
        setting_tables.advised(domain, are_ours=are_ours),
        setting_tables.transferred(domain),
    ]
    return [each for each in listed if each.rows]


def _gain(rows: list[Row], front: Front, write: Units, base: str, lost: str) -> KeyTable:
    cells = [
        [
            *front(row),
            (f"{base}{write.value_unit}", write.value(row["base"])),
            (f"SAM{write.value_unit}", write.value(row["sam"])),
            (f"gain{write.gain_unit}", write.gain(row["gain"])),
            ("standard error", write.value(row["standard_error"])),
            ("corrected gain", write.gain(row["corrected_gain"])),
            ("95 % interval", write.interval(row["corrected_low"], row["corrected_high"])),
            ("selection bias", write.gain(row["selection_bias"])),
            ("seeds", f"{row['num_seeds']:.0f}"),
            (lost, f"{row['num_diverged']:.0f}"),
            ("collapsed", f"{row['num_collapsed']:.0f}"),
        ]
        for row in rows
    ]
    return key_table(
        "gain_by_width_table",
        cells,
        title="The gain at each width",
        caption=f"Gain of SAM over {base} at each width",
        note=f"Means over seeds of the {write.title}. The gain{write.gain_unit} is at the best rho of all seeds, which "
        "is optimistically biased; the corrected gain scores each seed at the rho that the other seeds choose, and its "
        "interval accounts for the choice. Runs that collapsed to chance are included.",
    )


def _rho(rows: list[Row], front: Front) -> KeyTable:
    cells = [
        [
            *front(row),
            ("best rho", number(row["best_rho"])),
            (
                "95 % interval",
                "–" if is_missing(row["best_rho_low"]) else f"{row['best_rho_low']:g} to {row['best_rho_high']:g}",
            ),
            ("statistically indistinguishable rhos", str(row["best_rho_set"] or "–").replace(" ", ", ")),
            ("rhos compared", f"{row['num_rhos']:.0f}"),
            ("at a grid edge", _EDGES.get(str(row["at_grid_edge"]), "")),
        ]
        for row in rows
    ]
    chosen = " and ".join(dict.fromkeys(str(row["chosen_by"]).replace("_", " ") for row in rows))
    return key_table(
        "best_rho_table",
        cells,
        title="Which rho for my width?",
        caption="Best ρ at each width, with a 95 % confidence set",
        note=f"The best rho of the grid by the {chosen}, and a 95 % confidence set: every rho that no other rho is "
        "significantly better than. If the best rho is at an edge of the grid, a better one may lie outside.",
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
            *front(row),
            ("compared", words[row["comparison"]]),
            (f"{base}{write.value_unit}", write.value(row["base"])),
            (f"SAM{write.value_unit}", write.value(row["sam"])),
            (f"choice of {base}", row["base_choice"] + (" *" if row["base_at_edge"] else "")),
            ("choice of SAM", row["sam_choice"] + (" *" if row["sam_at_edge"] else "")),
            (f"gain{write.gain_unit}", write.gain(row["tuned_gain"])),
            ("95 % interval", write.interval(row["tuned_low"], row["tuned_high"])),
            (f"settings of {base}, SAM", f"{row['num_base_cells']:.0f}, {row['num_sam_cells']:.0f}"),
            ("seeds", f"{row['num_seeds']:.0f}"),
        ]
        for row in rows
    ]
    return key_table(
        "tuned_gain",
        cells,
        title="Fair comparison: each arm at its own settings",
        caption="Gain of SAM with each arm at its own settings",
        note="In both arms each seed is scored at the settings that the other seeds choose. The choices shown are "
        "those of all seeds; a star marks a choice at an edge of its grid, so that a better one may lie outside. The "
        "95 % intervals account for both choices.",
    )


def _fit(rows: list[Row], front: Front) -> KeyTable:
    cells = [
        front(row)
        + [(f"{name} training loss", number(row.get(f"{arm}_train_loss"), ".3g")) for name, arm in _ARMS]
        + [
            (f"{name} seeds that interpolate", number(row.get(f"{arm}_interpolates"), ".0%").replace("%", " %"))
            for name, arm in _ARMS
        ]
        for row in rows
    ]
    return key_table(
        "interpolation_table",
        cells,
        title="Where the networks interpolate the training labels",
        caption="Training loss, and share of seeds that interpolate the training labels",
        note="A network interpolates if it fits at least 99.9 % of its training labels or, if the metric is not a "
        f"fraction, has a training loss of at most {interpolation.LOSS_NEEDED:g}. SAM is at its best rho.",
    )
