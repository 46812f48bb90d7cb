"""Tables that compare the runs with the values of the paper, and with a base of equal compute."""

from flatwide import paper
from flatwide.analysis import fields, table
from flatwide.analysis.metrics import Units
from flatwide.report.key_table import Front, KeyTable, Row, is_missing, key_table, number


def equal_compute(rows: list[Row], front: Front, write: Units, printed: list[Row]) -> KeyTable:
    """Return the table of the gain over a base of equal compute.

    Args:
      printed: the same gains in the paper, where it has them.
    """
    of_paper = {row["num_params"]: _with_band(write, row, "gain") for row in printed}
    cells = [
        [
            *front(row),
            ("gain at equal steps", write.gain(row["gain"])),
            ("gain at equal compute", write.gain(row["equal_compute_gain"])),
            ("95 % interval", write.interval(row["equal_compute_low"], row["equal_compute_high"])),
            *([("paper's gain at equal compute", of_paper.get(row["num_params"], "–"))] if of_paper else []),
        ]
        for row in rows
        if not is_missing(row.get("equal_compute_gain"))
    ]
    return key_table(
        "equal_compute_table",
        cells,
        title="Is SAM worth its second gradient?",
        caption="Gain of SAM at equal steps and at equal compute",
        note="SAM computes two gradients per step, or one while it is off. Here the base was trained longer, so that "
        f"both computed the same number of gradients. Gains{write.gain_unit}, with 95 % intervals.",
    )


def beside(parts: list[table.Part], front: Front, write: Units, *, metric: str, base: str) -> KeyTable:
    """Return the table of the paper's values for the same networks."""
    cells = [
        [
            *front(part.values | row),
            (f"{base}{write.value_unit}", _with_band(write, row, "base")),
            (f"SAM{write.value_unit}", _with_band(write, row, "sam")),
            (f"gain{write.gain_unit}", _with_band(write, row, "gain")),
            ("best rho", number(row["best_rho"])),
            ("source", str(row["source"])),
        ]
        for part in parts
        for row in fields.records(paper.beside(part.runs, metric=metric, axes=list(part.settings)))
        if str(row["metric"]) in set(part.runs["metric_name"].dropna())
    ]
    return key_table(
        "paper_table",
        cells,
        title="The paper's values for these networks",
        caption="Values of the paper for the same networks",
        note="The paper's values for the same data, networks and settings, with half the width of its error band where "
        "it draws one. They were read off figures, to three or four digits; the length of training and other details "
        "may differ from yours.",
    )


def by_rho(parts: list[table.Part], front: Front, write: Units, *, metric: str) -> KeyTable:
    """Return the table of the metric at every rho in the paper, beside that of the runs."""
    cells = []
    for part in parts:
        printed = fields.records(paper.rho_beside(part.runs, metric=metric))
        scores: dict[tuple[int, float], list[float]] = {}
        for row in fields.done(part.runs, [metric, "num_params"]) if printed else ():
            if row[metric] is not None:
                scores.setdefault((row["num_params"], fields.effective_rho(row)), []).append(row[metric])
        means = {at: write.value(sum(values) / len(values)) for at, values in scores.items()}
        cells += [
            [
                *front(part.values | row),
                ("rho", f"{row['rho']:g}"),
                (write.title, means.get((row["num_params"], row["rho"]), "–")),
                (f"paper's{write.value_unit}", write.value(row["value"])),
            ]
            for row in printed
        ]
    return key_table(
        "paper_by_rho_table",
        cells,
        title="Every rho beside the paper's",
        caption="Mean over seeds at every ρ, beside the paper's value",
        note="Means over seeds at every rho in figures 8 to 11 and 19 of the paper, where rho 0 is SGD; yours where "
        "there are runs.",
    )


def _with_band(write: Units, row: Row, name: str) -> str:
    """Return a value of the paper with its error band as text."""
    band = row.get(f"{name}_band")
    value = write.gain(row[name]) if name == "gain" else write.value(row[name])
    return value if band is None or row[name] is None else f"{value} ± {write.value(band)}"
