"""The page docs/results.md and its figure: the gain of SAM in every study that compares widths, in one table.

Not a program: `pages.py` writes them. Nothing is trained: all numbers come from the tables in docs/studies.
"""

from pathlib import Path
from typing import Any

import altair as alt
import result_curvature
from result_tables import decimal, joint_interval, seed_gains, slope, widths
from studies import Result, find, results

from flatwide import paper
from flatwide.figures import lines
from flatwide.figures.save import save
from flatwide.figures.style import GREEN

DOCS = Path(__file__).parents[1]
PAGE = DOCS / "results.md"
FIGURE = DOCS / "figures" / "gain_of_studies"
NOTHING = "–"
ARROW = "<br>→ "
COLUMNS = (
    "data, model",
    "parameters",
    "seeds",
    "gain (joint 95 % interval)",
    "slope (95 % interval)",
    "best rho",
)
HEAD = f"| {' | '.join(COLUMNS)} |\n{'|---' * len(COLUMNS)}|"


def number(value: float, study: Result, *, sign: str = "+") -> str:
    """Write a gain: in points with two digits, else with three."""
    return decimal(100 * value, sign=sign) if study.is_percent else decimal(value, digits=3, sign=sign)


def with_ends(value: float, low: float, high: float, study: Result) -> str:
    """Write a number with its interval."""
    return f"{number(value, study)} ({number(low, study, sign='')} to {number(high, study, sign='')})"


def papers(study: Result) -> str:
    """Write the paper's gain at its smallest and largest network, below the gain."""
    if not study.paper:
        return ""
    rows = (
        paper.paper_values(study.paper["workload"], setting=study.paper.get("setting", ""))
        .sort_values("num_params")
        .to_dict("records")
    )
    first, last = (f"{number(row['gain'], study)} at {size(row['num_params'])}" for row in (rows[0], rows[-1]))
    return f"<br>paper: {first}{ARROW}{last}"


def size(num_params: int) -> str:
    """Write a number of parameters, in millions where the paper rounds it."""
    return f"{num_params / 1e6:.1f} M" if num_params >= 1e6 else f"{num_params:,}"


def row(study: Result) -> str:
    """Write the row of a study."""
    every = widths(study)
    first, last = every[0], every[-1]
    ends = [with_ends(width.gain, *joint_interval(width, len(every)), study) for width in (first, last)]
    line = slope(study)
    cells = (
        f"[{study.name}]({study.link})",
        f"{first.num_params:,}{ARROW}{last.num_params:,}",
        str(min(width.num_seeds for width in every)),
        ARROW.join(ends) + papers(study),
        NOTHING if line is None else with_ends(line.value, line.low, line.high, study),
        f"{first.best_rho}{ARROW}{last.best_rho}{' (one tried)' if last.num_rhos == 1 else ''}",
    )
    return f"| {' | '.join(cells)} |"


def panel(study: Result) -> tuple[lines.Panel, list[dict[str, Any]]]:
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
    front = {"study": study.study, "panel": study.panel}
    return lines.Panel(study.panel, [drawn], across, y), [front | item for item in (*dots, *means)]


def draw() -> None:
    """Write the figure and its numbers."""
    panels, rows = zip(*(panel(study) for study in results() if study.panel), strict=True)
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


def at(study: Result, index: int = -1) -> str:
    """Write the gain at one size of a study, the largest unless told, with the interval of this size alone."""
    width = widths(study)[index]
    ends = f"{tenths(study, width.low)} to {tenths(study, width.high)}"
    return f"{tenths(study, width.gain)} points ({ends}) at {width.num_params:,} parameters"


def tenths(study: Result, value: float) -> str:
    """Write a number in the unit of the study, with one digit."""
    return decimal(study.factor * value, digits=1, sign="")


