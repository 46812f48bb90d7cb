"""Write docs/claims.md: each claim of the paper with the evidence from the committed tables of the studies.

    python benchmarks/claims.py

Nothing is trained: the numbers come from docs/studies/*/*.csv alone.
"""

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import result_curvature
from claim_numbers import (
    FAILS,
    HOLDS,
    NEAR_ZERO,
    OPEN,
    UNTESTED,
    Evidence,
    all_hold,
    by_position,
    factor,
    gains,
    interval,
    mean_slope,
    measured,
    near_zero,
    signed,
    slopes,
    stretch,
    table,
    verdict_of,
    widths_of,
)
from result_studies import (
    CIFAR,
    CLEAN_MNIST,
    DECAY_TUNED,
    DEPTH,
    DIGITS,
    FASHION,
    MINATAR,
    MINATAR_MILLION,
    MNIST,
    NOISY_CIFAR,
    NOISY_DIGITS,
    NOISY_MNIST,
    PTNK,
    PTNK_LAST,
    REVIEWS,
    SPARSITY,
    SST2,
    SYNTHETIC,
    TOX21,
    TURKISH,
    TURKISH_LAST,
    VIT,
    WITHOUT_DECAY,
    Study,
    command,
    read,
)

from flatwide.analysis import intervals, selection

PAGE = Path(__file__).parents[1] / "docs" / "claims.md"
WIDTHS = (
    SYNTHETIC,
    MNIST,
    CIFAR,
    NOISY_CIFAR,
    FASHION,
    NOISY_MNIST,
    DIGITS,
    NOISY_DIGITS,
    PTNK,
    TURKISH,
    SST2,
    REVIEWS,
    TOX21,
    MINATAR,
    MINATAR_MILLION,
)


class Claim(NamedTuple):
    """A claim of the paper, and the function that evaluates it; None where no committed table can test it."""

    name: str
    text: str
    evaluate: Callable[[], list[Evidence]] | None


def overall(evidence: Sequence[Evidence]) -> str:
    """Join the verdicts of several studies."""
    if len(evidence) == 1:
        return evidence[0].verdict
    counts = {kind: sum(item.verdict == kind for item in evidence) for kind in (HOLDS, FAILS, OPEN, UNTESTED)}
    return "; ".join(f"{kind} in {count} of {len(evidence)}" for kind, count in counts.items() if count)


def judged(study: Study, number: str, verdict: str) -> Evidence:
    """Name the study that a number is from."""
    return Evidence(study.page, f"{study.data}, {study.model}", number, verdict, study.command)


def growth(study: Study) -> Evidence:
    """Compute the change of the gain per tenfold increase in parameters."""
    seed_slopes = list(slopes(gains(study)).values())
    slope = intervals.mean(seed_slopes, stretch=stretch(study, len(seed_slopes)))
    unit = study.unit if study.is_percent else f"of {study.unit}"
    number = interval(slope, f"{unit} per tenfold increase in parameters, {len(seed_slopes)} seeds")
    return judged(study, number, verdict_of(slope.low, slope.high))


def smallest(study: Study) -> Evidence:
    """Compute the gain at the smallest size."""
    row = widths_of(study)[0]
    low, mean, high = (study.factor * row[f"corrected_{end}"] for end in ("low", "gain", "high"))
    number = f"{signed(mean)} points ({signed(low)} to {signed(high)}) at {int(row['num_params']):,} parameters"
    return judged(study, number, near_zero(low, high))


def best_rhos() -> list[Evidence]:
    """Test in each study of several rho whether the sets of the best rho at both ends are disjoint."""
    return [_best_rhos(study) for study in WIDTHS if widths_of(study)[0]["num_rhos"] > 1]


def _best_rhos(study: Study) -> Evidence:
    rows = widths_of(study)
    ends = (rows[0], rows[-1])
    sets = [[float(rho) for rho in str(row["best_rho_set"]).split()] for row in ends]
    edges = [
        f", at the {row['at_grid_edge']} end of the grid" if row["at_grid_edge"] in ("low", "high") else ""
        for row in ends
    ]
    texts = [
        f"{row['best_rho']:g} of {{{', '.join(f'{rho:g}' for rho in members)}}}{edge}"
        for row, members, edge in zip(ends, sets, edges, strict=True)
    ]
    verdict = HOLDS if max(sets[0]) < min(sets[1]) else FAILS if max(sets[1]) < min(sets[0]) else OPEN
    return judged(study, " → ".join(texts), verdict)


