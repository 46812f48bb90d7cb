"""The trend of the gain with each arm tuned, and in parameterizations where width changes only capacity.

Draws the curves of `width_transfer` with common weights, and prints a sentence for each and the regrets:

    python benchmarks/width_transfer.py runs/width_transfer --output=docs/studies/width_transfer
"""

import argparse
import math
from pathlib import Path

import altair as alt

import flatwide
from flatwide.analysis import comparisons, estimates, table, transfer, tuned, verdict
from flatwide.figures import fair, lines, save, style
from flatwide.figures.tables import to_csv

LABELS = {
    ("standard", "none", comparisons.SAME): "standard, same rate",
    ("standard", "none", comparisons.TUNED): "standard, tuned",
    ("mup", "none", comparisons.TUNED): "muP, tuned",
    ("mup", "layerwise", comparisons.TUNED): "muP, layerwise, tuned",
}
FIELDS = ("parameterization", "perturbation_scaling")
WORDS = {
    verdict.GROWS: "grows with width",
    verdict.LARGER: "is larger at large widths",
    verdict.SHRINKS: "shrinks with width",
    verdict.SMALLER: "is smaller at large widths",
    verdict.PEAKS: "peaks between the ends",
    verdict.NO_TREND: "shows no clear trend with width",
    verdict.UNKNOWN: "is known at too few widths",
}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("workdir")
    parser.add_argument("--output", required=True)
    flags = parser.parse_args()
    runs = flatwide.load(flags.workdir)
    tune = ("learning_rate",)
    shown = {}
    for part in table.split(runs, tune=tune).tuned:
        parameterization, scaling = (str(part.values.get(name, "none")) for name in FIELDS)
        for compared in part.comparisons:
            if (key := (parameterization, scaling, compared.kind)) in LABELS:
                shown[LABELS[key]] = part, compared
    drawn, rows = [], []
    for (label, (part, compared)), color in zip(shown.items(), style.colors(len(shown), ordered=False), strict=True):
        drawn.append(fair.line_of(compared, label, color, factor=100))
        rows += [{"curve": label} | row for row in tuned.rows(part, compared)]
        print(sentence(label, compared))
    import pandas as pd

    folder = Path(flags.output)
    sizes = sorted({pair.num_params for _, compared in shown.values() for pair in compared.widths})
    chart = lines.figure(
        [lines.Panel("", drawn)],
        name="four_curves",
        title="Gain of SAM over SGD, by parameterization and tuning",
        across=lines.Across("num_params", sizes),
        y=alt.Y("value:Q", title="gain in accuracy (points)", scale=alt.Scale(zero=False)),
        subtitle="small dots: each seed; large points and bars: mean and 95 % interval of {seeds}",
        has_zero=True,
        interactive=False,
    )
    save.save(chart, folder / "four_curves", data=rows)
    regret = transfer.regret_table(runs, tune=tune)
    (folder / "regret.csv").write_text(to_csv(regret))
    pd.set_option("display.width", 250)
    print(regret.to_string(index=False))


def sentence(label: str, compared: comparisons.Compared) -> str:
    """Write what the intervals of a curve support."""
    first, last = (compared.widths[end].gain for end in (0, -1))
    ends = [
        f"{100 * gain.value:+.2f} points ({100 * gain.low:+.2f} to {100 * gain.high:+.2f})" for gain in (first, last)
    ]
    slope = estimates.slope(compared.scores)
    interval = "" if math.isnan(slope.low) else f", 95 % interval {100 * slope.low:+.2f} to {100 * slope.high:+.2f}"
    words = WORDS[verdict.verdict(compared.scores).kind]
    return (
        f"{label}: the gain {words}: {ends[0]} at {compared.widths[0].num_params:,} "
        f"to {ends[1]} at {compared.widths[-1].num_params:,} parameters; slope {100 * slope.value:+.2f} "
        f"points per tenfold increase in parameters{interval}."
    )


if __name__ == "__main__":
    main()
