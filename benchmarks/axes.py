"""Are the answers about other axes right as often as they say? Made-up studies whose truth is known.

Run:     python benchmarks/axes.py [best_rhos] [levels] [peaks] [scalings]   (all: minutes)
Options: --tables=200 (made-up studies of each kind), --seeds=3,5,8, --rhos=5,11
Prints:  a Markdown table for each question: how often its 95 % interval covers, and how often its words are wrong.

The kinds of noise are those of `answers.py`.
"""

import argparse
import inspect
import math
from collections.abc import Callable

import answers
import numpy as np

from flatwide.analysis import interpolation, questions, rho, scaling, trend, widths

EXAMPLES = (360, 720, 1440)


def cells_of(base: np.ndarray, sam: np.ndarray) -> list[widths.Width]:
    """Arrange one study, [widths, seeds, 1] and [widths, seeds, rhos]."""
    num_seeds, num_rhos = sam.shape[1:]
    return [
        widths.Width(
            value=size,
            num_params=size,
            seeds=tuple(range(num_seeds)),
            rhos=tuple(0.01 * 2.0**k for k in range(num_rhos)),
            values=values,
            choices=values,
            candidates=tuple(range(num_rhos)),
            short=(),
            num_diverged=0,
            sign=1,
        )
        for size, values in zip(answers.SIZES, np.concatenate([base, sam], axis=2), strict=True)
    ]