def simpler_functions() -> list[Evidence]:
    """Compare the variation of the slopes of the functions of SAM and SGD, seed by seed."""
    numbers_and_kinds = []
    for size in (15, 30, 300, 3000):
        rows = measured(
            "theory_regression_1d", "function_by_rho.csv", "function.slope_total_variation", num_params=size
        )
        wide = rows.pivot(index="rho", columns="seed", values="value")
        ratio = intervals.mean(np.log(wide.loc[0.2] / wide.loc[0.0]).to_numpy())
        number = factor(ratio, f"variation of the slope, SAM at rho 0.2 over SGD, at {size:,} parameters")
        kind = verdict_of(ratio.low, ratio.high, positive=False)
        if size < 100:  # there the claim is that they are equally simple
            kind = FAILS if kind != OPEN else OPEN
        numbers_and_kinds.append((number, kind))
    kinds = [kind for _, kind in numbers_and_kinds]
    whole = HOLDS if kinds[2:] == [HOLDS, HOLDS] and FAILS not in kinds[:2] else FAILS if FAILS in kinds[2:] else OPEN
    numbers = "; ".join(number for number, _ in numbers_and_kinds)
    trained = command("theory_regression_1d.py", "theory_regression_1d")
    return [Evidence("theory_regression_1d", "12 points on a line, one hidden layer", numbers, whole, trained)]


def basins() -> list[Evidence]:
    """Compute the barrier between SGD and SAM from the same start, and the ratio of their top eigenvalues, by size.

    A barrier is the rise of the loss on the line between two networks. With few neurons it must be near zero, within a
    tenth of SGD's training loss; with many it must be positive, and the ratio below 1.
    """
    rows = table("theory_regression_1d", "barrier_by_width.csv")
    texts, kinds = [], []
    for size in sorted(rows["num_params"].unique()):
        wide = rows[rows["num_params"] == size].pivot(index="seed", columns="rho")
        barrier = intervals.mean(wide["barrier.barrier"][0.2].to_numpy())
        eigenvalues = wide["curvature.top_eigenvalue"]
        ratio = intervals.mean(np.log(eigenvalues[0.2] / eigenvalues[0.0]).to_numpy())
        text = interval(barrier, f"of squared error at {size:,} parameters", digits=3)
        texts.append(f"barrier {text}, {factor(ratio, 'top eigenvalue, SAM over SGD')}")
        if size < 100:
            kinds.append(near_zero(barrier.low, barrier.high, margin=0.1 * wide["train_loss"][0.0].mean()))
        else:
            kinds += [verdict_of(barrier.low, barrier.high), verdict_of(ratio.low, ratio.high, positive=False)]
    trained = command(
        "theory_regression_1d.py",
        "theory_regression_1d",
        '--config.num_epochs=25000 --config.study.axes.rho="(0.0,0.2)" --config.study.axes.seed="(0,1,2)"',
    )
    data = "12 points on a line, one hidden layer, rho 0.2, 3 seeds"
    return [Evidence("theory_regression_1d", data, "; ".join(texts), all_hold(kinds), trained)]


def smoothness() -> list[Evidence]:
    """Compute how the constants along the path of SGD change with width."""
    texts, kinds = [], []
    for quantity, words, positive in (("smoothness", "β", False), ("pl_constant", "α", True)):
        rows = measured("theory_smoothness_pl", "smoothness_by_width.csv", f"smoothness.{quantity}", rho=0.0)
        slope = mean_slope(by_position(rows, "num_params", is_size=True))
        texts.append(factor(slope, f"{words} per tenfold increase in parameters"))
        kinds.append(verdict_of(slope.low, slope.high, positive=positive))
    kind = all_hold(kinds)
    trained = command("theory_smoothness_pl.py:digits", "theory_smoothness_pl")
    return [Evidence("theory_smoothness_pl", "digits, MLP, SGD, last epoch", "; ".join(texts), kind, trained)]


