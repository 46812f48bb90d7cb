"""The looks of a sequential study, and the level of the interval at each."""

import functools

import numpy as np

LOOKS = (5, 8, 12, 18, 27)  # numbers of fresh seeds; each look has half as many again as the one before
_POWER = 1.5  # of the share of seeds, by which the error rate is spent: little at first, when the noise is least known
_NUM_PATHS = 1_000_000  # a limit to half a percent


@functools.lru_cache(maxsize=16)
def levels(error: float) -> tuple[float, ...]:
    """Return the level of the interval at each look, such that all of them cover jointly at `1 - error`.

    Cost: a second, the first time. The random seed is fixed.
    Equation: the limit of |t| at look n is the smallest by which at most `error (n / 27)^1.5` of the paths of t of
      independent normal scores have left the limits so far; its level is that of Student's t with n - 1 degrees.
    Source: Lan and DeMets (1983), Discrete sequential boundaries for clinical trials.
    """
    from scipy.special import stdtr

    generator = np.random.default_rng(0)
    total, squares, is_inside = np.zeros(_NUM_PATHS), np.zeros(_NUM_PATHS), np.ones(_NUM_PATHS, dtype=bool)
    found = []
    for before, n in zip((0, *LOOKS), LOOKS, strict=False):
        # The sum of the new scores, and their sum of squares about their mean, are independent.
        new = generator.normal(size=_NUM_PATHS) * np.sqrt(n - before)
        squares += new**2 / (n - before) + generator.chisquare(n - before - 1, _NUM_PATHS)
        total += new
        t = np.abs(total) / np.sqrt(n * np.maximum(squares - total**2 / n, 0) / (n - 1))
        allowed = round(error * (n / LOOKS[-1]) ** _POWER * _NUM_PATHS) - int((~is_inside).sum())
        limit = np.partition(t[is_inside], -allowed - 1)[-allowed - 1]
        is_inside &= t <= limit
        found.append(float(1 - 2 * stdtr(n - 1, -limit)))
    return tuple(found)
