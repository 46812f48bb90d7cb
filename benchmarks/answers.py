"""Coverage and error rates of intervals, sets and verdicts on simulated studies with known truth.

Run:     python benchmarks/answers.py [sets] [gains] [trends] [verdicts] [decline] [domains] [shared] [committed]
         [averages]   (all: minutes)
Options: --tables=500 (simulated studies of each kind), --seeds=3,5,8, --rhos=5,11, --noise=WORDS (only these kinds),
         --workdir=W (for averages)
Prints:  a Markdown table for each question, with simpler rules for comparison.

A study has `WIDTHS` widths, several seeds and radii, and one of nine kinds of noise. Unless stated otherwise, all
radii equal the base and the true gain is zero at every width.
"""

import argparse
import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.optimize import brentq
from scipy.special import digamma, polygamma, stdtrit

import flatwide
from flatwide.analysis import best_sets, estimates, several, table, verdict
from flatwide.analysis.estimates import Scores, Side
from flatwide.runs.averages import averaged

STUDIES = Path(__file__).parents[1] / "docs" / "studies"
METRICS = ("test_metric", "test_loss")
WIDTHS = 5
SIZES = tuple(round(10 ** (1.5 + 0.6 * width)) for width in range(WIDTHS))


def kinds(generator: np.random.Generator, num: int, num_seeds: int, num_rhos: int) -> Iterator[tuple]:
    """Yield each kind of noise: its name, base runs [studies, widths, seeds, 1] and SAM runs [..., rhos]."""
    shape = (num, WIDTHS, num_seeds, num_rhos)
    base, sam = generator.normal(size=(*shape[:-1], 1)), generator.normal(size=shape)
    smallest = np.where(np.arange(WIDTHS) == 0, 10.0, 1.0)[:, None, None]
    largest = np.where(np.arange(WIDTHS) == WIDTHS - 1, 5.0, 1.0)[:, None, None]
    one_rho = np.where(np.arange(num_rhos) == num_rhos - 1, 10.0, 1.0)
    indices = np.arange(num_rhos + 1)
    chain = generator.normal(size=(*shape[:-1], num_rhos + 1))
    chain = chain @ np.linalg.cholesky(0.8 ** abs(np.subtract.outer(indices, indices))).T
    yield "equal noise", base, sam
    yield "base a tenth as noisy", base / 10, sam
    yield "base three times as noisy", 3 * base, sam
    yield "neighbouring radii correlated 0.8", chain[..., :1], chain[..., 1:]
    yield "noise grows tenfold along rho", base, np.geomspace(0.3, 3, num_rhos) * sam
    yield "one radius ten times as noisy", base, one_rho * sam
    yield "smallest width ten times as noisy", smallest * base, smallest * sam
    yield "SAM five times as noisy at the largest width", base, largest * sam
    yield "accuracy on 360 examples", *(generator.binomial(360, 0.95, size=runs.shape) / 360 for runs in (base, sam))


def sets(args: argparse.Namespace) -> None:
    """Measure how often the set of the best radii contains the best one, and its size."""
    print("| truth | seeds | radii | contains the best | size | in one step: contains | size |")
    print("|---|---|---|---|---|---|---|")
    for num_seeds, num_rhos in args.cells:
        for name, truth, scale, best in _grids(num_rhos):
            generator = np.random.default_rng(5)
            tables = truth + scale * generator.normal(size=(args.tables, num_seeds, num_rhos))
            stepwise, before = best_sets.best_set(tables), _one_step(tables)
            numbers = (f"{is_in[:, best].mean():.3f} | {is_in.sum(axis=1).mean():.1f}" for is_in in (stepwise, before))
            print(f"| {name} | {num_seeds} | {num_rhos} | {' | '.join(numbers)} |")


