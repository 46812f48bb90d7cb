"""Are the answers right as often as they say? Intervals, sets and verdicts on made-up studies whose truth is known.

Run:     python benchmarks/answers.py [sets] [gains] [trends] [verdicts] [decline] [domains]   (all: minutes)
Options: --tables=500 (made-up studies of each kind), --seeds=3,5,8, --rhos=5,11, --noise=WORDS (only kinds so named)
Prints:  a Markdown table for each question, with the rule before 2026-11-28 beside the present one.

A study is made of `WIDTHS` widths, seeds and radii, with eight kinds of noise. Where nothing else is said all radii are
as good as the base, and the true gain is zero at every width.
"""

import argparse
import math
from collections.abc import Iterator

import numpy as np
from scipy.special import stdtrit

from flatwide.analysis import best_sets, decomposition, intervals, noise, selection, trend, verdict

WIDTHS = 5
SIZES = tuple(round(10 ** (1.5 + 0.6 * width)) for width in range(WIDTHS))


def kinds(generator: np.random.Generator, num: int, num_seeds: int, num_rhos: int) -> Iterator[tuple]:
    """Yield each kind of noise: its name, base runs [studies, widths, seeds, 1] and SAM runs [..., rhos]."""
    shape = (num, WIDTHS, num_seeds, num_rhos)
    base, sam = generator.normal(size=(*shape[:-1], 1)), generator.normal(size=shape)
    smallest = np.where(np.arange(WIDTHS) == 0, 10.0, 1.0)[:, None, None]
    one_rho = np.where(np.arange(num_rhos) == num_rhos - 1, 10.0, 1.0)
    places = np.arange(num_rhos + 1)
    chain = generator.normal(size=(*shape[:-1], num_rhos + 1))
    chain = chain @ np.linalg.cholesky(0.8 ** abs(np.subtract.outer(places, places))).T
    yield "even", base, sam
    yield "base a tenth", base / 10, sam
    yield "base threefold", 3 * base, sam
    yield "neighbouring radii correlated 0.8", chain[..., :1], chain[..., 1:]
    yield "grows tenfold along rho", base, np.geomspace(0.3, 3, num_rhos) * sam
    yield "one radius ten times as noisy", base, one_rho * sam
    yield "smallest width ten times as noisy", smallest * base, smallest * sam
    yield "accuracy on 360 examples", *(generator.binomial(360, 0.95, size=one.shape) / 360 for one in (base, sam))


def sets(args: argparse.Namespace) -> None:
    """How often the set of the best radii holds the best one, and how many radii it has."""
    print("| truth | seeds | radii | holds the best | radii in the set | with one step: holds | radii |")
    print("|---|---|---|---|---|---|---|")
    for num_seeds, num_rhos in args.cells:
        for name, truth, scale, best in _grids(num_rhos):
            generator = np.random.default_rng(5)
            tables = truth + scale * generator.normal(size=(args.tables, num_seeds, num_rhos))
            found, before = best_sets.best_set(tables), _one_step(tables)
            numbers = (f"{one[:, best].mean():.3f} | {one.sum(axis=1).mean():.1f}" for one in (found, before))
            print(f"| {name} | {num_seeds} | {num_rhos} | {' | '.join(numbers)} |")


def _grids(num_rhos: int) -> Iterator[tuple]:
    """Yield name, true means and spreads of the radii, and which is to be in the set."""
    places, zero, one = np.arange(num_rhos), np.zeros(num_rhos), np.ones(num_rhos)
    yield "all equal", zero, one, 1
    yield "a hump", -(((places - 1) / 2) ** 2), one, 1
    yield "the best three times as noisy", 0.5 * (places == 1), 1 + 2.0 * (places == 1), 1
    yield (
        "noise grows tenfold, the noisiest is best",
        0.1 * (places == num_rhos - 1),
        np.geomspace(0.3, 3, num_rhos),
        -1,
    )
    yield "one hopeless, of 28 times the noise", -30.0 * (places == 0), 1 + 27.0 * (places == 0), 1
    yield "one hopeless, without noise", -30.0 * (places == 0), 1.0 * (places > 0), 1


