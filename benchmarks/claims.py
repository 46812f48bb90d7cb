"""Write docs/claims.md: each claim of the paper beside what the committed tables of the studies say of it.

    python benchmarks/claims.py

Nothing is trained: the numbers come from docs/studies/*/*.csv alone.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from flatwide.analysis import intervals, selection

ROOT = Path(__file__).parents[1]
STUDIES = ROOT / "docs" / "studies"
PAGE = ROOT / "docs" / "claims.md"
HOLDS, FAILS, OPEN, UNTESTED = "holds", "does not", "not decided", "not tested"
NEAR_ZERO = 0.5  # points: a gain whose interval lies within is near zero
NOTHING = "–"


class Found(NamedTuple):
    """What one study says of a claim.

    study: its folder. data: which data and networks. number: the number, with its interval.
    """

    study: str
    data: str
    number: str
    verdict: str
    command: str


class Claim(NamedTuple):
    """A claim of the paper, and how the tables are asked about it; None where no committed table can tell."""

    name: str
    text: str
    ask: Callable[[], list[Found]] | None


class Study(NamedTuple):
    """A study of widths with a committed table: what was run, the unit of its gain, and the factor to it."""

    folder: str
    data: str
    unit: str
    factor: float
    command: str


def command(config: str, workdir: str, *more: str) -> str:
    """Write the command that trained a study's runs."""
    return " ".join([f"python main.py --workdir=runs/{workdir} --config=configs/studies/{config}", *more])


DIGITS = Study("digits_width", "digits, MLP", "points", 100, command("digits_width.py", "digits_width"))
NOISY = Study(
    "digits_label_noise",
    "digits with half of the training labels wrong, MLP",
    "points",
    100,
    command("digits_label_noise.py", "digits_label_noise"),
)
_TURKISH = command(
    "pos_early_stopping.py",
    "turkish",
    "--config.data_dir=turkish --config.tag_column=upos --config.num_layers=2 --config.train_examples=1000",
    "--config.num_train_steps=600 --config.warmup_steps=100 --config.eval_every_steps=50",
    '--config.study.axes.hidden_size="(16,32,64)" --config.study.axes.rho="(0.0,0.02,0.05,0.1)"',
)
LAST_EPOCH = Study("pos_early_stopping", "a Turkish treebank, Transformer, last epoch", "points", 100, _TURKISH)
VIT = Study("cifar10_vit_width", "digits, ViT", "points", 100, command("cifar10_vit_width.py:digits", "digits_vit"))
WIDTHS = (
    Study(
        "synthetic_width",
        "teacher and student, ten epochs",
        "of squared error",
        1,
        command(
            "synthetic_width.py",
            "synthetic_width",
            "--config.num_epochs=10 --config.lr_scheduler=constant",
            '--config.study.axes.rho="(0.0,0.01,0.05,0.1,0.2,0.5)"',
        ),
    ),
    Study(
        "mnist_width",
        "MNIST, LeNet-300-100, 20 epochs, four sizes",
        "points",
        100,
        command("mnist_width.py", "mnist_width", "--config.data_dir=DIRECTORY"),
    ),
    DIGITS,
    NOISY,
    Study("pos_width", "a Turkish treebank, Transformer, best epoch", "points", 100, _TURKISH),
    Study(
        "sst2_width",
        "reviews, LSTM",
        "points",
        100,
        command("sst2_width.py:labelled_text", "reviews", "--config.data_dir=FILE"),
    ),
    Study(
        "molpcba_width",
        "made molecules, GCN",
        "points",
        100,
        command("molpcba_width.py:made_molecules", "made_molecules"),
    ),
    Study(
        "minatar_width",
        "MinAtar Breakout, PPO",
        "of score",
        1,
        command(
            "minatar_width.py",
            "minatar_width",
            "--config.num_epochs=16 --config.eval_every_steps=64 --config.study.workers=1",
            '--config.study.axes.num_filters="(2,4,8)" --config.study.axes.rho="(0.0,0.02,0.05,0.1)"',
        ),
    ),
)