def _grids(num_rhos: int) -> Iterator[tuple]:
    """Yield name, true means and spreads of the radii, and the index of the best one."""
    indices, zero, ones = np.arange(num_rhos), np.zeros(num_rhos), np.ones(num_rhos)
    yield "all equal", zero, ones, 1
    yield "a hump", -(((indices - 1) / 2) ** 2), ones, 1
    yield "the best three times as noisy", 0.5 * (indices == 1), 1 + 2.0 * (indices == 1), 1
    yield (
        "noise grows tenfold, the noisiest is best",
        0.1 * (indices == num_rhos - 1),
        np.geomspace(0.3, 3, num_rhos),
        -1,
    )
    yield "one hopeless, with 28 times the noise", -30.0 * (indices == 0), 1 + 27.0 * (indices == 0), 1
    yield "one hopeless, without noise", -30.0 * (indices == 0), 1.0 * (indices > 0), 1


def _one_step(tables: np.ndarray) -> np.ndarray:
    """Compute the set in one step: every comparison with the variance of the whole grid."""
    num_seeds, num_rhos = tables.shape[1:]
    means, rest = tables.mean(axis=1), tables - tables.mean(axis=1, keepdims=True)
    covariances = np.einsum("tij,tik->tjk", rest, rest) / (num_seeds - 1)
    variances = np.einsum("tkk->tk", covariances)
    pooled = (variances.sum(axis=1) - covariances.sum(axis=(1, 2)) / num_rhos) / (num_rhos - 1)
    variance = (variances[:, :, None] + variances[:, None] - 2 * covariances + 2 * pooled[:, None, None]) / 2
    with np.errstate(divide="ignore", invalid="ignore"):
        behind = np.where(variance > 0, (means[:, None] - means[:, :, None]) / np.sqrt(variance / num_seeds), 0)
    return behind.max(axis=2) <= best_sets.limits(num_seeds, num_rhos)[num_rhos]


def gains(args: argparse.Namespace) -> None:
    """Measure how often the intervals of the corrected and of the plain gain cover the true gain of the chosen rho."""
    print("| runs | seeds | radii | covers | at 99 % | longer than plain | plain: covers | its bias |")
    print("|---|---|---|---|---|---|---|---|")
    for num_seeds, num_rhos in args.cells:
        for name, base, sam, truth in _effects(np.random.default_rng(7), args.tables, num_seeds, num_rhos):
            if args.noise not in name:
                continue
            scored, best = estimates.score(Side(base, base), Side(sam, sam)), estimates.choose(sam)
            chosen = np.take_along_axis(sam - base, best[..., None, None], axis=-1)[..., 0]
            error = np.sqrt((scored.variances + scored.excesses) / num_seeds)
            away = np.abs(scored.values.mean(axis=-1) - truth[best])
            plain = chosen.mean(axis=-1) - truth[best]
            near = stdtrit(num_seeds - 1, 0.975) * chosen.std(axis=-1, ddof=1) / math.sqrt(num_seeds)
            reach = [stdtrit(scored.degrees, (1 + level) / 2) * error for level in (0.95, 0.99)]
            covers, at_99, naive = (np.mean(away <= reach[0]), np.mean(away <= reach[1]), np.mean(abs(plain) <= near))
            longer = np.median(reach[0]) / np.median(near) - 1
            print(f"| {name} | {num_seeds} | {num_rhos} | {covers:.3f} | {at_99:.3f} | {longer:+.0%} |", end=" ")
            print(f"{naive:.3f} | {plain.mean():+.2f} |", flush=True)


