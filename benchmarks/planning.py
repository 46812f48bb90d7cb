"""Calibration of plans: how often the seeds that a plan asks for decide whether SAM helps, in simulated studies.

Run:     python benchmarks/planning.py   (two minutes)
Options: --studies=1000 (undecided ones of each kind), --seeds=3,5,8, --rhos=3
Prints:  a Markdown table: for each number of seeds and true gain, in standard deviations of a paired difference, the
         share of undecided studies that get a plan of at most 32 seeds, the mean of its seeds, and the share of these
         that are then decided (promised: 60 to 85 %); and how often a study without a gain says anything.

Noise is normal, with the standard deviation sqrt(1/2) for every run of both arms.
"""

import argparse

import numpy as np

from flatwide.analysis import arms, planning


def study(generator: np.random.Generator, gain: float, *, num_seeds: int, num_rhos: int) -> list[np.ndarray]:
    """Draw the runs of a base, [seeds, 1], and of SAM, [seeds, radii], whose middle radius has the whole gain."""
    shape = 1 - np.abs(np.arange(num_rhos) - num_rhos // 2) / num_rhos
    base, sam = generator.normal(size=(num_seeds, 1)), generator.normal(size=(num_seeds, num_rhos))
    return [np.sqrt(0.5) * base, np.sqrt(0.5) * sam + gain * shape]


def compared(runs: list[np.ndarray]) -> arms.Comparison:
    """Compare SAM with its base."""
    seeds = tuple(range(len(runs[0])))
    sides = [
        arms.Arm(
            settings=tuple({"rho": float(1 + k)} for k in range(each.shape[1])), seeds=seeds, values=each, choices=each
        )
        for each in runs
    ]
    return arms.Comparison(width=1, num_params=1, base=sides[0], sam=sides[1], sign=1)


def row(num_seeds: int, gain: float, *, num_rhos: int, num_studies: int) -> str:
    """Simulate continuations of undecided studies and return a row of the table."""
    generator = np.random.default_rng(num_seeds)
    undecided, seeds, decided = 0, [], 0
    while undecided < num_studies:
        runs = study(generator, gain, num_seeds=num_seeds, num_rhos=num_rhos)
        estimate = compared(runs).gain
        if estimate.sign:
            continue
        undecided += 1
        enough = planning.enough_seeds([estimate])
        if enough is None:
            continue
        more = study(generator, gain, num_seeds=enough - num_seeds, num_rhos=num_rhos)
        decided += bool(compared([np.vstack(pair) for pair in zip(runs, more, strict=True)]).gain.sign)
        seeds.append(enough)
    share = f"{decided / len(seeds):.2f}" if seeds else "-"
    mean = f"{np.mean(seeds):.1f}" if seeds else "-"
    return f"| {num_seeds} | {gain:g} | {len(seeds) / undecided:.2f} | {mean} | {share} |"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--studies", type=int, default=1000)
    parser.add_argument("--seeds", default="3,5,8")
    parser.add_argument("--rhos", type=int, default=3)
    flags = parser.parse_args()
    print("| seeds | true gain, sd | with a plan | seeds of the plan | decided by it |")
    print("|---|---|---|---|---|")
    for num_seeds in map(int, flags.seeds.split(",")):
        for gain in (0.0, 0.5, 1.0, 2.0):
            print(row(num_seeds, gain, num_rhos=flags.rhos, num_studies=flags.studies), flush=True)


if __name__ == "__main__":
    main()