def verdict_of(low: float, high: float, *, positive: bool = True) -> str:
    """Judge a claim that a number is above zero, or below: by its interval, and open where zero lies within."""
    if math.isnan(low) or low <= 0 <= high:
        return OPEN
    return HOLDS if (low > 0) == positive else FAILS


def near_zero(low: float, high: float, *, margin: float = NEAR_ZERO) -> str:
    """Judge a claim that a number is near zero: its whole interval is, or its whole interval is beyond."""
    if -margin <= low and high <= margin:
        return HOLDS
    return FAILS if low > margin or high < -margin else OPEN


def overall(found: Sequence[Found]) -> str:
    """Join the verdicts of several studies."""
    if len(found) == 1:
        return found[0].verdict
    counts = {kind: sum(one.verdict == kind for one in found) for kind in (HOLDS, FAILS, OPEN, UNTESTED)}
    return "; ".join(f"{kind} in {count} of {len(found)}" for kind, count in counts.items() if count)


def table(folder: str, name: str = "summary.csv") -> pd.DataFrame:
    """Read a committed table."""
    return pd.read_csv(STUDIES / folder / name)


def widths_of(folder: str) -> list[dict[str, Any]]:
    """List the rows of the summary that are about a width, the smallest first."""
    found = table(folder)
    return found[found["row"] == "width"].sort_values("num_params").to_dict("records")


def slopes(by_place: Mapping[float, Mapping[Any, float]]) -> list[float]:
    """Fit a line to each seed that every place has: place -> seed -> value."""
    places = np.array(list(by_place), dtype=float)
    centered = places - places.mean()
    seeds = sorted(set.intersection(*(set(values) for values in by_place.values())))
    lines = [np.array([values[seed] for values in by_place.values()]) for seed in seeds]
    return [float(centered @ line / (centered @ centered)) for line in lines]


def gains(study: Study, sizes: Sequence[int] | None = None) -> dict[float, dict[int, float]]:
    """Read the corrected gain of each seed: log10 of the size -> seed -> gain in the study's unit."""
    rows = table(study.folder, "gain_by_width.csv")
    rows = rows[(rows["of"] == "corrected") & rows["seed"].notna()]
    found: dict[float, dict[int, float]] = {}
    for row in rows.sort_values("num_params").to_dict("records"):
        if sizes is None or row["num_params"] in sizes:
            own = found.setdefault(math.log10(row["num_params"]), {})
            own[int(row["seed"])] = study.factor * row["gain"]
    return found


def stretch(study: Study, num_seeds: int) -> float:
    """Return how much wider the interval of cross-fitted gains is than Student's t."""
    most = max(int(row["num_rhos"]) for row in widths_of(study.folder))
    return selection.stretch_of_scores(num_seeds, most)


def interval(found: intervals.Mean, unit: str, *, digits: int = 2) -> str:
    """Write a number with its 95 % interval."""
    mean, low, high = (signed(value, digits=digits) for value in (found.mean, found.low, found.high))
    return f"{mean} {unit} ({low} to {high})"


def signed(value: float, *, digits: int = 2) -> str:
    """Write a number with its sign, as the pages do."""
    return f"{value:+.{digits}f}".replace("-", "−")


def growth(study: Study) -> Found:
    """Ask how the gain changes for ten times the parameters."""
    found = slopes(gains(study))
    slope = intervals.mean(found, stretch=stretch(study, len(found)))
    number = interval(slope, f"{study.unit} for ten times the parameters, {len(found)} seeds")
    return Found(study.folder, study.data, number, verdict_of(slope.low, slope.high), study.command)


def smallest(study: Study) -> Found:
    """Ask how large the gain is at the smallest size."""
    row = widths_of(study.folder)[0]
    low, mean, high = (study.factor * row[f"corrected_{end}"] for end in ("low", "gain", "high"))
    number = f"{signed(mean)} points ({signed(low)} to {signed(high)}) at {int(row['num_params']):,} parameters"
    return Found(study.folder, study.data, number, near_zero(low, high), study.command)