def _effects(generator: np.random.Generator, num: int, num_seeds: int, num_rhos: int) -> Iterator[tuple]:
    """Yield name, base runs, SAM runs and the true gain of each radius: noise of every kind, then true differences."""
    for name, base, sam in kinds(generator, num, num_seeds, num_rhos):
        yield name, base, sam, np.zeros(num_rhos)
    base, sam = (generator.normal(size=(num, WIDTHS, num_seeds, count)) for count in (1, num_rhos))
    indices = np.arange(num_rhos)
    hump, ahead = 1 - ((indices - num_rhos // 2) / (num_rhos / 2)) ** 2, 5.0 * (indices == 2)
    yield "a hump as high as the noise", base, sam + hump, hump
    yield "one radius far ahead", base, sam + ahead, ahead


def scores_of(base: np.ndarray, sam: np.ndarray) -> list[Scores]:
    """Arrange each study as `table.Part.scores` does."""
    num_seeds = sam.shape[2]
    scored = estimates.score(Side(base, base), Side(sam, sam))
    return [
        Scores(SIZES, tuple(range(num_seeds)), *arrays)
        for arrays in zip(scored.values, scored.variances, scored.excesses, scored.degrees, strict=True)
    ]


def _weighted(scores: Scores) -> estimates.Estimate:
    """Fit a slope with widths weighted inversely to their estimated noise, for comparison."""
    x, weights = np.log10(np.array(SIZES, dtype=float)), 1 / (scores.variances + scores.excesses)
    x = x - np.average(x, weights=weights)
    return estimates.contrast(scores, weights * x / np.sum(weights * x * x))


def trends(args: argparse.Namespace) -> None:
    """Measure how often intervals of slope and rise cover zero, and detect growth by 0.3 of the noise per width."""
    print("| noise | seeds | radii | covers | detects | rise: covers | weighted by noise: covers | detects |")
    print("|---|---|---|---|---|---|---|---|")
    rise = 0.5 * np.log10(np.array(SIZES) / SIZES[0])[:, None, None]
    for num_seeds, num_rhos in args.cells:
        for name, base, sam in kinds(np.random.default_rng(9), args.tables, num_seeds, num_rhos):
            if args.noise not in name:
                continue
            scale = 0.0115 if sam.max() <= 1 else 1.0  # of accuracy
            flat, rising = scores_of(base, sam), scores_of(base, sam + scale * rise)
            numbers = [
                f"{np.mean([fit(scores).sign == 0 for scores in flat]):.3f}"
                if is_flat
                else f"{np.mean([fit(scores).sign > 0 for scores in rising]):.2f}"
                for fit, is_flat in (
                    (estimates.slope, True),
                    (estimates.slope, False),
                    (estimates.rise, True),
                    (_weighted, True),
                    (_weighted, False),
                )
            ]
            print(f"| {name} | {num_seeds} | {num_rhos} | {' | '.join(numbers)} |", flush=True)


# The true gain at each width in units of the noise of a run, and the noise of each width.
SHAPES = {
    "flat": ((0, 0, 0, 0, 0), 1),
    "grows by 1 per width": ((0, 1, 2, 3, 4), 1),
    "grows by 1 per width, smallest ten times as noisy": ((0, 1, 2, 3, 4), (10, 1, 1, 1, 1)),
    "a gain only at the second-largest width": ((0, 0, 0, 5, 0), 1),
    "rises, then falls": ((0, 3, 6, 3, 0), 1),
    "rises steeply, then falls": ((-8, 2, 4, 3, 2), 1),
    "smallest width failed": ((-30, 0, 0, 0, 0), (3, 1, 1, 1, 1)),
    "a gain only at the largest width": ((0, 0, 0, 0, 5), 1),
    "harm at the largest width, noisy smallest": ((0, 0, 0, 0, -1.5), (10, 1, 1, 1, 1)),
    "shrinks by 1 per width": ((4, 3, 2, 1, 0), 1),
}


def shrunk(scores: Scores) -> Scores:
    """Shrink the variances of the widths towards their line in log10 of the parameters, for comparison.

    Source: Smyth (2004), Linear models and empirical Bayes methods, section 6.2, with the mean of log s^2 linear in a
      covariate, as `limma-trend` has it; the degrees of freedom are at most those of all widths together.
    """
    total, degrees = scores.variances + scores.excesses, scores.degrees
    if len(total) < 3 or not total.any():
        return scores
    x = np.log10(np.asarray(scores.num_params, dtype=float))
    logs = np.log(np.maximum(total, 1e-5 * np.median(total[total > 0]))) - digamma(degrees / 2) + np.log(degrees / 2)
    line = np.polynomial.Polynomial.fit(x, logs, 1)(x)
    beyond = np.sum((logs - line) ** 2) / (len(x) - 2) - polygamma(1, degrees / 2).mean()
    prior = 2 * brentq(lambda half: polygamma(1, half) - beyond, 1e-6, 1e6) if beyond > 1e-5 else 1e6
    common = np.exp(line + digamma(prior / 2) - np.log(prior / 2))
    factors = (prior * common / total + degrees) / (prior + degrees) if total.all() else np.ones_like(total)
    more = np.minimum(degrees + prior, degrees.sum())
    return scores._replace(variances=factors * scores.variances, excesses=factors * scores.excesses, degrees=more)


def shared(args: argparse.Namespace) -> None:
    """Measure coverage with the variances of widths as they are → shrunk to a common line, and ratios of lengths."""
    print(
        f"| noise | seeds | radii | gains | worst width | jointly | slope | length of gains | slopes |\n|{'---|' * 9}"
    )
    for num_seeds, num_rhos in args.cells:
        for name, base, sam in kinds(np.random.default_rng(13), args.tables, num_seeds, num_rhos):
            if args.noise not in name:
                continue
            every = [(scores, shrunk(scores)) for scores in scores_of(base, sam)]
            now, then = (np.array([_covered(each[which], each[0]) for each in every]) for which in (0, 1))
            shares = [
                f"{before:.3f} → {after:.3f}"
                for before, after in zip(_shares(now[:, :, 0]), _shares(then[:, :, 0]), strict=True)
            ]
            with np.errstate(divide="ignore", invalid="ignore"):
                lengths = np.nanmedian(then[:, :, 1] / now[:, :, 1], axis=0)
            print(f"| {name} | {num_seeds} | {num_rhos} | {' | '.join(shares)} |", end=" ")
            print(f"{lengths[:WIDTHS].mean():.2f} | {lengths[-1]:.2f} |", flush=True)


def _covered(scores: Scores, plain: Scores) -> list[tuple[bool, float]]:
    """Return whether zero is covered, and the reach, of the gains, of the gains jointly, and of the slope."""
    gains = [estimates.contrast(scores.only([width]), [1.0]) for width in range(WIDTHS)]
    slope = estimates.slope(scores)
    slope = slope._replace(degrees=min(slope.degrees, float(plain.degrees.sum())))
    joint = all(gain.at(estimates.sidak(WIDTHS)).sign == 0 for gain in gains)
    return [*((gain.sign == 0, gain.reach) for gain in gains), (joint, math.nan), (slope.sign == 0, slope.reach)]


def _shares(covers: np.ndarray) -> list[float]:
    """Return the coverage of gains, of those of the worst width, of all jointly, and of slopes."""
    each = covers.mean(axis=0)
    return [each[:WIDTHS].mean(), each[:WIDTHS].min(), *each[WIDTHS:]]


def committed(args: argparse.Namespace) -> None:
    """Measure paired effects on the tables of `docs/studies` in standard deviations, and lengths with shared variances.

    An effect is that of a width: its mean over seeds by its standard deviation, as its interval has it.
    """
    print(
        "| table | seeds | widths | accuracy | loss | median ratio | shared variances: accuracy | loss |\n|"
        + 8 * "---|"
    )
    for path in sorted(STUDIES.glob("**/runs.csv")):
        runs = pd.read_csv(path).assign(higher_is_better=True)
        if not set(METRICS) <= set(runs.columns) or several.restating(runs, METRICS):
            continue
        effects, lengths = [], []
        for split in several.splits(runs, METRICS):
            every = [part.scores for part in split.parts if len(part.scores.seeds) > 2]
            errors = [np.sqrt(scores.variances + scores.excesses) for scores in every]
            means = [abs(scores.values.mean(axis=1)) for scores in every]
            with np.errstate(divide="ignore", invalid="ignore"):
                effects.append(
                    np.concatenate([mean / error for mean, error in zip(means, errors, strict=True)] or [[]])
                )
            lengths.append([_reach(shrunk(scores)) / _reach(scores) for scores in every if len(scores.values) > 2])
        if len(effects[0]) == 0 or len(effects[0]) != len(effects[1]):
            continue
        seeds = " to ".join(str(count) for count in sorted({len(scores.seeds) for scores in every}))
        both = np.isfinite(effects).all(axis=0) & (np.array(effects) > 0).all(axis=0)
        of = np.array(effects)[:, both]
        name = path.parent.relative_to(STUDIES)
        cells = [*(f"{np.median(each):.1f}" for each in of), f"{np.median(of[1] / of[0]):.1f}"]
        cells += [f"{np.nanmedian(np.concatenate(each)):.2f}" if each else "-" for each in lengths]
        print(f"| {name} | {seeds} | {both.sum()} | {' | '.join(cells)} |", flush=True)


def averages(args: argparse.Namespace) -> None:
    """Measure ratios of lengths where runs are scored by the mean of their last 3 or 5 evaluations, not by the last."""
    if not args.workdir:
        return
    print("| metric | evaluations | gains, the smallest width first | slopes |\n|---|---|---|---|")
    runs = flatwide.load(args.workdir)
    for metric in METRICS:
        parts = [table.part(averaged(Path(args.workdir), runs, last), metric=metric) for last in (1, 3, 5)]
        for last, part in zip((3, 5), parts[1:], strict=True):
            gains = _reach(part.scores) / _reach(parts[0].scores)
            slopes = estimates.slope(part.scores).reach / estimates.slope(parts[0].scores).reach
            print(f"| {metric} | {last} | {', '.join(f'{ratio:.2f}' for ratio in gains)} | {slopes:.2f} |")


def _reach(scores: Scores) -> np.ndarray:
    """Return half of the length of the interval of each gain."""
    return np.array([estimates.contrast(scores.only([row]), [1.0]).reach for row in range(len(scores.values))])


def verdicts(args: argparse.Namespace) -> None:
    """Measure how often each verdict is reached, and how often the slope alone would show growth."""
    kinds_of = (verdict.GROWS, verdict.LARGER, verdict.PEAKS, verdict.NO_TREND, verdict.SHRINKS, verdict.SMALLER)
    print(f"| true gain | seeds | radii | {' | '.join(kinds_of)}| slope alone: grows |")
    print(f"|{'---|' * (len(kinds_of) + 4)}")
    for num_seeds, num_rhos in args.cells:
        for name, (truth, scale) in SHAPES.items():
            generator = np.random.default_rng(3)
            spread = np.broadcast_to(scale, WIDTHS)[:, None, None]
            base = spread * generator.normal(size=(args.tables, WIDTHS, num_seeds, 1))
            sam = spread * generator.normal(size=(args.tables, WIDTHS, num_seeds, num_rhos))
            scores_of_studies = scores_of(base, sam + np.array(truth, float)[:, None, None])
            given = [verdict.verdict(scores).kind for scores in scores_of_studies]
            shares = (f"{given.count(kind) / len(given):.2f}" for kind in kinds_of)
            before = np.mean([estimates.slope(scores).low > 0 for scores in scores_of_studies])
            print(f"| {name} | {num_seeds} | {num_rhos} | {' | '.join(shares)} | {before:.2f} |", flush=True)


def decline(args: argparse.Namespace) -> None:
    """Measure how often the base is falsely reported to get worse at the largest width: nominally at most 2.5 %."""
    print("| noise | seeds | widths | declines | interval covers | joint choice: declines |\n|---|---|---|---|---|---|")
    for num_seeds in sorted({num_seeds for num_seeds, _ in args.cells}):
        for num_widths in (4, 7):
            for name, scale in (
                ("equal noise", np.ones(num_widths)),
                ("falls tenfold", np.geomspace(10, 1, num_widths)),
            ):
                generator = np.random.default_rng(2)
                base = scale * generator.normal(size=(args.tables * 4, num_seeds, num_widths))
                best = base.mean(axis=1).argmax(axis=1)
                plain = np.take_along_axis(base, best[:, None, None], axis=2)[..., 0] - base[..., -1]
                fair = estimates.cross_fit(Side(base, base)) - base[..., -1]
                stretch = math.sqrt(estimates.inflation(num_seeds, num_widths))
                first = (
                    best == num_widths - 1
                )  # never declines: measured from the smallest width, which is not selected
                plain[first] = fair[first] = base[first, :, 0] - base[first, :, -1]
                reach = stdtrit(num_seeds - 1, 0.975) / math.sqrt(num_seeds)
                low, high = (fair.mean(axis=1) + sign * reach * stretch * fair.std(axis=1, ddof=1) for sign in (-1, 1))
                before = plain.mean(axis=1) - reach * plain.std(axis=1, ddof=1)
                print(f"| {name} | {num_seeds} | {num_widths} | {np.mean(low > 0):.3f} |", end=" ")
                print(f"{np.mean((low <= 0) & (high >= 0)):.3f} | {np.mean(before > 0):.3f} |")


def domains(args: argparse.Namespace) -> None:
    """Measure how often any of several domains without a trend is reported to have one, and the length of intervals."""
    print("| domains | seeds | any trend | slope alone, 95 % | interval longer by |\n|---|---|---|---|---|")
    for num_seeds, num_rhos in args.cells:
        if num_rhos != min(rhos for _, rhos in args.cells):
            continue
        for count in (3, 7):
            shape = (args.tables * count, WIDTHS, num_seeds)
            generator = np.random.default_rng(4)
            scores_of_studies = scores_of(generator.normal(size=(*shape, 1)), generator.normal(size=(*shape, num_rhos)))
            slopes = [estimates.slope(scores) for scores in scores_of_studies]
            alone = np.array([slope.low > 0 or slope.high < 0 for slope in slopes]).reshape(-1, count)
            groups = [scores_of_studies[start : start + count] for start in range(0, len(scores_of_studies), count)]
            holm = np.mean([any(decision.direction for decision in verdict.holm(group)) for group in groups])
            length = np.median([slope.at(estimates.sidak(count)).reach / slope.reach for slope in slopes])
            print(f"| {count} | {num_seeds} | {holm:.3f} | {alone.any(axis=1).mean():.3f} | {length:.2f} times |")


QUESTIONS = {
    "sets": sets,
    "gains": gains,
    "trends": trends,
    "verdicts": verdicts,
    "decline": decline,
    "domains": domains,
    "shared": shared,
    "committed": committed,
    "averages": averages,
}


def main() -> None:
    """Answer the questions given, or all."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("questions", nargs="*", choices=[*QUESTIONS, []], default=[])
    parser.add_argument("--tables", type=int, default=500)
    parser.add_argument("--seeds", default="3,5,8")
    parser.add_argument("--rhos", default="5,11")
    parser.add_argument(
        "--noise", default="", help="for gains and trends: only kinds of noise whose name contains this"
    )
    parser.add_argument("--workdir", help="for averages: runs that differ in width, rho and seed")
    args = parser.parse_args()
    counts = ([int(number) for number in text.split(",")] for text in (args.seeds, args.rhos))
    args.cells = [(num_seeds, num_rhos) for seeds, rhos in [tuple(counts)] for num_seeds in seeds for num_rhos in rhos]
    for question in args.questions or QUESTIONS:
        print(f"\n{QUESTIONS[question].__doc__}\n", flush=True)
        QUESTIONS[question](args)


if __name__ == "__main__":
    main()