def amplified() -> list[Evidence]:
    """Compute how much faster the gain grows where half of the labels are wrong, seed by seed at the same sizes."""
    evidence = []
    for without, with_noise in ((CLEAN_MNIST, NOISY_MNIST), (CIFAR, NOISY_CIFAR), (DIGITS, NOISY_DIGITS)):
        sizes = [int(row["num_params"]) for row in widths_of(with_noise)]
        clean, noisy = slopes(gains(without, sizes)), slopes(gains(with_noise))
        seeds = sorted(clean.keys() & noisy.keys())
        wider = max(stretch(study, len(seeds)) for study in (without, with_noise))
        more = intervals.mean([noisy[seed] - clean[seed] for seed in seeds], stretch=wider)
        unit = f"points more per tenfold increase in parameters than without noise, {len(seeds)} seeds"
        kind = verdict_of(more.low, more.high)
        number = interval(more, unit)
        evidence.append(judged(with_noise, number, kind))
    return evidence


def flatter() -> list[Evidence]:
    """Compute how the top eigenvalue and the non-uniformity fall with rho."""
    texts, kinds = [], []
    for name, quantity, words in (
        ("curvature_by_rho.csv", "curvature.top_eigenvalue", "top eigenvalue"),
        ("moments_by_rho.csv", "moments.s_2", "s₂"),
    ):
        slope = intervals.mean(
            list(slopes(by_position(measured("theory_stability", name, quantity), "rho", is_size=False)).values())
        )
        texts.append(factor(intervals.Mean(*(0.1 * value for value in slope)), f"{words} per increase of 0.1 in rho"))
        kinds.append(verdict_of(slope.low, slope.high, positive=False))
    kind = all_hold(kinds)
    trained = command("theory_stability.py:digits", "theory_stability")
    along_rho = Evidence("theory_stability", "digits, MLP, squared loss", "; ".join(texts), kind, trained)
    return [along_rho, *map(_flatter_at, result_curvature.MEASURED)]


def _flatter_at(measured: result_curvature.Measured) -> Evidence:
    """Compute the top eigenvalue and the non-uniformity of SAM's minima over the base's, at the measured sizes."""
    texts, kinds = [], []
    for end in result_curvature.ends(measured):
        numbers = []
        for name, words in ((result_curvature.TOP, "top eigenvalue"), (result_curvature.NON_UNIFORMITY, "s₂")):
            if name in end.ratios:
                ratio = end.ratios[name]
                numbers.append(factor(ratio, words))
                kinds.append(verdict_of(ratio.low, ratio.high, positive=False))
        texts.append(f"{' and '.join(numbers)}, SAM at rho {end.rho:g} over its base, at {end.num_params:,} parameters")
    study = measured.study
    return judged(study, "; ".join(texts), all_hold(kinds))


def linear_convergence() -> list[Evidence]:
    """Compare the speed at which the logarithm of the loss falls late and early, at the largest size and rho.

    Linear convergence keeps the speed; with any power of the time, each doubling of the epochs halves it.
    """
    rows = table("theory_convergence", "training_curves.csv")
    rows = rows[rows["num_params"] == rows["num_params"].max()]
    rows = rows[rows["rho"] == rows["rho"].max()]
    wide = np.log(rows.pivot(index="epoch", columns="seed", values="running_train_loss"))
    late, early = (wide.loc[50] - wide.loc[100]) / 50, (wide.loc[25] - wide.loc[50]) / 25
    ratio = intervals.mean((late / early).tolist())
    size, rho = rows["num_params"].max(), rows["rho"].max()
    ends = f"({signed(ratio.low)} to {signed(ratio.high)})"
    number = (
        f"at {size:,} parameters and rho {rho:g} the logarithm of the loss falls in epochs 50 to 100 "
        f"{signed(ratio.mean)} times as fast as in 25 to 50 {ends}; a power of the time would give 0.5"
    )
    kind = verdict_of(ratio.low - 0.5, ratio.high - 0.5)
    trained = command("theory_convergence.py", "theory_convergence")
    return [Evidence("theory_convergence", "matrix factorization, unnormalized SAM", number, kind, trained)]


