"""Write docs/results.md and its figure: the gain of SAM in every study that compares widths, in one table.

    python benchmarks/results.py

Nothing is trained: all numbers come from the tables in docs/studies, those of the paper from flatwide/analysis.
"""

from pathlib import Path
from typing import Any

import altair as alt
import result_curvature
from result_studies import MADE, REAL
from result_tables import decimal, joint_interval, seed_gains, slope, widths
from study_kinds import Study

from flatwide.analysis import paper
from flatwide.figures import lines
from flatwide.figures.save import save
from flatwide.figures.style import GREEN

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "results.md"
FIGURE = ROOT / "docs" / "figures" / "gain_of_studies"
NOTHING = "–"
ARROW = "<br>→ "
COLUMNS = (
    "data",
    "model",
    "parameters",
    "seeds",
    "gain (joint 95 % interval)",
    "slope (95 % interval)",
    "best rho",
    "paper's gain",
)
HEAD = f"| {' | '.join(COLUMNS)} |\n{'|---' * len(COLUMNS)}|"


def number(value: float, study: Study, *, sign: str = "+") -> str:
    """Write a gain: in points with two digits, else with three."""
    return decimal(100 * value, sign=sign) if study.is_percent else decimal(value, digits=3, sign=sign)


def with_ends(value: float, low: float, high: float, study: Study) -> str:
    """Write a number with its interval."""
    return f"{number(value, study)} ({number(low, study, sign='')} to {number(high, study, sign='')})"


def papers(study: Study) -> str:
    """Write the paper's gain at its smallest and largest network."""
    if not study.workload:
        return NOTHING
    rows = paper.paper_values(study.workload, setting=study.setting).sort_values("num_params").to_dict("records")
    first, last = (f"{number(row['gain'], study)} at {size(row['num_params'])}" for row in (rows[0], rows[-1]))
    return f"{first}{ARROW}{last}"


def size(num_params: int) -> str:
    """Write a number of parameters, in millions where the paper rounds it."""
    return f"{num_params / 1e6:.1f} M" if num_params >= 1e6 else f"{num_params:,}"


def row(study: Study) -> str:
    """Write the row of a study."""
    every = widths(study)
    first, last = every[0], every[-1]
    ends = [with_ends(width.gain, *joint_interval(width, len(every)), study) for width in (first, last)]
    line = slope(study)
    cells = (
        f"[{study.data}]({study.link})",
        study.model,
        f"{first.num_params:,}{ARROW}{last.num_params:,}",
        str(min(width.num_seeds for width in every)),
        ARROW.join(ends),
        NOTHING if line is None else with_ends(line.value, line.low, line.high, study),
        f"{first.best_rho}{ARROW}{last.best_rho}{' (one tried)' if last.num_rhos == 1 else ''}",
        papers(study),
    )
    return f"| {' | '.join(cells)} |"


def panel(study: Study) -> tuple[lines.Panel, list[dict[str, Any]]]:
    """Draw a study's panel of the figure, and list the numbers that it shows."""
    every, gains = widths(study), seed_gains(study)
    assert gains is not None
    dots = [
        {"num_params": int(num_params), "seed": int(seed), "gain": float(gain)}
        for (num_params, seed), gain in gains.stack().items()
    ]
    means = []
    for width in every:
        low, high = joint_interval(width, len(every))
        means.append({"num_params": width.num_params, "gain": width.gain, "low": low, "high": high})
    factor = study.factor
    drawn = lines.Line(
        "SAM",
        GREEN,
        [{"x": dot["num_params"], "value": factor * dot["gain"], "seed": dot["seed"]} for dot in dots],
        [
            {"x": mean["num_params"], "mean": factor * mean["gain"]} | {k: factor * mean[k] for k in ("low", "high")}
            for mean in means
        ],
    )
    y = alt.Y("value:Q", title=f"gain ({study.unit})", scale=alt.Scale(zero=False), axis=alt.Axis(tickCount=6))
    across = lines.Across("num_params", [width.num_params for width in every])
    front = {"study": study.page, "panel": study.panel}
    return lines.Panel(study.panel, [drawn], across, y), [front | item for item in (*dots, *means)]


def draw() -> None:
    """Write the figure and its numbers."""
    panels, rows = zip(*(panel(study) for study in (*REAL, *MADE) if study.panel), strict=True)
    chart = lines.figure(
        panels,
        name="gain_of_studies",
        title="Gain of SAM over its base optimizer",
        across=panels[0].across,
        y=alt.Y("value:Q"),
        subtitle="small dots: each seed; large points: their mean, corrected for the choice of ρ",
        note="bars: 95 % intervals that hold for all sizes of a panel together",
        has_zero=True,
    )
    save(chart, FIGURE, data=[item for items in rows for item in items])


def page() -> str:
    """Write the page."""
    real, made = ("\n".join(map(row, studies)) for studies in (REAL, MADE))
    return f"""# Results

The gain of SAM over its base optimizer in every study here that compares widths: real data first, made data below.
`python benchmarks/results.py` writes this page and its figure from the tables in `docs/studies/`; a test compares
the two. In most rows the interval of the slope contains zero; the large gains, and the growth that is decided, are on
wrong labels. [When SAM helps](when_sam_helps.md) draws the conclusions, [the claims](claims.md) judge the paper's.

- **Parameters, seeds, gain, best rho**: at the smallest and at the largest network. A gain is SAM minus its base, or
  base minus SAM for an error, so that positive is better: in points of accuracy or average precision, in squared error,
  or in the game's score. It is corrected for the choice of rho: each seed is scored at the rho that the other seeds
  choose. Unless a row says that arms are tuned, SAM and its base have the same learning rate and weight decay. All
  choices are by test accuracy, as in the paper, on the other seeds.
- **Intervals of gains are joint**: those of all widths of a study hold together in 95 % of studies, so they are wider
  than those on the study's page, which cover one width each.
- **Slope**: the change of the gain per tenfold increase in parameters, by least squares with the same weight for every
  width, and its 95 % interval, as on the page of the [claims](claims.md). It allows for the largest noise of the base
  that the committed tables permit, so it is wider than that of a report, which knows the runs. The trend of a report
  weights widths by their noise, so its number may differ. A dash stands for a study whose tables do not have the gains
  of single seeds.
- **Paper**: its gain at its own smallest and largest network, most of them larger than ours, on the data of the row
  or, for the treebank, on Ancient Greek. A dash stands for data that the paper did not use.

{HEAD}
{real}

## Made data

{HEAD}
{made}

## Figure

Panels are a selection of the studies with a committed gain for each seed. Axes differ between panels.

![Gain of SAM by number of parameters, a panel for each study: with wrong labels it rises to 25 points on MNIST, 13 on
digits and 3 on CIFAR-10; in most other panels the intervals include zero](figures/{FIGURE.name}.svg)

[The numbers of the figure](figures/{FIGURE.name}.csv)

{result_curvature.section()}
## Other questions

Studies of other questions have tables of their own: [which SAM rule](studies/sam_variants.md), also
[on three domains](studies/compare.md), [how many examples share a perturbation](studies/m_sharpness.md),
[when SAM is on](studies/late_sam.md), and what the [theory](studies/theory_stability.md) predicts.
[The paper's claims](claims.md) are judged one by one on their own page.
"""


if __name__ == "__main__":
    draw()
    PAGE.write_text(page())
    print(f"wrote {PAGE}")
