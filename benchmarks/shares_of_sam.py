"""Accuracy and curvature of the study late_sam by the share of steps with SAM, at equal steps and at equal gradients.

Run:     python benchmarks/shares_of_sam.py W [--output=docs/studies/late_sam]        (seconds)
Reads:   results.csv of a work directory that the study has trained and measured.
Writes:  shares.csv and shares.svg: of each width, budget and schedule the accuracy at the best rho, its gain over SGD
         of the same budget (corrected for the choice of rho, 95 % interval), and the top eigenvalue there.
"""

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd

from flatwide.analysis import estimates, fields, gain, table
from flatwide.columns import RESULT_FIELDS
from flatwide.figures import style
from flatwide.figures.save import save

STEPS, GRADIENTS = "equal steps", "equal gradients"
EIGENVALUE = "curvature.top_eigenvalue"
COLUMNS = [*RESULT_FIELDS, "num_neurons", "num_epochs", "rho", "seed", "optimizer", "run", EIGENVALUE]


def arms(runs: pd.DataFrame) -> Iterator[tuple[str, str, float, pd.DataFrame]]:
    """Yield budget, schedule, share of steps with SAM, and the runs of SAM with the base runs of that budget."""
    is_base, schedule = runs["rho"] == 0, runs["rho_schedule"].fillna("constant")
    gradients = runs["num_gradients"] / runs["steps"]
    shares = (gradients - 1).round(2)
    full = runs[~is_base & (schedule == "constant")]
    for budget, base_epochs in ((STEPS, 30), (GRADIENTS, 60)):
        base = runs[is_base & (runs["num_epochs"] == base_epochs)]
        cost = runs["num_epochs"] * (1 if budget == STEPS else gradients)  # 55 epochs with a tenth of SAM take 60.5
        fits = (cost - base_epochs).abs() < 1
        yield budget, "constant", 1.0, pd.concat([base, full])
        others = runs[~is_base & fits & (schedule != "constant")]
        for (kind, share), sam in others.groupby([schedule, shares], sort=True):
            if not (budget == GRADIENTS and kind != "late"):
                yield budget, kind, float(share), pd.concat([base, sam])


def alike(runs: pd.DataFrame) -> pd.DataFrame:
    """Select the columns that runs of one budget are compared by, so that lengths and schedules do not split them."""
    return runs[[name for name in COLUMNS if name in runs.columns]].assign(num_epochs=30).reset_index(drop=True)


def rows(runs: pd.DataFrame) -> list[dict]:
    """Summarize every arm at every width, SGD included."""
    table_rows = []
    for budget, kind, share, part in arms(runs):
        same = alike(part)
        compared = table.part(same)
        for width, row_of_gain in zip(compared.widths, gain.corrected_gain.rows(compared), strict=True):
            means = [estimates.mean(column).value for column in width.values.T]
            best = 1 + int(np.argmax(means[1:]))
            front = {"num_params": width.num_params, "budget": budget}
            numbers = {"rho": width.rhos[best - 1], "accuracy": means[best]}
            gains = {name: row_of_gain[f"corrected_{name}"] for name in ("gain", "low", "high")}
            named = front | {"schedule": kind, "share": share}
            table_rows.append(named | numbers | gains | curvature(same, front, numbers))
            if kind == "constant":
                base = {"rho": 0.0, "accuracy": means[0]}
                none = {"gain": 0.0, "low": 0.0, "high": 0.0}
                table_rows.append(
                    front | {"schedule": "never", "share": 0.0} | base | none | curvature(same, front, base)
                )
    return sorted(
        table_rows, key=lambda row: (row["budget"] == GRADIENTS, row["num_params"], row["schedule"], row["share"])
    )


def curvature(runs: pd.DataFrame, front: dict, at: dict) -> dict[str, float]:
    """Average the top eigenvalue over the seeds of a width and rho, in logarithms."""
    eigenvalues = runs[(runs["num_params"] == front["num_params"]) & (runs["rho"] == at["rho"])][EIGENVALUE].dropna()
    mean = estimates.mean(np.log(eigenvalues[eigenvalues > 0]))
    return {"top_eigenvalue": float(np.exp(mean.value)), "top_eigenvalue_error": float(mean.error)}


def chart(table: pd.DataFrame):
    """Draw gain and top eigenvalue by the share of steps with late SAM: rows are quantities, columns budgets."""
    import altair as alt

    drawn = table[table["schedule"].isin(["never", "late", "constant"])].assign(
        gain=lambda t: 100 * t["gain"],
        low=lambda t: 100 * t["low"],
        high=lambda t: 100 * t["high"],
        share=lambda t: 100 * t["share"],
        size=lambda t: t["num_params"].map("{:,} parameters".format),
    )
    sizes = list(dict.fromkeys(drawn.sort_values("num_params")["size"]))
    color = alt.Color("size:N", scale=alt.Scale(domain=sizes, range=style.colors(len(sizes), ordered=True)), sort=sizes)
    x = alt.X("share:Q", title="steps with SAM, the last ones, in %")

    def panel(budget: str, quantity: str):
        base = alt.Chart(alt.Data(values=drawn[drawn["budget"] == budget].to_dict("records")))
        if quantity == "gain":
            title = "gain over SGD in points"
            y = alt.Y("gain:Q", title=title)
            bars = [base.mark_rule().encode(x=x, color=color, y=alt.Y("low:Q", title=title), y2="high:Q")]
        else:
            y, bars = alt.Y("top_eigenvalue:Q", title="top Hessian eigenvalue", scale=alt.Scale(type="log")), []
        lines = base.mark_line(point={"size": 60, "filled": True}).encode(x=x, y=y, color=color)
        return alt.layer(*bars, lines).properties(width=320, height=240, title=f"At {budget}")

    rows_of = [alt.hconcat(*(panel(budget, q) for budget in (STEPS, GRADIENTS))) for q in ("gain", "top_eigenvalue")]
    title = alt.TitleParams(
        "How much of SAM's gain do its last steps give?",
        subtitle="Each at its best rho. Bars are 95 % intervals of the gain, corrected for the choice of rho.",
    )
    return style.finish(alt.vconcat(*rows_of), title=title)


def main() -> None:
    """Write the table and the figure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("workdir", type=Path)
    parser.add_argument("--output", type=Path, default=Path("docs/studies/late_sam"))
    flags = parser.parse_args()
    runs = pd.read_csv(flags.workdir / "results.csv")
    if EIGENVALUE not in runs.columns:
        sys.exit(f"{flags.workdir}/results.csv has no column {EIGENVALUE}: train the study late_sam there first.")
    table = pd.DataFrame(rows(runs[[fields.effective_rho(row) >= 0 for row in fields.records(runs)]]))
    flags.output.mkdir(parents=True, exist_ok=True)
    save(chart(table), flags.output / "shares", data=table)
    print(table.round(4).to_string(index=False))


if __name__ == "__main__":
    main()