def best_rhos(args: argparse.Namespace) -> None:
    """How often the interval of the slope of the best rho covers, and how often the best rho is said to grow."""
    print("| noise | seeds | radii | one best rho: covers | grows or shrinks | it grows: covers | grows | censored |")
    print("|---|---|---|---|---|---|---|---|")
    weights = trend.slope_weights(answers.SIZES)
    for num_seeds, num_rhos in args.cells:
        places = np.arange(num_rhos)
        level, rising = [num_rhos // 2] * answers.WIDTHS, [round(1 + (num_rhos - 3) * k / 4) for k in range(5)]
        for name, base, sam in answers.kinds(np.random.default_rng(11), args.tables, num_seeds, num_rhos):
            scale = 0.0115 if sam.max() <= 1 else 1.0  # of accuracy
            numbers = []
            for best in (level, rising):
                truth = 10 ** float(weights @ np.log10([0.01 * 2.0**at for at in best]))
                curve = -scale * np.abs(places - np.array(best)[:, None]) ** 1.5
                found = [
                    rho.trend_of_best(cells_of(one, two + curve[:, None])) for one, two in zip(base, sam, strict=True)
                ]
                covers = np.mean([one.low <= truth * (1 + 1e-9) and one.high >= truth * (1 - 1e-9) for one in found])
                kinds = [one.direction for one in found]
                numbers.append((covers, kinds.count(1) / len(kinds), kinds.count(-1) / len(kinds)))
                censored = np.mean([one.low == 0 or math.isinf(one.high) for one in found])
            (covers, up, down), (covers_rising, grows, _) = numbers
            print(f"| {name} | {num_seeds} | {num_rhos} | {covers:.3f} | {up + down:.3f} |", end=" ")
            print(f"{covers_rising:.3f} | {grows:.2f} | {censored:.2f} |", flush=True)


def levels(args: argparse.Namespace) -> None:
    """How often the change of the gain's slope along three levels of another axis covers, and is seen."""
    print("| noise | seeds | radii | no change: covers | a change is told | it grows by 1 a level: covers | told |")
    print("|---|---|---|---|---|---|---|")
    values = (0.0, 0.25, 0.5)
    steps = np.log10(np.array(answers.SIZES) / answers.SIZES[0])[:, None, None]
    for num_seeds, num_rhos in args.cells:
        groups: dict[str, list[tuple]] = {}
        for seed in range(3):
            for name, base, sam in answers.kinds(np.random.default_rng(20 + seed), args.tables, num_seeds, num_rhos):
                groups.setdefault(name, []).append((base, sam))
        for name, parts in groups.items():
            scale = 0.0115 if parts[0][1].max() <= 1 else 1.0
            numbers = []
            for slope in (0.0, scale):
                every = [
                    answers.scores_of(base, sam + place * slope * steps) for place, (base, sam) in enumerate(parts)
                ]
                compared = (
                    questions.compare_levels(values, _alike(one), axis="label_noise")
                    for one in zip(*every, strict=True)
                )
                found = [one for one in compared if one is not None]
                covers = np.mean([one.change.low <= 2 * slope <= one.change.high for one in found])
                numbers.append((covers, np.mean([one.direction != 0 for one in found])))
            (covers, told), (covers_rising, power) = numbers
            print(f"| {name} | {num_seeds} | {num_rhos} | {covers:.3f} | {told:.3f} |", end=" ")
            print(f"{covers_rising:.3f} | {power:.2f} |", flush=True)


def _alike(every: tuple[trend.Scores, ...]) -> list[trend.Scores]:
    """Weigh widths alike in every part, as `trend.weights_of_parts` does."""
    shared = np.exp(np.mean([np.log(one.weights) for one in every], axis=0))
    return [one._replace(weights=shared) for one in every]


def peaks(args: argparse.Namespace) -> None:
    """How often the intervals of the gain's peak, of where the base fits and of their ratio cover, and words are wrong.

    The gain has its peak between two widths, and the base fits from the same size, or from one ten times smaller.
    """
    print("| noise | seeds | radii | base fits | covers: peak | base | ratio | said to be apart |")
    print("|---|---|---|---|---|---|---|---|")
    logs = np.log10(answers.SIZES)
    peak = 0.6 * logs[2] + 0.4 * logs[3]
    for num_seeds, num_rhos in args.cells:
        for name, base, sam in answers.kinds(np.random.default_rng(13), args.tables, num_seeds, num_rhos):
            scale = 0.0115 if sam.max() <= 1 else 1.0
            curve = -4 * scale * np.abs(logs - peak)[:, None, None]
            scores = answers.scores_of(base, sam + curve)
            for onset, words in ((peak, "at the peak"), (peak - 1, "ten times sooner")):
                generator = np.random.default_rng(17)
                found = [
                    interpolation.peak_of_scores(
                        one,
                        dict(enumerate(onset + 0.1 * generator.normal(size=num_seeds))),
                        (answers.SIZES[0], answers.SIZES[-1]),
                    )
                    for one in scores
                ]
                ratio = 10 ** (peak - onset)
                covers = (
                    np.mean([one.peak_low <= 10**peak <= one.peak_high for one in found]),
                    np.mean([one.onset_low <= 10**onset <= one.onset_high for one in found]),
                    np.mean([one.ratio_low <= ratio <= one.ratio_high for one in found]),
                )
                apart = np.mean([one.ratio_low > 1 or one.ratio_high < 1 for one in found])
                numbers = " | ".join(f"{one:.3f}" for one in covers)
                print(f"| {name} | {num_seeds} | {num_rhos} | {words} | {numbers} | {apart:.3f} |", flush=True)


def scalings(args: argparse.Namespace) -> None:
    """How often the variance about each curve is covered, and how often a measure is wrongly said to make one curve."""
    print(
        "| one curve against | noise | seeds | radii | covers: parameters | per example | over interpolation |", end=""
    )
    print(" their differences | told right | told wrong |\n|---|---|---|---|---|---|---|---|---|---|")
    truths = {
        scaling.PARAMETERS: lambda size, _: np.log10(size) - 2.7,
        scaling.PER_EXAMPLE: lambda size, examples: np.log10(size / examples),
        scaling.OVER_INTERPOLATION: lambda size, examples: np.log10(size) - 2.7 - 1.5 * np.log10(examples / 360),
        "none": None,
    }
    for num_seeds, num_rhos in args.cells:
        groups: dict[str, list[tuple]] = {}
        for seed in range(len(EXAMPLES)):
            for name, base, sam in answers.kinds(np.random.default_rng(30 + seed), args.tables, num_seeds, num_rhos):
                groups.setdefault(name, []).append((base, sam))
        for measure, size in truths.items():
            for name, parts in groups.items():
                cell = {"num_seeds": num_seeds, "num_rhos": num_rhos}
                _scaling(args, measure, size=size, name=name, parts=parts, **cell)


def _scaling(
    args: argparse.Namespace,
    measure: str,
    *,
    size: Callable[[np.ndarray, int], np.ndarray] | None,
    name: str,
    parts: list[tuple],
    num_seeds: int,
    num_rhos: int,
) -> None:
    """Print one row."""
    scale = 0.0115 if parts[0][1].max() <= 1 else 1.0
    sizes = np.array(answers.SIZES, float)
    curves = [np.zeros(answers.WIDTHS) for _ in EXAMPLES]
    if size is not None:
        at = [size(sizes, examples) for examples in EXAMPLES]
        curves = [scale * (1 + 2 * x - x**2 + 0.3 * x**3) for x in at]
    every = [
        answers.scores_of(base, sam + curve[:, None, None]) for (base, sam), curve in zip(parts, curves, strict=True)
    ]
    generator = np.random.default_rng(19)
    covered: dict[str, list[bool]] = {}
    right = wrong = 0
    for one in zip(*every, strict=True):
        one = _alike(one)
        means = {examples: 2.7 + 1.5 * math.log10(examples / 360) for examples in EXAMPLES}
        cells = scaling.Cells(
            sizes=np.tile(sizes, len(EXAMPLES)),
            examples=np.repeat(EXAMPLES, answers.WIDTHS),
            seeds=tuple(range(num_seeds)),
            gains=np.concatenate([scores.gains for scores in one]),
            # One choice a seed: what leaves two seeds out has no bias, and these tables a small one.
            pairs=np.concatenate([scores.gains for scores in one])[:, :, None].repeat(num_seeds, axis=2),
            weights=np.concatenate([scores.weights for scores in one]),
            stretch=max(scores.stretch for scores in one),
            onsets={
                examples: dict(enumerate(mean + 0.05 * generator.normal(size=num_seeds)))
                for examples, mean in means.items()
            },
        )
        exact = cells._replace(
            gains=np.repeat(np.concatenate(curves)[:, None], num_seeds, axis=1),
            pairs=np.tile(np.concatenate(curves)[:, None, None], (1, num_seeds, num_seeds)),
            onsets={examples: dict.fromkeys(range(num_seeds), mean) for examples, mean in means.items()},
        )
        found, truth = scaling.of_cells(cells), scaling.of_cells(exact)
        rounding = 1e-9 * scale**2
        for kind in ("variances", "differences"):
            for key, own in getattr(found, kind).items():
                true = getattr(truth, kind)[key].value
                column = key if kind == "variances" else "differences"
                covered.setdefault(column, []).append(own.low - rounding <= true <= own.high + rounding)
        told = scaling.nearest(found)
        right += told == measure
        wrong += told not in (None, measure)
    numbers = " | ".join(f"{np.mean(covered[key]):.3f}" for key in (*scaling.MEASURES, "differences"))
    shares = f"{right / args.tables:.3f} | {wrong / args.tables:.3f}"
    print(f"| {measure} | {name} | {num_seeds} | {num_rhos} | {numbers} | {shares} |", flush=True)


QUESTIONS = {"best_rhos": best_rhos, "levels": levels, "peaks": peaks, "scalings": scalings}


def main() -> None:
    """Answer the questions that are named, or all."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("questions", nargs="*", choices=[*QUESTIONS, []], default=[])
    parser.add_argument("--tables", type=int, default=200)
    parser.add_argument("--seeds", default="3,5,8")
    parser.add_argument("--rhos", default="5,11")
    args = parser.parse_args()
    seeds, rhos = ([int(one) for one in text.split(",")] for text in (args.seeds, args.rhos))
    args.cells = [(num_seeds, num_rhos) for num_seeds in seeds for num_rhos in rhos]
    for question in args.questions or QUESTIONS:
        print(f"\n{inspect.getdoc(QUESTIONS[question])}\n", flush=True)
        QUESTIONS[question](args)


if __name__ == "__main__":
    main()
