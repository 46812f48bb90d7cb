"""The page docs/language_model_claims.md, and tables and figures of the studies of language models.

Not a program: `pages.py` writes them. Nothing is trained: all numbers come from docs/studies/lm_*.
"""

import functools
import itertools
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import altair as alt
import numpy as np
import pandas as pd
from claim_numbers import OPEN, Evidence, interval, verdict_of
from claims import Claim, overall, section
from result_tables import decimal, read
from studies import FOLDER

from flatwide.analysis import comparisons, estimates, table
from flatwide.analysis.estimates import Estimate
from flatwide.figures import drawing, lines, style
from flatwide.figures.save import save

PAGE = FOLDER.parent / "language_model_claims.md"
NOT_TESTED = "not tested"
RATE = 0.005  # the learning rate of the networks that are rounded and fine-tuned
WIDTHS = (32, 64)  # that are rounded and fine-tuned
ROBUST, AVERAGED = "held_out_robustness", "averaged_robustness"
RISES = "[rises of each arm](studies/lm_quantization.md#results), in bits"
START, CONTINUED = "lm_width", "lm_quantization"
TRAINED = {START: "pretrained", CONTINUED: "continued"}
BASE, SHORT, FAST = "AdamW", "AdamW, shorter decay", "AdamW, larger rate"
SAM, LATE = "SAM", "SAM in the decay"


def paired(treatment: pd.Series, control: pd.Series) -> Estimate:
    """Estimate the mean difference over the seeds that both have."""
    return estimates.mean((treatment - control).dropna().to_numpy())


# lm_width


@functools.cache
def compared() -> dict[str, comparisons.Compared]:
    """Compare SAM with AdamW, each at its own learning rate, at the widths at which SAM has run: kind -> comparison."""
    runs = read(f"{START}/runs.csv").assign(higher_is_better=False)
    (part,) = table.split(runs, tune=["learning_rate"]).tuned
    return {each.kind: each for each in part.comparisons}


def gains(kind: str) -> dict[int, Estimate]:
    """Estimate the gain of SAM by number of parameters, in bits per byte; positive where SAM has fewer."""
    scores = compared()[kind].scores
    rows = np.eye(len(scores.num_params))
    return {size: estimates.contrast(scores, row) for size, row in zip(scores.num_params, rows, strict=True)}


def width_table() -> str:
    """Write the table of lm_width."""
    runs = read(f"{START}/runs.csv").query("num_train_steps == 977")
    kinds = (comparisons.TUNED, comparisons.EQUAL_COMPUTE, comparisons.AVERAGED)
    every = {kind: gains(kind) for kind in kinds}
    rows = []
    for (width, size), here in runs.groupby(["hidden_size", "num_params"]):
        is_compared = size in every[comparisons.TUNED]
        arms = [here[here["rho"] == 0], here[here["rho"] > 0]]
        best = [arm.groupby(["rho", "learning_rate"])["test_metric"].mean() for arm in arms]
        sam = f"{best[1].min():.3f} at {best[1].idxmin()[0]:g}" if is_compared else "not compared"
        numbers = [interval(every[kind][size], "", digits=3) if is_compared else "–" for kind in kinds]
        base = f"{best[0].min():.3f}"
        cells = (str(width), f"{int(size):,}", str(arms[0]["seed"].nunique()), base, sam, *numbers)
        rows.append(f"| {' | '.join(cells)} |\n")
    head = (
        "| width | parameters | seeds | AdamW | SAM, rho | gain, each tuned | over AdamW twice as long "
        "| over averaged AdamW |"
    )
    return f"{head}\n{'|---' * 8}|\n{''.join(rows)}"


# lm_quantization


