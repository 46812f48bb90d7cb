"""Calibration of studies that steer themselves: how often they err, what they show, and with how many runs.

Run:     python benchmarks/decide.py            (2,000 studies of each kind; some minutes of an idle core)
         python benchmarks/decide.py --replay   (the committed tables that have enough seeds; a minute)
Options: --studies=2000, --kinds=gain,growth,tuned
Prints:  a Markdown table: for each question and true effect, in standard deviations of a run, the share of studies
         that conclude rightly and falsely, that of intervals that cover the truth, the mean number of runs, how much
         too large estimates are where a study concludes, and the runs of a fixed grid that concludes as often.

The code that decides is that of `config.study.decide`; only the runs are simulated: normal, independent, 1 sd. SAM has
eight radii, and its whole gain in their middle; tuned arms have four rates, of which the second is the best. "none" is
without a gain at the best settings of both arms, and "flat" without any difference between tuned settings.
"""

import argparse
import bisect
import functools
from pathlib import Path

import numpy as np
import pandas as pd

from flatwide import decide
from flatwide.analysis import arms, convert, estimates
from flatwide.decide import simulate
from flatwide.decide.course import Course, Design, Verdict

RADII = tuple(float(index) for index in range(1, 9))
RATES = tuple((float(index),) for index in range(1, 5))
STUDIES = Path(__file__).parent.parent / "docs" / "studies"
TABLES = (  # question, table, condition, tuned fields
    ("gain", "digits_label_noise", "", ()),
    ("growth", "digits_label_noise", "", ()),
    ("gain", "digits_fair_fight", "num_epochs == 60", ("learning_rate",)),
    ("both", "mnist_label_noise/decided", "", ("learning_rate",)),
)
_GRIDS, _NUM_SEEDS = 400, range(3, 41)  # fixed grids: how many of each number of seeds


def design(kind: str) -> Design:
    """Return the design of a kind of study."""
    rates = RATES if kind == "tuned" else ((),)
    sizes = (100, 1_000, 10_000) if kind == "growth" else (10_000,)
    tuned = ("learning_rate",) if kind == "tuned" else ()
    return Design(
        question="growth" if kind == "growth" else "gain",
        sizes=sizes,
        rhos=RADII,
        tuned=tuned,
        rates=rates,
        base_rates=rates,
        seeds=range(34),
    )


def effects(kind: str, made: Design) -> dict[str, tuple[float, simulate.Means]]:
    """Map the names of the true effects of a kind to their size and the means of the runs."""
    gains = {
        name: [gain * index / 2 for index in range(3)] if kind == "growth" else [gain]
        for name, gain in (("none", 0.0), ("1 sd", 1.0), ("2 sd", 2.0), ("3 sd", 3.0))
    }
    every = {name: (values[-1], simulate.hump(made, values)) for name, values in gains.items()}
    return ({"flat": (0.0, lambda size, setting: 0.0)} if kind == "tuned" else {}) | every


def row(kind: str, name: str, *, num_studies: int) -> str:
    """Simulate studies and return a row of the table."""
    made = design(kind)
    size, mean = effects(kind, made)[name]
    generator = np.random.default_rng(1)
    found = [simulate.study(made, mean, generator) for _ in range(num_studies)]
    directions = np.array([each.verdicts[0].direction for each in found])
    right = float(np.mean(directions > 0)) if size else None
    false = float(np.mean(directions != 0 if not size else directions < 0))
    every = [truths(each.verdicts[0], mean) for each in found]
    covers = np.mean([covered(each, of) for each, of in zip(found, every, strict=True)], axis=0)
    shown = [(each.verdicts[0].estimates[0].value, of[0]) for each, of in zip(found, every, strict=True)]
    shown = [pair for pair, direction in zip(shown, directions, strict=True) if direction]
    excess = np.mean([np.sign(value) * (value - truth) for value, truth in shown]) if shown else np.nan
    runs = float(np.mean([len(each.runs) for each in found]))
    grid = fixed_grid(kind, made, mean, right) if right is not None and 0.05 < right < 0.999 else None
    cells = [
        kind,
        name,
        "-" if right is None else f"{right:.3f}",
        f"{false:.3f}",
        f"{min(covers):.3f}",
        f"{runs:.0f}",
        f"{excess:+.2f}",
        "-" if grid is None else f"{grid:.0f}",
        "-" if grid is None else f"{runs / grid:.2f}",
    ]
    return f"| {' | '.join(cells)} |"