def lazy() -> list[Evidence]:
    """Compute how far SAM is below SGD in the lazy regime, at its best rho."""
    rows = table("linearized_regime", "metric_by_output_scale.csv")
    rows = rows[rows["output_scale"] == rows["output_scale"].max()]
    gain = intervals.mean((100 * rows["gain"]).tolist())
    kind = HOLDS if gain.high < -10 else FAILS if gain.low > -10 else OPEN
    number = interval(gain, f"points at an output scale of {rows['output_scale'].max():g} and the best rho")
    trained = command("linearized_regime.py:digits", "linearized_regime")
    return [Evidence("linearized_regime", "digits, linearized MLP", number, kind, trained)]


def generalizes() -> list[Evidence]:
    """Compare SAM's test error at the smallest and largest width, unpaired because the table has only means."""
    rows = table("theory_generalization")
    rows = rows[(rows["row"] == "seeds") & (rows["learning_rate"] == 0.001) & (rows["rho"] == 0.001)]
    first, last = (rows.sort_values("num_params").iloc[index] for index in (0, -1))
    error = math.hypot(first["standard_error"], last["standard_error"])
    fewest = int(min(first["num_seeds"], last["num_seeds"]))
    reach = selection.student(fewest, 0.95) * error  # the lower bound of its degrees of freedom
    change = last["mean"] - first["mean"]
    difference = intervals.Mean(change, error, change - reach, change + reach)
    sizes = f"from {int(first['num_params']):,} to {int(last['num_params']):,} parameters"
    number = interval(difference, f"of squared error {sizes}, {fewest} seeds")
    kind = verdict_of(difference.low, difference.high, positive=False)
    trained = command(
        "theory_generalization.py",
        "theory_generalization",
        '--config.study.axes.num_neurons="((100,),(500,),(1000,),(5000,))"',
        '--config.study.axes.learning_rate="(0.01,0.001)" --config.study.axes.rho="(0.0,0.0001,0.001,0.01)"',
        '--config.study.axes.seed="(0,1)"',
    )
    return [Evidence("theory_generalization", "the two-layer teacher, frozen head", number, kind, trained)]


def twice_as_long() -> list[Evidence]:
    """Test whether the gain over SGD trained twice as long, each arm tuned, grows with width.

    The table has only means, so the seeds are unpaired: the squares of the half-widths of the two intervals add up.
    """
    rows = table("digits_fair_fight", "comparisons.csv")
    rows = rows[rows["comparison"] == "twice as long"].sort_values("num_params")
    first, last = rows.iloc[0], rows.iloc[-1]
    change = 100 * (last["tuned_gain"] - first["tuned_gain"])
    reach = 100 * math.hypot(*(row["tuned_high"] - row["tuned_gain"] for row in (first, last)))
    error = 100 * math.hypot(first["tuned_standard_error"], last["tuned_standard_error"])
    difference = intervals.Mean(change, error, change - reach, change + reach)
    sizes = f"of gain from {int(first['num_params']):,} to {int(last['num_params']):,} parameters, each arm tuned"
    trained = command("digits_fair_fight.py", "digits_fair_fight")
    kind = verdict_of(difference.low, difference.high)
    return [
        Evidence(
            "digits_fair_fight",
            "digits with half of the training labels wrong, MLP",
            interval(difference, f"points {sizes}"),
            kind,
            trained,
        )
    ]


def decay_replaces() -> list[Evidence]:
    """Test whether SAM still gains at the largest size where each arm's weight decay is tuned."""
    rows = read(DECAY_TUNED.summary, DECAY_TUNED.where).sort_values("num_params")
    last = rows.iloc[-1]
    names = ("tuned_gain", "tuned_standard_error", "tuned_low", "tuned_high")
    gain = intervals.Mean(*(100 * last[name] for name in names))
    number = interval(gain, f"points at {int(last['num_params']):,} parameters, each arm's weight decay tuned")
    return [judged(DECAY_TUNED, number, verdict_of(gain.low, gain.high))]


def without_regularization() -> list[Evidence]:
    """Test whether the gain does not grow: the interval of its slope lies below zero."""
    evidence = []
    for study in (WITHOUT_DECAY, PTNK_LAST, TURKISH_LAST, VIT):
        of_study = growth(study)
        evidence.append(of_study._replace(verdict={HOLDS: FAILS, FAILS: HOLDS}.get(of_study.verdict, of_study.verdict)))
    return evidence