class Arm(NamedTuple):
    """Networks that are rounded, of one way of training: the runs of all widths, and which weights are measured."""

    study: str
    name: str
    runs: pd.DataFrame
    measurement: str = ROBUST

    def column(self, width: int, name: str) -> pd.Series:
        """Select a result by seed."""
        return self.runs[self.runs["hidden_size"] == width].set_index("seed")[f"{self.measurement}.{name}"].dropna()

    def change(self, width: int) -> pd.Series:
        """Select the change of the bits per byte by rounding to 4 bits."""
        return self.column(width, "rounded_4_channel_metric_change")


@functools.cache
def arms() -> tuple[Arm, ...]:
    """List the ways of training of the networks that are rounded."""
    every_rate = read(f"{START}/runs.csv", {"num_train_steps": 977})
    start = every_rate[every_rate["learning_rate"] == RATE]
    fast = every_rate[(every_rate["learning_rate"] > RATE) & (every_rate["rho"] == 0)]
    base, sam = start[start["rho"] == 0], start[start["rho"] > 0]
    every = [Arm(START, BASE, base), Arm(START, f"{BASE}, averaged", base, AVERAGED), Arm(START, FAST, fast)]
    every += [Arm(START, f"{SAM} {rho:g}", rows) for rho, rows in sam.groupby("rho")]
    later = read(f"{CONTINUED}/runs.csv")
    base, sam = later[later["rho"] == 0], later[later["rho"] > 0]
    fast, short = base["learning_rate"] > RATE, base["decay_fraction"] < 0.4
    for name, chosen in ((BASE, ~fast & ~short), (FAST, fast), (SHORT, short)):
        every.append(Arm(CONTINUED, name, base[chosen]))
    for schedule, name in (("constant", SAM), ("decay", LATE)):
        for rho, rows in sam[sam["rho_schedule"] == schedule].groupby("rho"):
            every.append(Arm(CONTINUED, f"{name} {rho:g}", rows))
    return tuple(every)


def arm(study: str, name: str) -> Arm:
    """Return the arm of a name."""
    return next(each for each in arms() if (each.study, each.name) == (study, name))


def quantization_table() -> str:
    """Write the table of lm_quantization."""
    rows = []
    for each in arms():
        cells = [f"{TRAINED[each.study]}: {each.name}"]
        for width in WIDTHS:
            change = estimates.mean(each.change(width).to_numpy())
            cells.append(f"{each.column(width, 'metric').mean():.3f}")
            cells.append(f"{decimal(1000 * change.value, digits=1, sign='z')} ± {1000 * change.reach:.1f}")
        rows.append(f"| {' | '.join(cells)} |\n")
    head = f"| arm | {' | '.join(f'bits, {width} | rise, {width}' for width in WIDTHS)} |"
    return f"{head}\n{'|---' * (1 + 2 * len(WIDTHS))}|\n{''.join(rows)}"


def draw_rounding() -> None:
    """Draw the rise by rounding to 4 bits against rho."""
    panels, table_rows = [], []
    for study, title in ((START, "A million tokens"), (CONTINUED, "Then continued")):
        drawn = []
        for width, color in zip(WIDTHS, style.colors(2, ordered=True), strict=True):
            dots = []
            for each in (each for each in arms() if each.study == study and each.name.split(" 0.")[0] in (BASE, SAM)):
                rho = float(each.runs["rho"].iloc[0])
                dots += [{"x": rho, "value": value, "seed": seed} for seed, value in each.change(width).items()]
            drawn.append(lines.Line(f"width {width}", color, dots))
            table_rows += [{"panel": title, "width": width} | dot for dot in dots]
        radii = sorted({dot["x"] for line in drawn for dot in line.dots})
        panels.append(lines.Panel(title, drawn, lines.Across("rho", radii)))
    chart = lines.figure(
        panels,
        name="rounding_by_rho",
        title="Rise of the bits per byte by rounding to 4 bits",
        across=lines.Across("rho", []),
        y=alt.Y("value:Q", title="rise (bits per byte)"),
    )
    save(chart, FOLDER / CONTINUED / "rounding_by_rho", data=table_rows)


