"""Does the corrected gain's 95 % interval cover the truth in 95 % of studies, and how does the plain one?

Run:     python benchmarks/corrected_interval.py        (some seconds)
Prints:  for 3, 5 and 8 seeds and 5 and 11 rho: the share of 10,000 made-up widths whose interval covers the true gain
         of the chosen rho, corrected and plain, the mean bias of the plain gain in units of a run's noise, and the
         ratio of the median lengths of the two intervals.
"""

import math

import numpy as np
from scipy.special import stdtrit

from flatwide.analysis import selection

NUM = 10_000


def cases(generator, num_seeds, num_rhos):
    """Make base runs, SAM runs and the true gains: noise of several kinds, then real differences."""
    shape = (NUM, num_seeds, num_rhos)
    base, sam, zero = generator.normal(size=(NUM, num_seeds, 1)), generator.normal(size=shape), np.zeros(num_rhos)
    seed = 3 * generator.normal(size=(NUM, num_seeds, 1))
    place = np.arange(num_rhos + 1)
    chain = generator.normal(size=(NUM, num_seeds, num_rhos + 1))
    chain = chain @ np.linalg.cholesky(0.8 ** abs(np.subtract.outer(place, place))).T
    hump = 1 - ((np.arange(num_rhos) - num_rhos // 2) / (num_rhos / 2)) ** 2
    winner = 5.0 * (np.arange(num_rhos) == 2)
    yield "pure noise", base, sam, zero
    yield "pure noise and seed effects", base + seed, sam + seed, zero
    yield "base noise halved", base / 2, sam, zero
    yield "base noise doubled", 2 * base, sam, zero
    yield "neighbouring rho correlated 0.8", chain[..., :1], chain[..., 1:], zero
    yield "noise grows fourfold along rho", base, np.linspace(0.5, 2, num_rhos) * sam, zero
    yield "noise grows tenfold along rho", base, np.geomspace(0.3, 3, num_rhos) * sam, zero
    yield "one rho ten times as noisy", base, np.where(np.arange(num_rhos) == num_rhos - 1, 10, 1) * sam, zero
    yield "base noise a tenth", base / 10, sam, zero
    yield "accuracy on 360 examples", *(generator.binomial(360, 0.95, size=s) for s in (base.shape, shape)), zero
    yield "a hump as high as the noise", base, sam + hump, hump
    yield "one rho five times the noise ahead", base, sam + winner, winner


def main():
    """Print one line a case."""
    for num_seeds in (3, 5, 8):
        for num_rhos in (5, 11):
            reach = selection.critical_value(num_seeds, num_rhos)
            print(f"{num_seeds} seeds, {num_rhos} rho: reach {reach:.2f} standard errors", end=" ")
            print(f"(Student's t {stdtrit(num_seeds - 1, 0.975):.2f})")
            for name, base, sam, truth in cases(np.random.default_rng(7), num_seeds, num_rhos):
                gains, best = sam - base, sam.sum(axis=1).argmax(axis=1)
                chosen = np.take_along_axis(gains, best[:, None, None], axis=2)[..., 0]
                error, plain = chosen.std(axis=1, ddof=1) / math.sqrt(num_seeds), chosen.mean(axis=1)
                center, far = selection.cross_fit(gains, sam).mean(axis=1), reach * selection.standard_error(gains, sam)
                corrected = np.mean(abs(center - truth[best]) <= far)
                near = stdtrit(num_seeds - 1, 0.975) * error
                naive = np.mean(abs(plain - truth[best]) <= near)
                bias, longer = np.mean(plain - truth[best]), np.median(far) / np.median(near)
                print(f"  {name:36s} corrected {corrected:.3f}   plain {naive:.3f}", end="   ")
                print(f"bias of plain {bias:+.2f}   corrected longer by {longer:.2f}")


if __name__ == "__main__":
    main()