def _one_step(tables: np.ndarray) -> np.ndarray:
    """Find the set by the rule before: every comparison with the variance of the whole grid."""
    num_seeds, num_rhos = tables.shape[1:]
    means, rest = tables.mean(axis=1), tables - tables.mean(axis=1, keepdims=True)
    covariances = np.einsum("tij,tik->tjk", rest, rest) / (num_seeds - 1)
    own = np.einsum("tkk->tk", covariances)
    pooled = (own.sum(axis=1) - covariances.sum(axis=(1, 2)) / num_rhos) / (num_rhos - 1)
    variance = (own[:, :, None] + own[:, None] - 2 * covariances + 2 * pooled[:, None, None]) / 2
    with np.errstate(divide="ignore", invalid="ignore"):
        behind = np.where(variance > 0, (means[:, None] - means[:, :, None]) / np.sqrt(variance / num_seeds), 0)
    return behind.max(axis=2) <= best_sets.limits(num_seeds, num_rhos)[num_rhos]


def gains(args: argparse.Namespace) -> None:
    """How often intervals cover the true gain of the chosen rho, of the corrected gain and of the plain one."""
    print(
        "| runs | seeds | radii | covers | longer than with ratio 1 | with ratio 1: covers | plain: covers | its bias |"
    )
    print("|---|---|---|---|---|---|---|---|")
    for num_seeds, num_rhos in args.cells:
        for name, base, sam, truth in _effects(np.random.default_rng(7), args.tables, num_seeds, num_rhos):
            if args.noise not in name:
                continue
            differences = sam - base
            best = sam.sum(axis=-2).argmax(axis=-1)
            chosen = np.take_along_axis(differences, best[..., None, None], axis=-1)[..., 0]
            found = _anova(differences, sam, only_best=True)
            reach = [selection.critical_value(num_seeds, num_rhos, ratio=one) for one in noise.variance_ratio(found)]
            before = selection.critical_value(num_seeds, num_rhos)
            errors = selection.standard_error(differences, sam)
            away = np.abs(selection.cross_fit(differences, sam).mean(axis=-1) - truth[best])
            plain = chosen.mean(axis=-1) - truth[best]
            near = stdtrit(num_seeds - 1, 0.975) * chosen.std(axis=-1, ddof=1) / math.sqrt(num_seeds)
            covered = (away <= np.array(reach)[:, None] * errors, away <= before * errors, abs(plain) <= near)
            now, ratio_1, naive = map(np.mean, covered)
            print(f"| {name} | {num_seeds} | {num_rhos} | {now:.3f} | {np.median(reach) / before - 1:+.0%} |", end=" ")
            print(f"{ratio_1:.3f} | {naive:.3f} | {plain.mean():+.2f} |", flush=True)


