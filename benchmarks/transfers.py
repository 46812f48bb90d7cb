"""Coverage of advised intervals of rho, and error rates of the decision that settings transfer, in simulated studies.

Run:     python benchmarks/transfers.py [advice] [decisions]   (minutes)
Options: --tables=1000 (simulated studies of each kind), --seeds=3,5,8
Prints:  a Markdown table for each: how often the interval of a carried-over rho contains an optimum that lies on the
         grid, or a quarter or half of a step off it; and how often settings whose true regret is 2 % above the margin
         are said to transfer (nominally 2.5 %) or not to.

Noise is normal, with the standard deviation 1 for every run of both arms.
"""

import argparse
from collections.abc import Sequence

import numpy as np

from flatwide.analysis import advice, arms, transfer, tuned

RHOS = tuple({"rho": 0.01 * 2.0**step} for step in range(7))
BASE = ({"learning_rate": 0.1},)


def pair(generator: np.random.Generator, means: np.ndarray, *, num_params: int, num_seeds: int) -> arms.Comparison:
    """Draw the runs of one width: a base of mean 0, and SAM with a mean for each rho."""

    def arm(settings: Sequence[dict], centers: np.ndarray) -> arms.Arm:
        values = centers + generator.normal(size=(num_seeds, len(settings)))
        seeds = tuple(range(num_seeds))
        return arms.Arm(settings=tuple(settings), seeds=seeds, values=values, choices=values, tried=tuple(settings))

    base, sam = arm(BASE, np.zeros(1)), arm(RHOS[: len(means)], means)
    return arms.Comparison(width=num_params, num_params=num_params, base=base, sam=sam, sign=1)


def coverage(num_seeds: int, *, optimum: float, curvature: float, num_tables: int) -> float:
    """Compute how often the advised interval of the nearest width contains its optimum, given in steps of the grid."""
    generator = np.random.default_rng(0)
    means = 5 - curvature * (np.arange(len(RHOS)) - optimum) ** 2
    truth, covered = 0.01 * 2.0**optimum, 0
    for _ in range(num_tables):
        runs = pair(generator, means, num_params=1000, num_seeds=num_seeds)
        (value,) = advice.carried_over([runs], 4000)
        # An end of the interval on the grid equals the optimum up to rounding.
        covered += value.low * (1 - 1e-9) <= truth <= value.high * (1 + 1e-9)
    return covered / num_tables


def decisions(num_seeds: int, *, gain: float, num_tables: int) -> tuple[float, float]:
    """Compute how often settings just above the margin are said to transfer, and how often not to."""
    generator = np.random.default_rng(0)
    steps, regret = np.arange(5), 1.02 * transfer.SHARE * gain
    counts = {transfer.TRANSFERS: 0, transfer.FAILS: 0}
    for _ in range(num_tables):
        small = pair(generator, gain - 3 * np.abs(steps - 1), num_params=1000, num_seeds=num_seeds)
        wide = pair(generator, gain - regret * np.abs(steps - 3) / 2, num_params=4000, num_seeds=num_seeds)
        gains = tuple(map(arms.estimate, (small, wide)))
        comparison = tuned.Compared(values={}, name=tuned.TUNED, length=1, widths=(small, wide), gains=gains)
        decision = transfer.regrets(comparison)[0].decision
        if decision in counts:
            counts[decision] += 1
    return counts[transfer.TRANSFERS] / num_tables, counts[transfer.FAILS] / num_tables


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tables_of", nargs="*", choices=["advice", "decisions", []], default=[])
    parser.add_argument("--tables", type=int, default=1000)
    parser.add_argument("--seeds", default="3,5,8")
    flags = parser.parse_args()
    tables_of = flags.tables_of or ["advice", "decisions"]
    for num_seeds in map(int, flags.seeds.split(",")):
        for optimum in (3.0, 3.25, 3.5) if "advice" in tables_of else ():
            shares = [
                coverage(num_seeds, optimum=optimum, curvature=curvature, num_tables=flags.tables)
                for curvature in (0.25, 1.0, 4.0)
            ]
            listed = " | ".join(f"{share:.3f}" for share in shares)
            print(f"| {num_seeds} seeds | optimum {optimum % 1:g} steps off the grid | {listed} |", flush=True)
        for gain in (2, 4, 8, 16) if "decisions" in tables_of else ():
            transfers, fails = decisions(num_seeds, gain=gain, num_tables=flags.tables)
            print(f"| {num_seeds} seeds | gain {gain} | {transfers:.3f} | {fails:.3f} |", flush=True)


if __name__ == "__main__":
    main()