def truths(verdict: Verdict, mean: simulate.Means) -> tuple[float, ...]:
    """Return the true values of the estimates of a verdict: at the settings that each seed was scored at."""
    gains = [_true_gain(comparison, mean) for comparison in verdict.comparisons]
    if verdict.question == "gain":
        return tuple(gains)
    slope = estimates.slope_weights([comparison.num_params for comparison in verdict.comparisons]) @ gains
    return float(slope), gains[-1] - gains[0]


def covered(course: Course, of: tuple[float, ...]) -> list[bool]:
    """Return which intervals of the first verdict contain the truth."""
    return [each.low <= truth <= each.high for each, truth in zip(course.verdicts[0].estimates, of, strict=True)]


def _true_gain(comparison: arms.Comparison, mean: simulate.Means) -> float:
    chosen = estimates.choose_both(comparison.base.choices, comparison.sam.choices)
    means = [
        [mean(comparison.num_params, tuple(arm.settings[column].values())) for column in columns[:-1]]
        for arm, columns in zip((comparison.base, comparison.sam), chosen, strict=True)
    ]
    return float(np.mean(means[1]) - np.mean(means[0]))


def fixed_grid(kind: str, made: Design, mean: simulate.Means, rate: float) -> float | None:
    """Return the runs of a grid of all settings whose 95 % intervals conclude as often, interpolated over seeds."""
    per_seed = len(made.sizes) * (len(made.settings(True)) + len(made.settings(False)))

    @functools.cache
    def power(num_seeds: int) -> float:
        generator = np.random.default_rng([2, num_seeds])
        return float(np.mean([_concludes(made, mean, num_seeds, generator) for _ in range(_GRIDS)]))

    first = bisect.bisect_left(_NUM_SEEDS, rate, key=power)
    if first == len(_NUM_SEEDS):
        return None
    num_seeds = _NUM_SEEDS[first]
    fewer, lower = (num_seeds - 1, power(num_seeds - 1)) if first else (0, 0.0)
    return per_seed * (fewer + (rate - lower) / (power(num_seeds) - lower))


def _concludes(made: Design, mean: simulate.Means, num_seeds: int, generator: np.random.Generator) -> bool:
    """Whether a fixed grid finds the gain, or its growth by slope and rise."""
    compared = []
    for size in made.sizes:
        sides = []
        for is_sam in (False, True):
            settings = made.settings(is_sam)
            values = np.array([mean(size, s) for s in settings]) + generator.normal(size=(num_seeds, len(settings)))
            sides.append(arms.Arm(tuple({"rho": s[0]} for s in settings), tuple(range(num_seeds)), values, values))
        compared.append(arms.Comparison(width=size, num_params=size, base=sides[0], sam=sides[1], sign=1))
    if len(compared) == 1:
        return compared[0].gain.sign > 0
    scores = arms.scores(compared)
    return estimates.slope(scores).sign > 0 and estimates.rise(scores).sign > 0


def replay() -> None:
    """Print the verdicts that studies which steer themselves reach on committed tables, and their share of the runs."""
    for question, name, where, tune in TABLES:
        paths = [STUDIES / name / "runs.csv", STUDIES / name / "seeds_100_to_107" / "runs.csv"]
        table = pd.concat([pd.read_csv(path) for path in paths if path.exists()], ignore_index=True)
        runs = convert.from_columns(table.query(where) if where else table, metric_name="accuracy")
        course, text = decide.replay(runs, question, tune=tune)
        asked = len(course.runs) - len(course.missing)
        print(f"{name}, {question}: {asked} of {len(runs)} runs ({asked / len(runs):.0%}). {text}\n", flush=True)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--studies", type=int, default=2000)
    parser.add_argument("--kinds", default="gain,growth,tuned")
    parser.add_argument("--replay", action="store_true")
    flags = parser.parse_args()
    if flags.replay:
        replay()
        return
    print("| question | truth | right | false | covers | runs | too large, sd | fixed grid | ratio |")
    print("|---|---|---|---|---|---|---|---|---|")
    for kind in flags.kinds.split(","):
        for name in effects(kind, design(kind)):
            print(row(kind, name, num_studies=flags.studies), flush=True)


if __name__ == "__main__":
    main()