CLAIMS = (
    Claim("C1", "the gain of SAM grows with width", lambda: [growth(study) for study in WIDTHS]),
    Claim(
        "C2",
        "with few parameters the gain is near zero",
        lambda: [smallest(study) for study in WIDTHS if study.is_percent],
    ),
    Claim("C3", "1-D regression: SAM's functions are simpler where there are many neurons, not few", simpler_functions),
    Claim("C4", "SAM ends in SGD's basin where there are few neurons, in a flatter one where there are many", basins),
    Claim("C5", "the best rho grows with the number of parameters", best_rhos),
    Claim("C6", "the smoothness constant β shrinks with width, the PL constant α grows", smoothness),
    Claim("C7", "label noise amplifies the growth", amplified),
    Claim(
        "C8",
        "at a fixed number of nonzero parameters, wider and sparser networks gain more",
        lambda: [growth(SPARSITY)],
    ),
    Claim(
        "C9", "the gain does not grow without weight decay, without early stopping, or for ViT", without_regularization
    ),
    Claim("C10", "minima of SAM are flatter and more uniform, the more so the larger rho", flatter),
    Claim("C11", "unnormalized SAM converges linearly where it interpolates", linear_convergence),
    Claim("C12", "with depth, the gain grows for MLPs and not for ResNets", lambda: [growth(DEPTH)]),
    Claim("C13", "stronger weight decay of SGD does not replace SAM", decay_replaces),
    Claim("C14", "in the lazy regime SAM is more than 10 points below SGD", lazy),
    Claim("C15", "twice as many epochs of SGD do not remove the growth", twice_as_long),
    Claim("C16", "the test error of SAM itself falls with width", generalizes),
)

HEAD = f"""# The paper's claims

Written by `python benchmarks/claims.py` from the committed tables in `docs/studies/`; a test compares the two.

Intervals are 95 % intervals over seeds, each on its own. Slopes are least-squares slopes of each seed's gain, at the
rho that the other seeds choose, against the logarithm of the number of parameters, with equal weights for all sizes;
the trend of a report weights sizes by their noise. A claim **holds** or **does not** if the whole interval implies
it, and is **not decided** if the interval includes both, as is common with three seeds; no claim is judged by a mean.
Each verdict is wrong with a chance of at most one in twenty: of the verdicts on this page, expect a few to be.
"Near zero" is within ±{NEAR_ZERO:g} points, and for the barriers of C4 within a tenth of SGD's training loss. Sets of
the best rho have 95 % confidence each; a set that reaches an end of its grid is censored there. Where C10 compares one
rho with the base, only its first half is judged, and without s₂ by the top eigenvalue alone. **Not tested** marks
claims that no committed table can decide. Most studies are smaller than the paper's, on other data; a verdict applies
to what was run.

"""


def section(claim: Claim, evidence: Sequence[Evidence]) -> str:
    """Write the evidence of a claim."""
    head = f"## {claim.name}: {claim.text}\n\n"
    if not evidence:
        return f"{head}No committed table tests it.\n"
    rows = "\n".join(
        f"| [{item.data}](studies/{item.study}.md) | {item.number} | {item.verdict} |" for item in evidence
    )
    return f"{head}| data, network | number (95 % interval) | verdict |\n|---|---|---|\n{rows}\n"


def page() -> str:
    """Write the page."""
    every = [(claim, [] if claim.evaluate is None else claim.evaluate()) for claim in CLAIMS]
    rows = "\n".join(
        f"| {claim.name} | {claim.text} | {overall(evidence) if evidence else UNTESTED} |" for claim, evidence in every
    )
    summary = f"| claim | what it says | verdict |\n|---|---|---|\n{rows}\n"
    commands = "\n".join(dict.fromkeys(item.command for _, evidence in every for item in evidence))
    last = f"## Commands\n\nThese trained the runs.\n\n```bash\n{commands}\n```\n"
    return HEAD + "\n".join([summary, *(section(claim, evidence) for claim, evidence in every), last])


if __name__ == "__main__":
    PAGE.write_text(page())
    print(f"wrote {PAGE}")