# lm_forgetting


class Frontier(NamedTuple):
    """The trade-off of one network between two losses: from the left to the right `tuned` rises and `kept` falls."""

    tuned: np.ndarray
    kept: np.ndarray


def frontier(tuned: np.ndarray, kept: np.ndarray) -> Frontier:
    """Select the points that no other is as good as in both losses."""
    order = np.lexsort((kept, tuned))
    tuned, kept = tuned[order], kept[order]
    is_best = kept < np.concatenate([[np.inf], np.minimum.accumulate(kept)[:-1]])
    return Frontier(tuned[is_best], kept[is_best])


def at_equal_loss(first: Frontier, second: Frontier) -> tuple[float, float]:
    """Average the kept losses of two frontiers over the tuned losses that both reach.

    Returns: NaN where they reach none.
    Equation: the integral of the line through the points, over the common range, divided by its length.
    """
    low, high = max(first.tuned[0], second.tuned[0]), min(first.tuned[-1], second.tuned[-1])
    if low >= high:
        return math.nan, math.nan
    inside = np.concatenate([first.tuned, second.tuned])
    knots = np.unique(np.concatenate([[low, high], inside[(low < inside) & (inside < high)]]))
    means = [np.trapezoid(np.interp(knots, *each), knots) / (high - low) for each in (first, second)]
    return float(means[0]), float(means[1])


@functools.cache
def fine_tuned() -> pd.DataFrame:
    """Read the runs that fine-tune on Python's sources; on the later addresses networks do not forget."""
    return read("lm_forgetting/python/runs.csv")


def kept(width: int, rho: float, column: str) -> pd.DataFrame:
    """Average a loss on the first text over equal losses on the second: seed -> AdamW's pretraining and SAM's."""
    runs, means = fine_tuned(), {}
    for seed, rows in runs[runs["hidden_size"] == width].groupby("seed"):
        both = [rows[rows["pretraining_rho"] == each] for each in (0.0, rho)]
        curves = [frontier(each["test_loss"].to_numpy(), each[column].to_numpy()) for each in both]
        means[seed] = at_equal_loss(*curves)
    return pd.DataFrame.from_dict(means, orient="index", columns=["base", "sam"]).dropna()


def radii() -> list[float]:
    """List the radii of pretraining."""
    return sorted(rho for rho in fine_tuned()["pretraining_rho"].unique() if rho > 0)


def forgetting_table() -> str:
    """Write the table of lm_forgetting."""
    rows = []
    for width, rho in itertools.product(WIDTHS, radii()):
        rises, losses = (kept(width, rho, f"forgetting.{name}") for name in ("loss_rise", "loss"))
        numbers = [f"{rises[side].mean():.3f}" for side in ("base", "sam")]
        numbers += [interval(paired(each["sam"], each["base"]), "", digits=3) for each in (rises, losses)]
        cells = (str(width), f"{rho:g}", *numbers)
        rows.append(f"| {' | '.join(cells)} |\n")
    head = "| width | rho | rise, AdamW | rise, SAM | difference of rises | difference of losses |"
    return f"{head}\n{'|---' * 6}|\n{''.join(rows)}"