def best_rhos(study: Study) -> Found:
    """Ask whether the sets of the best rho at both ends are apart."""
    rows = widths_of(study.folder)
    ends = (rows[0], rows[-1])
    sets = [[float(rho) for rho in str(row["best_rho_set"]).split()] for row in ends]
    edges = [
        f", at the {row['at_grid_edge']} end of the grid" if row["at_grid_edge"] in ("low", "high") else ""
        for row in ends
    ]
    texts = [
        f"{row['best_rho']:g} of {{{', '.join(f'{rho:g}' for rho in own)}}}{edge}"
        for row, own, edge in zip(ends, sets, edges, strict=True)
    ]
    verdict = HOLDS if max(sets[0]) < min(sets[1]) else FAILS if max(sets[1]) < min(sets[0]) else OPEN
    return Found(study.folder, study.data, " → ".join(texts), verdict, study.command)


def measured(folder: str, name: str, quantity: str, **where: Any) -> pd.DataFrame:
    """Select rows of a committed table of measurements."""
    rows = table(folder, name)
    for column, value in (("quantity", quantity), *where.items()):
        rows = rows[rows[column] == value]
    return rows


def by_place(rows: pd.DataFrame, along: str, *, is_size: bool) -> dict[float, dict[int, float]]:
    """Arrange logarithms of measurements: place -> seed -> value."""
    found: dict[float, dict[int, float]] = {}
    for row in rows.sort_values(along).to_dict("records"):
        place = math.log10(row[along]) if is_size else row[along]
        found.setdefault(place, {})[int(row["seed"])] = math.log(row["value"])
    return found


def factor(found: intervals.Mean, words: str) -> str:
    """Write a mean logarithm as a factor with its 95 % interval."""
    return f"×{math.exp(found.mean):.3g} {words} ({math.exp(found.low):.3g} to {math.exp(found.high):.3g})"


def simpler_functions() -> list[Found]:
    """Compare how much the slopes of SAM's and SGD's functions vary, seed by seed."""
    found = []
    for size in (15, 30, 300, 3000):
        rows = measured(
            "theory_regression_1d", "function_by_rho.csv", "function.slope_total_variation", num_params=size
        )
        wide = rows.pivot(index="rho", columns="seed", values="value")
        ratio = intervals.mean(np.log(wide.loc[0.2] / wide.loc[0.0]).to_numpy())
        number = factor(ratio, f"variation of the slope, SAM at rho 0.2 over SGD, at {size:,} parameters")
        kind = verdict_of(ratio.low, ratio.high, positive=False)
        if size < 100:  # there the claim is that they are alike
            kind = FAILS if kind != OPEN else OPEN
        found.append((number, kind))
    kinds = [kind for _, kind in found]
    whole = HOLDS if kinds[2:] == [HOLDS, HOLDS] and FAILS not in kinds[:2] else FAILS if FAILS in kinds[2:] else OPEN
    numbers = "; ".join(number for number, _ in found)
    trained = command("theory_regression_1d.py", "theory_regression_1d")
    return [Found("theory_regression_1d", "12 points on a line, one hidden layer", numbers, whole, trained)]


def smoothness() -> list[Found]:
    """Ask how the constants of SGD's path change with width."""
    texts, kinds = [], []
    for quantity, words, positive in (("smoothness", "β", False), ("pl_constant", "α", True)):
        rows = measured("theory_smoothness_pl", "smoothness_by_width.csv", f"smoothness.{quantity}", rho=0.0)
        slope = intervals.mean(slopes(by_place(rows, "num_params", is_size=True)))
        texts.append(factor(slope, f"{words} for ten times the parameters"))
        kinds.append(verdict_of(slope.low, slope.high, positive=positive))
    kind = HOLDS if kinds == [HOLDS, HOLDS] else FAILS if FAILS in kinds else OPEN
    trained = command("theory_smoothness_pl.py:digits", "theory_smoothness_pl")
    return [Found("theory_smoothness_pl", "digits, MLP, SGD, last epoch", "; ".join(texts), kind, trained)]