def _effects(generator: np.random.Generator, num: int, num_seeds: int, num_rhos: int) -> Iterator[tuple]:
    """Yield name, base runs, SAM runs and the true gain of each radius: noise of every kind, then real differences."""
    for name, base, sam in kinds(generator, num, num_seeds, num_rhos):
        yield name, base, sam, np.zeros(num_rhos)
    base, sam = (generator.normal(size=(num, WIDTHS, num_seeds, count)) for count in (1, num_rhos))
    places = np.arange(num_rhos)
    hump, ahead = 1 - ((places - num_rhos // 2) / (num_rhos / 2)) ** 2, 5.0 * (places == 2)
    yield "a hump as high as the noise", base, sam + hump, hump
    yield "one radius far ahead", base, sam + ahead, ahead


def _anova(differences: np.ndarray, sam: np.ndarray, *, only_best: bool) -> noise.Anova:
    """Analyse every study and width: fields [studies, widths]."""
    flat = sam.reshape(-1, *sam.shape[2:])
    is_counted = best_sets.best_set(flat)
    if not only_best:
        is_counted = noise.informative(flat, is_counted)
    found = noise.anova(differences.reshape(flat.shape), is_counted)
    return noise.Anova(*(field.reshape(sam.shape[:2]) for field in found))


def scores_of(base: np.ndarray, sam: np.ndarray) -> list[trend.Scores]:
    """Arrange each study as `trend.scores` does."""
    num_seeds, num_rhos = sam.shape[2:]
    differences = sam - base
    table = selection.cross_fit(differences, sam)
    weights = noise.weights(_anova(differences, sam, only_best=False), num_seeds)
    ratios = noise.variance_ratio(_anova(differences, sam, only_best=True))
    return [
        trend.Scores(
            num_params=SIZES,
            seeds=tuple(range(num_seeds)),
            gains=one,
            weights=weight,
            stretch=selection.stretch_of_scores(num_seeds, num_rhos, ratio=ratio),
        )
        for one, weight, ratio in zip(table, weights, ratios, strict=True)
    ]


def _unweighted(scores: trend.Scores, num_rhos: int) -> trend.Scores:
    """Take all widths alike and the ratio of the noises for 1, which was the rule before."""
    stretch = selection.stretch_of_scores(len(scores.seeds), num_rhos)
    return scores._replace(weights=np.ones(WIDTHS), stretch=stretch)


def trends(args: argparse.Namespace) -> None:
    """How often the slope's interval covers zero, and finds a gain that grows by 0.3 of the noise a width."""
    print(
        "| noise | seeds | radii | covers | finds it | unweighted: covers | finds it | length, weighted / unweighted |"
    )
    print("|---|---|---|---|---|---|---|---|")
    rise = 0.5 * np.log10(np.array(SIZES) / SIZES[0])[:, None, None]
    for num_seeds, num_rhos in args.cells:
        for name, base, sam in kinds(np.random.default_rng(9), args.tables, num_seeds, num_rhos):
            if args.noise not in name:
                continue
            scale = 0.0115 if sam.max() <= 1 else 1.0  # of accuracy
            numbers = []
            flat, rising = scores_of(base, sam), scores_of(base, sam + scale * rise)
            before = [[_unweighted(one, num_rhos) for one in group] for group in (flat, rising)]
            for groups in ((flat, rising), before):
                zero, found = ([trend.slope_of(one) for one in group] for group in groups)
                covers = np.mean([one.low <= 0 <= one.high for one in zero])
                power = np.mean([one.low > 0 for one in found])
                numbers.append((covers, power, np.median([one.high - one.low for one in zero])))
            (covers, power, length), (covers_before, power_before, length_before) = numbers
            print(f"| {name} | {num_seeds} | {num_rhos} | {covers:.3f} | {power:.2f} |", end=" ")
            print(f"{covers_before:.3f} | {power_before:.2f} | {length / length_before:.2f} |", flush=True)


# The true gain at each width in units of the noise of a run, and the noise of each width.
SHAPES = {
    "flat": ((0, 0, 0, 0, 0), 1),
    "grows by 1 a width": ((0, 1, 2, 3, 4), 1),
    "grows by 1 a width, smallest ten times as noisy": ((0, 1, 2, 3, 4), (10, 1, 1, 1, 1)),
    "a gain at the second-last width alone": ((0, 0, 0, 5, 0), 1),
    "rises, then falls": ((0, 3, 6, 3, 0), 1),
    "rises steeply, then falls": ((-8, 2, 4, 3, 2), 1),
    "one ruined smallest width": ((-30, 0, 0, 0, 0), (3, 1, 1, 1, 1)),
    "a gain at the largest width alone": ((0, 0, 0, 0, 5), 1),
    "harm at the largest width, noisy smallest": ((0, 0, 0, 0, -1.5), (10, 1, 1, 1, 1)),
    "shrinks by 1 a width": ((4, 3, 2, 1, 0), 1),
}


def verdicts(args: argparse.Namespace) -> None:
    """How often each verdict is given, and how often the slope alone would have said that the gain grows."""
    kinds_of = (verdict.GROWS, verdict.LARGER, verdict.PEAKS, verdict.NO_TREND, verdict.SHRINKS, verdict.SMALLER)
    print(f"| true gain | seeds | radii | {' | '.join(kinds_of)} | before: grows |")
    print(f"|{'---|' * (len(kinds_of) + 4)}")
    for num_seeds, num_rhos in args.cells:
        for name, (truth, scale) in SHAPES.items():
            generator = np.random.default_rng(3)
            spread = np.broadcast_to(scale, WIDTHS)[:, None, None]
            base = spread * generator.normal(size=(args.tables, WIDTHS, num_seeds, 1))
            sam = spread * generator.normal(size=(args.tables, WIDTHS, num_seeds, num_rhos))
            found = scores_of(base, sam + np.array(truth, float)[:, None, None])
            given = [verdict.verdict(one).kind for one in found]
            shares = (f"{given.count(kind) / len(given):.2f}" for kind in kinds_of)
            before = np.mean([trend.slope_of(_unweighted(one, num_rhos)).low > 0 for one in found])
            print(f"| {name} | {num_seeds} | {num_rhos} | {' | '.join(shares)} | {before:.2f} |", flush=True)


def decline(args: argparse.Namespace) -> None:
    """How often the base is said to get worse at the largest width where it does not: 2.5 % at most are promised."""
    print("| noise | seeds | widths | seen to decline | interval covers | before: decline |\n|---|---|---|---|---|---|")
    for num_seeds in sorted({one for one, _ in args.cells}):
        for num_widths in (4, 7):
            for name, scale in (("even", np.ones(num_widths)), ("falls tenfold", np.geomspace(10, 1, num_widths))):
                generator = np.random.default_rng(2)
                base = scale * generator.normal(size=(args.tables * 4, num_seeds, num_widths))
                best = base.mean(axis=1).argmax(axis=1)
                plain = np.take_along_axis(base, best[:, None, None], axis=2)[..., 0] - base[..., -1]
                fair = decomposition.at_best_width(base, base) - base[..., -1]
                stretch = decomposition.stretch(num_seeds, num_widths)
                first = best == num_widths - 1  # never declines: counted from the smallest, which nobody chose
                plain[first] = fair[first] = base[first, :, 0] - base[first, :, -1]
                reach = stdtrit(num_seeds - 1, 0.975) / math.sqrt(num_seeds)
                low, high = (fair.mean(axis=1) + sign * reach * stretch * fair.std(axis=1, ddof=1) for sign in (-1, 1))
                before = plain.mean(axis=1) - reach * plain.std(axis=1, ddof=1)
                print(f"| {name} | {num_seeds} | {num_widths} | {np.mean(low > 0):.3f} |", end=" ")
                print(f"{np.mean((low <= 0) & (high >= 0)):.3f} | {np.mean(before > 0):.3f} |")


def domains(args: argparse.Namespace) -> None:
    """How often any of several domains without a trend is said to have one, and how long the intervals become."""
    print("| domains | seeds | any trend | before: slope alone, 95 % | interval longer by |\n|---|---|---|---|---|")
    for num_seeds, num_rhos in args.cells:
        if num_rhos != min(rhos for _, rhos in args.cells):
            continue
        for count in (3, 7):
            shape = (args.tables * count, WIDTHS, num_seeds)
            generator = np.random.default_rng(4)
            found = scores_of(generator.normal(size=(*shape, 1)), generator.normal(size=(*shape, num_rhos)))
            slopes = [trend.slope_of(_unweighted(one, num_rhos)) for one in found]
            alone = np.array([one.low > 0 or one.high < 0 for one in slopes]).reshape(-1, count)
            groups = [found[start : start + count] for start in range(0, len(found), count)]
            holm = np.mean([any(one.direction for one in verdict.holm(group)) for group in groups])
            levels = (intervals.sidak(count), 0.95)
            length = math.prod(
                stdtrit(num_seeds - 1, (1 + one) / 2) ** sign for one, sign in zip(levels, (1, -1), strict=True)
            )
            print(f"| {count} | {num_seeds} | {holm:.3f} | {alone.any(axis=1).mean():.3f} | {length:.2f} times |")


QUESTIONS = {
    "sets": sets,
    "gains": gains,
    "trends": trends,
    "verdicts": verdicts,
    "decline": decline,
    "domains": domains,
}


def main() -> None:
    """Answer the questions that are named, or all."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("questions", nargs="*", choices=[*QUESTIONS, []], default=[])
    parser.add_argument("--tables", type=int, default=500)
    parser.add_argument("--seeds", default="3,5,8")
    parser.add_argument("--rhos", default="5,11")
    parser.add_argument("--noise", default="", help="of gains and trends, only kinds of noise whose name has this")
    args = parser.parse_args()
    counts = ([int(one) for one in text.split(",")] for text in (args.seeds, args.rhos))
    args.cells = [(num_seeds, num_rhos) for seeds, rhos in [tuple(counts)] for num_seeds in seeds for num_rhos in rhos]
    for question in args.questions or QUESTIONS:
        print(f"\n{QUESTIONS[question].__doc__}\n", flush=True)
        QUESTIONS[question](args)


if __name__ == "__main__":
    main()