def draw_frontiers() -> None:
    """Draw the mean losses on both texts, joined over the learning rates of fine-tuning."""
    keys = ["hidden_size", "pretraining_rho", "learning_rate"]
    rows = fine_tuned().groupby(keys)[["test_loss", "forgetting.loss"]].mean().reset_index()
    rows = rows.rename(columns={"forgetting.loss": "first_loss", "test_loss": "second_loss"})
    shown = [0.0, *radii()]
    color = alt.Color(
        "pretraining_rho:N",
        title="pretraining ρ",
        scale=alt.Scale(domain=shown, range=style.colors(len(shown), ordered=True)),
    )
    tables, charts = {}, []
    for index, (width, each) in enumerate(rows.groupby("hidden_size")):
        tables[f"frontier_{index}"] = each.to_dict("records")
        axes: Any = {"scale": alt.Scale(zero=False), "axis": alt.Axis(tickCount=5)}
        x = alt.X("second_loss:Q", title="loss on the second text (nats)", **axes)
        y = alt.Y("first_loss:Q", title="loss on the first text (nats)", **axes)
        marks = alt.Chart(alt.NamedData(name=f"frontier_{index}")).mark_line(point=True)
        layer = marks.encode(x=x, y=y, color=color, order="learning_rate:Q")
        charts.append(drawing.panel([layer], (300, 200), title=f"Width {width}"))
    title = alt.Title("Fine-tuning at four learning rates", subtitle=["means of 5 seeds"])
    whole = alt.ConcatChart(concat=charts, columns=2)
    chart = style.finish(whole, title=title, datasets=tables, params=[], shared_or_independent={"color": "shared"})
    save(chart, FOLDER / "lm_forgetting" / "frontiers", data=rows.to_dict("records"))


# Claims


def of(study: str, data: str, number: str, verdict: str) -> Evidence:
    """Name the study that a number is from."""
    return Evidence(f"studies/{study}.md", data, number, verdict)


def judge(study: str, data: str, estimate: Estimate, *, positive: bool, more: str = "") -> Evidence:
    """Judge the claim that a number is positive, or negative."""
    text = interval(estimate, "", digits=4) + more
    return of(study, data, text, verdict_of(estimate.low, estimate.high, positive=positive))


def forgets_less() -> list[Evidence]:
    """Test whether the loss on the first text rises less after SAM's pretraining, at equal loss on the second."""
    evidence = []
    for width, rho in itertools.product(WIDTHS, radii()):
        rises = kept(width, rho, "forgetting.loss_rise")
        share = f"; {100 * (rises['sam'].mean() / rises['base'].mean() - 1):+.0f} %".replace("-", "−")
        data = f"width {width}, rho {rho:g}"
        change = paired(rises["sam"], rises["base"])
        evidence.append(judge("lm_forgetting", data, change, positive=False, more=share))
    return evidence


def against(study: str, name: str, control: str, *, positive: bool = False) -> list[Evidence]:
    """Judge at each width the change by rounding to 4 bits of an arm, minus that of another."""
    evidence = []
    for width in WIDTHS:
        values = [arm(study, each).change(width) for each in (name, control)]
        if min(map(len, values)) < 2:
            continue
        data = f"{TRAINED[study]}, width {width}: {name}{f' against {control}' if control != BASE else ''}"
        share = f", {100 * (values[0].mean() / values[1].mean() - 1):+.0f} %".replace("-", "−")
        item = judge("lm_quantization", data, paired(*values), positive=positive, more=share)
        evidence.append(item._replace(number="") if item.verdict == OPEN else item)
    return evidence


def rounds_better() -> list[Evidence]:
    """Test whether SAM's networks lose less by rounding than AdamW's."""
    names = [(each.study, each.name) for each in arms() if each.name.startswith(SAM)]
    return [item for study, name in names for item in against(study, name, BASE)]


def does_as_much() -> list[Evidence]:
    """Test whether AdamW with a larger rate or a shorter decay loses no more by rounding than SAM."""
    pairs = [
        (sam.study, name, sam.name)
        for sam in arms()
        for name in (FAST, SHORT)
        if sam.name.startswith(f"{SAM} 0") and (sam.study, name) != (START, SHORT)
    ]
    return [item for pair in pairs for item in against(*pair)]


def fits_worse() -> list[Evidence]:
    """Test whether SAM's held-out loss is above AdamW's, each tuned."""
    evidence = []
    for kind, words in ((comparisons.TUNED, "each tuned"), (comparisons.BOTH_AVERAGED, "both averaged")):
        for size, gain in gains(kind).items() if kind in compared() else ():
            rise = gain.scaled(-math.log(2))
            evidence.append(judge(START, f"{words}, {size:,} parameters", rise, positive=True))
    return evidence


