"""How noisy the runs of each width are: what weighs widths against each other, and the base's noise against SAM's.

The gains of one width, seeds × radii, are split into a mean of each seed, a mean of each radius and a rest. The rest is
SAM's noise alone; the base's noise, which all gains of a seed share, is in the spread of the seeds' means.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from flatwide.analysis import best_sets, widths

_MOST_NOISE = (
    4.0  # a radius outside the set of the best tells the noise if its variance is at most so many times theirs
)
_SATURATED = 25.0  # residuals that are so many times below the median of the widths say nothing of the others
_ENOUGH = 3  # radii whose rest decides a weight alone, less one: below, it is shrunk to the mean of all widths


class Anova(NamedTuple):
    """A two-way analysis of variance of gains, seeds × radii; each an array of one entry a table.

    residual: mean square of what is left after the means of seeds and radii: SAM's variance.
    seeds: mean square between seeds, SAM's variance plus `num_rhos` times the base's.
    degrees: of freedom of `residual`; 0 for one radius, whose `residual` is 0.
    num_rhos: that are counted.
    """

    residual: np.ndarray
    seeds: np.ndarray
    degrees: np.ndarray
    num_rhos: np.ndarray


def anova(gains: np.ndarray, is_counted: np.ndarray) -> Anova:
    """Compute the two-way analysis of variance of gains over the radii that are counted.

    Args:
      gains: [tables, seeds, rhos].
      is_counted: [tables, rhos], at least one in each table.
    """
    num_seeds = gains.shape[1]
    counted = is_counted[:, None, :]
    num_rhos = is_counted.sum(axis=1)
    by_seed = np.where(counted, gains, 0).sum(axis=2) / num_rhos[:, None]
    rest = np.where(counted, gains - by_seed[..., None], 0)
    rest = np.where(counted, rest - rest.mean(axis=1, keepdims=True), 0)
    degrees = (num_seeds - 1) * (num_rhos - 1)
    residual = np.sum(rest**2, axis=(1, 2)) / np.maximum(degrees, 1)
    return Anova(residual=residual, seeds=num_rhos * by_seed.var(axis=1, ddof=1), degrees=degrees, num_rhos=num_rhos)


def informative(choices: np.ndarray, is_best: np.ndarray) -> np.ndarray:
    """Find the radii whose noise is that of the radii which may be chosen.

    Those are the set of the best (and the next one, where the set has one radius), and of the others each whose
    difference to the best is not far noisier: a radius at which some seeds collapse would hide how well the gain is
    known. The set alone would leave too few degrees of freedom.

    Args:
      choices: [tables, seeds, rhos]. is_best: [tables, rhos], the set of the best.
    Returns: [tables, rhos].
    """
    tables = np.arange(len(choices))
    means = choices.mean(axis=1)
    best = choices[tables, :, means.argmax(axis=1)]
    variances = (choices - best[..., None]).var(axis=1, ddof=1) / 2
    next_best = np.where(is_best, -np.inf, means).argmax(axis=1)
    is_counted = is_best.copy()
    alone = is_best.sum(axis=1) == 1
    is_counted[tables[alone], next_best[alone]] = True
    for _ in range(choices.shape[2]):
        residual = anova(choices, is_counted).residual
        left = np.where(is_counted, np.inf, variances)
        quietest = left.argmin(axis=1)
        is_alike = left[tables, quietest] <= _MOST_NOISE * residual
        if not is_alike.any():
            break
        is_counted[tables[is_alike], quietest[is_alike]] = True
    return is_counted


def weights(found: Anova, num_seeds: int) -> np.ndarray:
    """Compute the weight of each width, one over its residual mean square.

    Below 3 (seeds - 1) degrees of freedom, the logarithm of a mean square is drawn to the mean over widths of those, in
    proportion to what is missing: a spread that is small by luck would get the weight.

    Args:
      found: [..., widths] in each field.
    Returns: [..., widths]; all equal where no width has two radii.
    """
    has_spread = (found.degrees > 0) & (found.residual > 0)
    logs = np.log(np.where(has_spread, found.residual, 1.0))
    count = np.maximum(has_spread.sum(axis=-1, keepdims=True), 1)
    mean = np.where(has_spread, logs, 0).sum(axis=-1, keepdims=True) / count
    trust = np.where(has_spread, np.minimum(1.0, found.degrees / (_ENOUGH * max(num_seeds - 1, 1))), 0.0)
    return np.exp(-(trust * logs + (1 - trust) * mean))


def unsaturated(residual: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Leave out of the known widths those whose residual is many times below the median of them: [..., widths].

    A width at which SAM is nearly always right has next to no residual, and so any ratio: counted, it would make the
    intervals of all other widths too short.
    """
    ordered = np.sort(np.where(known, residual, np.inf), axis=-1)
    position = (np.maximum(known.sum(axis=-1, keepdims=True), 1) - 1) // 2
    return known & (residual >= np.take_along_axis(ordered, position, axis=-1) / _SATURATED)


def variance_ratio(found: Anova) -> np.ndarray:
    """Estimate how many times SAM's variance the base's is, from all widths together.

    Equation: E[seeds / residual] = (1 + K ratio) d / (d - 2), with K radii and d degrees of freedom.
    Args:
      found: [..., widths] in each field.
    Returns: [...], 1 where no width has more than two degrees of freedom.
    """
    known = unsaturated(found.residual, (found.degrees > 2) & (found.residual > 0))
    degrees = np.where(known, found.degrees, 3)
    quotients = found.seeds / np.where(known, found.residual, 1) * (degrees - 2) / degrees
    ratios = np.where(known, (quotients - 1) / np.maximum(found.num_rhos, 1), 0).sum(axis=-1)
    mean = ratios / np.maximum(known.sum(axis=-1), 1)
    return np.where(known.any(axis=-1), np.maximum(mean, 0.0), 1.0)


def ratio_of_widths(cells: Sequence[widths.Width]) -> float:
    """Estimate the ratio of the variances of base and SAM from the set of the best radii of each width.

    Only those count, so that a radius far behind changes nothing.
    """
    found = [_of_width(one, only_best=True) for one in cells]
    known = [one for one in found if one is not None]
    return float(variance_ratio(_side_by_side(known))) if known else 1.0


def weights_of_widths(cells: Sequence[widths.Width]) -> np.ndarray:
    """Compute the weight of each width in a fit against its size: [widths]."""
    found = [_of_width(one, only_best=False) for one in cells]
    none = Anova(residual=np.zeros(1), seeds=np.zeros(1), degrees=np.zeros(1), num_rhos=np.ones(1))
    num_seeds = max((len(one.complete().seeds) for one in cells), default=0)
    return weights(_side_by_side([none if one is None else one for one in found]), num_seeds)


def _of_width(one: widths.Width, *, only_best: bool) -> Anova | None:
    """Analyse one width; None below two seeds or without a radius."""
    whole = one.complete()
    columns = list(whole.candidates)
    if len(whole.seeds) < 2 or not columns:
        return None
    gains, choices = whole.gains[:, columns][None], whole.choices[:, [1 + column for column in columns]][None]
    is_counted = best_sets.best_set(choices)
    # What rho is chosen by may have another scale than the gains: only which radii are counted is by it.
    return anova(gains, is_counted if only_best else informative(choices, is_counted))


def _side_by_side(found: Sequence[Anova]) -> Anova:
    residual, seeds, degrees, num_rhos = (np.concatenate(values) for values in zip(*found, strict=True))
    return Anova(residual=residual, seeds=seeds, degrees=degrees, num_rhos=num_rhos)
