"""Tables that compare the runs with the values of the paper, and with a base of equal compute."""

from flatwide import paper
from flatwide.analysis import fields, table
from flatwide.analysis.metrics import Units
from flatwide.report.front import Front
from flatwide.report.key_table import KeyTable, Row, is_missing


def equal_compute(rows: list[Row], front: Front, write: Units, printed: list[Row]) -> KeyTable:
    """Return the table of the gain over a base of equal compute.

    Args:
      printed: the same gains in the paper, where it has them.
    """
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
        f"computed the same number of gradients. Gains{write.gain_unit}, with 95 % intervals."
    )
    columns = [*front.columns, "gain at equal steps", "gain at equal compute", "95 % interval"]
    columns += ["paper's gain at equal compute"] if paper_rows else []
    return KeyTable(
        name="equal_compute_table",
        title="Is SAM worth its second gradient?",
        caption="Gain of SAM at equal steps and at equal compute",
        note=note,
        columns=columns,
        rows=cells,
    )


def beside(parts: list[table.Part], front: Front, write: Units, *, metric: str, base: str) -> KeyTable:
    """Return the table of the paper's values for the same networks."""
    cells = []
    for part in parts:
        for row in fields.records(paper.beside(part.runs, metric=metric, axes=list(part.settings))):
            if str(row["metric"]) not in set(part.runs["metric_name"].dropna()):
                continue
            values = [_with_band(write, row, name) for name in ("base", "sam", "gain")]
            radius = "–" if row["best_rho"] is None else f"{row['best_rho']:g}"
            cells.append([*front.cells(part.values | row), *values, radius, str(row["source"])])
    columns = [
        *front.columns,
        f"{base}{write.value_unit}",
        f"SAM{write.value_unit}",
        f"gain{write.gain_unit}",
        "best rho",
        "source",
    ]
    note = (
        "The paper's values for the same data, networks and settings, with half the width of its error band where it "
        "draws one. They were read off figures, to three or four digits; the length of training and other details may "
        "differ from yours."
    )
    return KeyTable(
        name="paper_table",
        title="The paper's values for these networks",
        caption="Values of the paper for the same networks",
        note=note,
        columns=columns,
        rows=cells,
    )


def by_rho(parts: list[table.Part], front: Front, write: Units, *, metric: str) -> KeyTable:
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
    columns = [*front.columns, "rho", write.title, f"paper's{write.value_unit}"]
    note = (
        "Means over seeds at every rho in figures 8 to 11 and 19 of the paper, where rho 0 is SGD; yours where there "
        "are runs."
    )
    return KeyTable(
        name="paper_by_rho_table",
        title="Every rho beside the paper's",
        caption="Mean over seeds at every ρ, beside the paper's value",
        note=note,
        columns=columns,
        rows=cells,
    )


def _with_band(write: Units, row: Row, name: str) -> str:
    """Return a value of the paper with its error band as text."""
    band = row.get(f"{name}_band")
    value = write.gain(row[name]) if name == "gain" else write.value(row[name])
    return value if band is None or row[name] is None else f"{value} ± {write.value(band)}"