def amplified() -> list[Found]:
    """Ask how much faster the gain grows where half of the labels are wrong, seed by seed at the same sizes."""
    sizes = [int(row["num_params"]) for row in widths_of(NOISY.folder)]
    clean, noisy = slopes(gains(DIGITS, sizes)), slopes(gains(NOISY))
    wider = max(stretch(study, len(clean)) for study in (DIGITS, NOISY))
    more = intervals.mean(np.subtract(noisy, clean), stretch=wider)
    number = interval(more, f"points more for ten times the parameters than without noise, {len(clean)} seeds")
    return [Found(NOISY.folder, NOISY.data, number, verdict_of(more.low, more.high), NOISY.command)]


def flatter() -> list[Found]:
    """Ask how the top eigenvalue and the non-uniformity fall with rho."""
    texts, kinds = [], []
    for name, quantity, words in (
        ("curvature_by_rho.csv", "curvature.top_eigenvalue", "top eigenvalue"),
        ("moments_by_rho.csv", "moments.s_2", "s₂"),
    ):
        slope = intervals.mean(slopes(by_place(measured("theory_stability", name, quantity), "rho", is_size=False)))
        texts.append(factor(intervals.Mean(*(0.1 * value for value in slope)), f"{words} for 0.1 more rho"))
        kinds.append(verdict_of(slope.low, slope.high, positive=False))
    kind = HOLDS if kinds == [HOLDS, HOLDS] else FAILS if FAILS in kinds else OPEN
    trained = command("theory_stability.py:digits", "theory_stability")
    return [Found("theory_stability", "digits, MLP, squared loss", "; ".join(texts), kind, trained)]


def linear_convergence() -> list[Found]:
    """Compare how fast the logarithm of the loss falls late and early, at the largest size and rho.

    Linear convergence keeps the speed; any power of the time, between epochs of doubled number, halves it.
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
    return [Found("theory_convergence", "matrix factorization, unnormalized SAM", number, kind, trained)]


def lazy() -> list[Found]:
    """Ask how far SAM is below SGD in the lazy regime, at the best of its rhos."""
    rows = table("linearized_regime", "metric_by_output_scale.csv")
    rows = rows[rows["output_scale"] == rows["output_scale"].max()]
    gain = intervals.mean((100 * rows["gain"]).tolist())
    kind = HOLDS if gain.high < -10 else FAILS if gain.low > -10 else OPEN
    number = interval(gain, f"points at an output scale of {rows['output_scale'].max():g} and the best rho")
    trained = command("linearized_regime.py:digits", "linearized_regime")
    return [Found("linearized_regime", "digits, linearized MLP", number, kind, trained)]


def generalizes() -> list[Found]:
    """Compare SAM's test error at the smallest and largest width; the table has means, so the seeds are not paired."""
    rows = table("theory_generalization")
    rows = rows[(rows["row"] == "seeds") & (rows["learning_rate"] == 0.001) & (rows["rho"] == 0.001)]
    first, last = (rows.sort_values("num_params").iloc[place] for place in (0, -1))
    error = math.hypot(first["standard_error"], last["standard_error"])
    fewest = int(min(first["num_seeds"], last["num_seeds"]))
    reach = selection.student(fewest, 0.95) * error  # the fewest degrees of freedom that it may have
    change = last["mean"] - first["mean"]
    found = intervals.Mean(change, error, change - reach, change + reach)
    sizes = f"from {int(first['num_params']):,} to {int(last['num_params']):,} parameters"
    number = interval(found, f"of squared error {sizes}, {fewest} seeds")
    kind = verdict_of(found.low, found.high, positive=False)
    trained = command(
        "theory_generalization.py",
        "theory_generalization",
        '--config.study.axes.num_neurons="((100,),(500,),(1000,),(5000,))"',
        '--config.study.axes.learning_rate="(0.01,0.001)" --config.study.axes.rho="(0.0,0.0001,0.001,0.01)"',
        '--config.study.axes.seed="(0,1)"',
    )
    return [Found("theory_generalization", "the two-layer teacher, frozen head", number, kind, trained)]