def gain_grows() -> list[Evidence]:
    """Test whether the gain of SAM grows with width."""
    slope = estimates.slope(compared()[comparisons.TUNED].scores)
    return [judge(START, "each tuned, widths 32 and 64", slope, positive=True)]


def untested(study: str, why: str) -> Callable[[], list[Evidence]]:
    """Say why a claim was not tested."""
    return lambda: [of(study, "not run", why, NOT_TESTED)]


CLAIMS = (
    Claim(
        "L1",
        "pretraining by SAM reduces forgetting, at equal loss after fine-tuning (reported: up to 80 %)",
        forgets_less,
        "rise of the loss on the first text, nats, SAM minus AdamW",
    ),
    Claim(
        "L2",
        "SAM reduces the rise of the loss by rounding to 4 bits (reported: 40 %)",
        rounds_better,
        elsewhere=f"{RISES}; minus that of AdamW",
    ),
    Claim("L3", "the advantage grows with the number of tokens", untested(START, "SAM has one length")),
    Claim(
        "L4",
        "AdamW with a larger learning rate or a shorter decay reduces the rise by rounding as much as SAM",
        does_as_much,
        elsewhere=RISES,
    ),
    Claim("L5", "the held-out loss of SAM is worse than that of AdamW", fits_worse, "loss, nats, SAM minus AdamW"),
    Claim(
        "L5f",
        "that of functional SAM is better (reported: by 0.005 to 0.01 nats)",
        untested(START, "`sam_variant=functional` has no runs"),
    ),
    Claim(
        "L6",
        "averaging the weights reduces the rise by rounding",
        lambda: against(START, f"{BASE}, averaged", BASE),
        elsewhere=f"{RISES}; minus that of AdamW",
    ),
    Claim("L7", "the gain of SAM grows with width", gain_grows, "bits per tenfold increase in parameters"),
)

HEAD = """# Claims about language models

What was reported of SAM for language models of 20 million to a billion parameters, tested on networks of widths 32 and
64 (41,120 and 131,392 parameters), trained on a million bytes of addresses to the Congress: **far smaller, and far from
converged.** `python docs/build/pages.py` writes this page from the tables of [`lm_width`](studies/lm_width.md),
[`lm_quantization`](studies/lm_quantization.md) and [`lm_forgetting`](studies/lm_forgetting.md).

95 % intervals over 5 paired seeds; [verdicts](claims.md) as for the paper's claims. All radii of 0.005, 0.02 and 0.05
that were run are listed. Networks that are rounded or fine-tuned are trained at the learning rate 0.005 unless it is
said to be larger, and are compared at equal settings, not at equal loss.

"""


def claims_page() -> str:
    """Write the page of claims."""
    every = [(claim, claim.evaluate()) for claim in CLAIMS]
    rows = "".join(f"| {claim.name} | {claim.text} | {overall(evidence)} |\n" for claim, evidence in every)
    summary = f"| claim | what it says | verdict |\n|---|---|---|\n{rows}"
    return HEAD + "\n".join([summary, *(section(claim, evidence) for claim, evidence in every)])


TABLES = {START: width_table, CONTINUED: quantization_table, "lm_forgetting": forgetting_table}


def pages() -> dict[Path, str]:
    """Write the text of the page of claims, and of the studies' pages with their tables new."""
    texts = {PAGE: claims_page()}
    for name, write in TABLES.items():
        path = FOLDER / f"{name}.md"
        before, head, after = path.read_text().partition("\n|")
        rest = (head + after).split("\n\n", maxsplit=1)[1]
        texts[path] = f"{before}\n{write()}\n{rest}"
    return texts


def draw() -> None:
    """Write the figures."""
    draw_rounding()
    draw_frontiers()