def answer() -> str:
    """Write what follows from the tables for someone who decides whether to use SAM."""
    noisy_digits, tuned_digits = find("digits_label_noise.half_wrong"), find("digits_fair_fight.tuned")
    noisy_mnist, tuned_mnist, decay_tuned = (
        find(f"mnist_label_noise.{key}") for key in ("half_wrong", "tuned", "decay_tuned")
    )
    noisy_cifar = find("cifar10_label_noise.half_wrong")
    ends = [end for study in result_curvature.measured() for end in result_curvature.ends(study)]
    flatness = [end.ratios[result_curvature.TOP] for end in ends]
    flatter = sum(ratio.high < 0 for ratio in flatness)
    return f"""With half of the training labels wrong and the same settings for both arms, SAM gains a lot, more so
with width. Most of that is gone once the base is tuned. With right labels the gain is about a point or less, or not
detected.

- **Wrong labels.** SAM gains {at(noisy_digits)} on digits and {at(noisy_mnist)} on MNIST,
  mostly because the base gets worse with width as it fits more of the wrong labels, and {at(noisy_cifar)}
  on CIFAR-10. With 360 examples no gain is detected.
- **Tune the base first.** With each arm's learning rate tuned, {at(tuned_digits)} remain on digits and
  {at(tuned_mnist)} on MNIST; on CIFAR-10 none is detected. With the weight decay tuned,
  {at(decay_tuned)} remain on MNIST. Most of the growth with width is gone. Averaging the base's weights costs no
  gradient; [against it](studies/digits_fair_fight.md) 1.44 points (−0.30 to 3.18) remain on digits.
- **Right labels.** On digits 0.5 to 1.1 points from 1,210 parameters on; on MNIST none is detected. SAM loses a quarter
  of a point on Fashion-MNIST, 0.9 points with a small ViT and 1.3 on synthetic molecules.
- **When training stops.** At each run's best evaluation 4.0 points (2.5 to 5.4) of the 25.5 on MNIST are left. What SAM
  in the last epochs gains depends on [schedule and length](studies/late_sam.md).
- **Rho.** A rho too large for a small network costs up to 76 points on digits. The best rho grows with width in both
  digits studies and on MNIST at the paper's length, from 0.02 to 0.2; `python main.py advise` extrapolates it.
- **Few parameters.** On digits no gain is detected at 310 and 610 parameters, with wide intervals; on MNIST with wrong
  labels {at(noisy_mnist, 0)}.
- **Not flatness by itself.** SAM's networks end flatter, by the top eigenvalue, in {flatter} of {len(flatness)} cases,
  [with a gain and without one](#curvature-of-the-minima).

All settings are chosen by clean test labels of other seeds, which matters most where training labels are wrong.
Intervals above are those of one size; those of the tables are joint. [The claims](claims.md) judge the paper's."""


def page() -> str:
    """Write the page."""
    real, synthetic = (
        "\n".join(row(study) for study in results() if study.table == table) for table in ("real", "synthetic")
    )
    return f"""# What was found

{answer()}

`python docs/build/pages.py` writes this page and its figure from the tables in `docs/studies/`.

## Gains by width

- **Parameters, gain, best rho**: at the smallest → largest network. A gain is how much better SAM is than its base, in
  points of accuracy or average precision, squared error, bits per byte, or the game's score. Each seed is scored at the
  rho that the other seeds choose. Unless the label says "tuned" (for each arm), both arms have the same learning rate
  and weight decay. "Half wrong" is half of the training labels. Intervals hold jointly for all widths of a study.
- **Slope**: per tenfold increase in parameters, by least squares with the same weight for every width; its interval
  allows for the largest noise of the base that the tables permit. A dash: no gains of single seeds.
- **Paper**: its gain at its own networks, most of them larger; for the treebanks on Ancient Greek.

{HEAD}
{real}

## Synthetic data

{HEAD}
{synthetic}

## Figure

A selection of the studies with a gain for each seed ([numbers](figures/{FIGURE.name}.csv)). Axes differ between panels.

![Gain of SAM by number of parameters, a panel for each study: with wrong labels it rises to 25 points on MNIST, 13 on
digits and 3 on CIFAR-10; in most other panels the intervals include zero](figures/{FIGURE.name}.svg)

{result_curvature.section()}
## Other questions

[Which SAM rule](studies/sam_variants.md), also [on three domains](studies/compare.md);
[muP](studies/width_transfer.md); [every domain, in small](studies/all_domains.md); [how many examples share a
perturbation](studies/m_sharpness.md); [when SAM is on](studies/late_sam.md);
[language models](language_model_claims.md), rounded and fine-tuned; what the [theory](studies/theory_stability.md)
predicts.
"""