def twice_as_long() -> list[Found]:
    """Ask whether the gain over SGD trained for twice as long, each arm tuned, grows with width.

    The table has means, so the seeds are not paired: the squares of the two intervals' half-widths add up.
    """
    rows = table("digits_fair_fight", "comparisons.csv")
    rows = rows[rows["comparison"] == "twice as long"].sort_values("num_params")
    first, last = rows.iloc[0], rows.iloc[-1]
    change = 100 * (last["tuned_gain"] - first["tuned_gain"])
    reach = 100 * math.hypot(*(row["tuned_high"] - row["tuned_gain"] for row in (first, last)))
    error = 100 * math.hypot(first["tuned_standard_error"], last["tuned_standard_error"])
    found = intervals.Mean(change, error, change - reach, change + reach)
    sizes = f"of gain from {int(first['num_params']):,} to {int(last['num_params']):,} parameters, each arm tuned"
    trained = command("digits_fair_fight.py", "digits_fair_fight")
    kind = verdict_of(found.low, found.high)
    return [
        Found(
            "digits_fair_fight",
            "digits, half of the labels wrong, MLP",
            interval(found, f"points {sizes}"),
            kind,
            trained,
        )
    ]


def without_regularization() -> list[Found]:
    """Ask whether the gain fails to grow: its slope's interval reaches nowhere above zero."""
    found = []
    for study in (LAST_EPOCH, VIT):
        one = growth(study)
        found.append(one._replace(verdict={HOLDS: FAILS, FAILS: HOLDS}.get(one.verdict, one.verdict)))
    return found


CLAIMS = (
    Claim("C1", "the gain of SAM grows with width", lambda: [growth(study) for study in WIDTHS]),
    Claim(
        "C2",
        "with few parameters the gain is near zero",
        lambda: [smallest(study) for study in WIDTHS if study.unit == "points"],
    ),
    Claim("C3", "1-D regression: SAM's functions are simpler where there are many neurons, not few", simpler_functions),
    Claim("C4", "SAM ends in SGD's basin where there are few neurons, in a flatter one where there are many", None),
    Claim("C5", "the best rho grows with the number of parameters", lambda: [best_rhos(study) for study in WIDTHS]),
    Claim("C6", "the smoothness constant β shrinks with width, the PL constant α grows", smoothness),
    Claim("C7", "label noise amplifies the growth", amplified),
    Claim("C8", "at a fixed number of nonzero parameters, wider and sparser networks gain more", None),
    Claim(
        "C9", "the gain does not grow without weight decay, without early stopping, or for ViT", without_regularization
    ),
    Claim("C10", "minima of SAM are flatter and more uniform, the more so the larger rho", flatter),
    Claim("C11", "unnormalized SAM converges linearly where it interpolates", linear_convergence),
    Claim("C12", "with depth, the gain grows for MLPs and not for ResNets", None),
    Claim("C13", "stronger weight decay of SGD does not replace SAM", None),
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
"Near zero" is within ±{NEAR_ZERO:g} points. Sets of the best rho have 95 % confidence each; a set that reaches an end
of its grid is censored there. **Not tested** marks claims that no committed table can decide. Most studies are
smaller than the paper's, on other data; a verdict applies to what was run.

| claim | what it says | what was run, on which data | number (95 % interval) | verdict | command |
|---|---|---|---|---|---|
"""


def row(claim: Claim) -> str:
    """Write the row of a claim."""
    found = [] if claim.ask is None else claim.ask()
    if not found:
        return f"| {claim.name} | {claim.text} | {NOTHING} | {NOTHING} | {UNTESTED} | {NOTHING} |"
    several = len(found) > 1
    studies = "<br>".join(f"[{one.study}](studies/{one.study}.md): {one.data}" for one in found)
    numbers = "<br>".join(f"{one.study}: {one.number}" if several else one.number for one in found)
    each = "".join(f"<br>{one.study}: {one.verdict}" for one in found) if several else ""
    commands = "<br>".join(dict.fromkeys(f"`{one.command}`" for one in found))
    return f"| {claim.name} | {claim.text} | {studies} | {numbers} | {overall(found)}{each} | {commands} |"


def page() -> str:
    """Write the page."""
    return HEAD + "\n".join(row(claim) for claim in CLAIMS) + "\n"


if __name__ == "__main__":
    PAGE.write_text(page())
    print(f"wrote {PAGE}")
