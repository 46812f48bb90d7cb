"""Coverage of intervals where both arms are tuned separately, on simulated studies with known truth.

Run:     python benchmarks/fair_fight.py   (minutes)
Options: --tables=60 (simulated studies of each kind), --seeds=3,5,8, --cells=4:8,8:8 (of base : SAM)
Prints:  a Markdown table: the coverage of nominal 95 % intervals of `analysis.tuned`; with the critical value for one
         base cell, as if the base were not tuned; with Student's t over the scores; and with it at the best cells.

Each study has four widths. Unless stated otherwise, all cells are equal and the true gain is zero; otherwise the truth
is the gain between the cells that all seeds choose.
"""

import argparse
from collections.abc import Iterator

import numpy as np

from flatwide.analysis import arms, estimates

WIDTHS = 4


def kinds(generator: np.random.Generator, shape: tuple[int, int, int]) -> Iterator[tuple]:
    """Yield name, base runs [seeds, cells], SAM runs, and the true means of the cells of both."""
    num_seeds, num_base, num_sam = shape
    base, sam = generator.normal(size=(num_seeds, num_base)), generator.normal(size=(num_seeds, num_sam))
    flat = (np.zeros(num_base), np.zeros(num_sam))
    shared = 2 * generator.normal(size=(num_seeds, 1))
    yield "equal noise", base, sam, *flat
    yield "base a tenth as noisy", base / 10, sam, *flat
    yield "base three times as noisy", 3 * base, sam, *flat
    yield "a seed's runs share twice the noise", base + shared, sam + shared, *flat
    noisy = [np.where(np.arange(count) == count - 1, 10.0, 1.0) for count in (num_base, num_sam)]
    yield "one cell of each arm ten times as noisy", noisy[0] * base, noisy[1] * sam, *flat
    hill = [1 - (2 * np.arange(count) / (count - 1) - 1) ** 2 if count > 1 else np.zeros(1) for count in shape[1:]]
    yield "hills as high as the noise", base + hill[0], sam + hill[1], *hill
    ahead = [5.0 * (np.arange(count) == 0) for count in shape[1:]]
    yield "one cell of each arm far ahead", base + ahead[0], sam + ahead[1], *ahead


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tables", type=int, default=60)
    parser.add_argument("--seeds", default="3,5,8")
    parser.add_argument("--cells", default="4:8,8:8")
    args = parser.parse_args()
    print("| runs | seeds | base cells | SAM cells | covers | t of scores | t at best | its bias |")
    print("|---|---|---|---|---|---|---|---|")
    for num_seeds in map(int, args.seeds.split(",")):
        for text in args.cells.split(","):
            num_base, num_sam = map(int, text.split(":"))
            rows_of_kind: dict[str, list[tuple]] = {}
            generator = np.random.default_rng(11)
            for _ in range(args.tables):
                for name, pairs in studies(generator, (num_seeds, num_base, num_sam)).items():
                    rows_of_kind.setdefault(name, []).extend(judge(pairs))
            for name, rows in rows_of_kind.items():
                covers, scores, plain, bias = np.mean(rows, axis=0)
                numbers = f"{covers:.3f} | {scores:.3f} | {plain:.3f} | {bias:+.2f}"
                print(f"| {name} | {num_seeds} | {num_base} | {num_sam} | {numbers} |", flush=True)


def studies(generator: np.random.Generator, shape: tuple[int, int, int]) -> dict[str, list[tuple]]:
    """Make one study of each kind: for each of its widths the pair of arms, and the true means of their cells."""
    pairs_of_kind: dict[str, list[tuple]] = {}
    seeds = tuple(range(shape[0]))
    for width in range(WIDTHS):
        for name, base, sam, base_truth, sam_truth in kinds(generator, shape):
            sides = [
                arms.Arm(settings=tuple({"cell": cell} for cell in range(runs.shape[1])), seeds=seeds, values=runs,
                          choices=runs) for runs in (base, sam)
            ]  # fmt: skip
            pair = arms.Comparison(width=width, num_params=10**width, base=sides[0], sam=sides[1], sign=1)
            pairs_of_kind.setdefault(name, []).append((pair, base_truth, sam_truth))
    return pairs_of_kind


def judge(study: list[tuple]) -> Iterator[tuple[bool, bool, bool, float]]:
    """Yield for each width whether each of the three intervals covers the truth, and the error of the plain gain."""
    for pair, base_truth, sam_truth in study:
        gain, (base_at, sam_at) = pair.gain, pair.chosen
        truth = sam_truth[sam_at] - base_truth[base_at]
        plain = estimates.mean(pair.sam.values[:, sam_at] - pair.base.values[:, base_at])
        of_scores = estimates.mean(pair.scored.values[0])
        covers = (estimate.low <= truth <= estimate.high for estimate in (gain, of_scores, plain))
        yield (*covers, plain.value - truth)


if __name__ == "__main__":
    main()
