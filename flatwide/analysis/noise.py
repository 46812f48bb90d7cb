"""Noise of the runs of each width: the weights of widths, and the ratio of the base's noise to that of SAM.

The gains of one width, seeds × radii, are split into seed means, radius means and residuals. The residuals are the
noise of SAM alone; the noise of the base, which all gains of a seed share, is in the spread of the seed means.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from flatwide.analysis import best_sets, widths

# A radius outside the set of the best informs the estimate of noise if its variance is at most so many times theirs.
_MOST_NOISE = 4.0
_SATURATED = 25.0  # a residual so many times below the median of the widths is uninformative about the other widths
_ENOUGH = 3  # radii, minus one, from which a weight is not shrunk towards the mean of all widths


class Anova(NamedTuple):
    """A two-way analysis of variance of gains, seeds × radii; each field is an array with one entry per table.

    residual: residual mean square after removing the means of seeds and radii: the variance of SAM.
    seeds: mean square between seeds: the variance of SAM plus `num_rhos` times that of the base.
    degrees: degrees of freedom of `residual`; 0 for one radius, whose `residual` is 0.
    num_rhos: number of radii counted.
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
    """Find the radii whose noise is like that of the radii that may be chosen.

    These are the set of the best (plus the next one, where the set has one radius), and each other radius whose
    difference from the best is not much noisier: a radius at which some seeds collapse would hide the precision of the
    gain. The set alone would leave too few degrees of freedom.

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


def weights(analyses: Anova, num_seeds: int) -> np.ndarray:
    """Compute the weight of each width: the inverse of its residual mean square.

    Below 3 (seeds - 1) degrees of freedom, the logarithm of a mean square is shrunk towards the mean over widths, in
    proportion to the missing degrees; otherwise a spread that is small by chance would get all the weight.

    Args:
      found: [..., widths] in each field.
    Returns: [..., widths]; all equal where no width has two radii.
    """
    has_spread = (analyses.degrees > 0) & (analyses.residual > 0)
    logs = np.log(np.where(has_spread, analyses.residual, 1.0))
    count = np.maximum(has_spread.sum(axis=-1, keepdims=True), 1)
    mean = np.where(has_spread, logs, 0).sum(axis=-1, keepdims=True) / count
    trust = np.where(has_spread, np.minimum(1.0, analyses.degrees / (_ENOUGH * max(num_seeds - 1, 1))), 0.0)
    return np.exp(-(trust * logs + (1 - trust) * mean))


def unsaturated(residual: np.ndarray, is_known: np.ndarray) -> np.ndarray:
    """Exclude known widths whose residual is many times below their median: [..., widths].

    A width at which SAM is nearly always right has almost no residual and an arbitrary ratio; including it would make
    the intervals of all other widths too short.
    """
    ordered = np.sort(np.where(is_known, residual, np.inf), axis=-1)
    position = (np.maximum(is_known.sum(axis=-1, keepdims=True), 1) - 1) // 2
    return is_known & (residual >= np.take_along_axis(ordered, position, axis=-1) / _SATURATED)


def variance_ratio(analyses: Anova) -> np.ndarray:
    """Estimate the ratio of the variance of the base to that of SAM, from all widths together.

    Equation: E[seeds / residual] = (1 + K ratio) d / (d - 2), with K radii and d degrees of freedom.
    Args:
      found: [..., widths] in each field.
    Returns: [...], 1 where no width has more than two degrees of freedom.
    """
    is_informative = unsaturated(analyses.residual, (analyses.degrees > 2) & (analyses.residual > 0))
    degrees = np.where(is_informative, analyses.degrees, 3)
    quotients = analyses.seeds / np.where(is_informative, analyses.residual, 1) * (degrees - 2) / degrees
    ratios = np.where(is_informative, (quotients - 1) / np.maximum(analyses.num_rhos, 1), 0).sum(axis=-1)
    mean = ratios / np.maximum(is_informative.sum(axis=-1), 1)
    return np.where(is_informative.any(axis=-1), np.maximum(mean, 0.0), 1.0)


def ratio_of_widths(cells: Sequence[widths.Width]) -> float:
    """Estimate the ratio of the variances of base and SAM from the set of the best radii of each width.

    Only these radii count, so a radius far behind has no effect.
    """
    analyses = [_of_width(cell, only_best=True) for cell in cells]
    available = [cell for cell in analyses if cell is not None]
    return float(variance_ratio(_side_by_side(available))) if available else 1.0


def weights_of_widths(cells: Sequence[widths.Width]) -> np.ndarray:
    """Compute the weight of each width in a fit against its size: [widths]."""
    analyses = [_of_width(cell, only_best=False) for cell in cells]
    empty = Anova(residual=np.zeros(1), seeds=np.zeros(1), degrees=np.zeros(1), num_rhos=np.ones(1))
    num_seeds = max((len(cell.complete().seeds) for cell in cells), default=0)
    return weights(_side_by_side([empty if cell is None else cell for cell in analyses]), num_seeds)


def _of_width(cell: widths.Width, *, only_best: bool) -> Anova | None:
    """Analyze one width; None below two seeds or without a radius."""
    whole = cell.complete()
    columns = list(whole.candidates)
    if len(whole.seeds) < 2 or not columns:
        return None
    gains, choices = whole.gains[:, columns][None], whole.choices[:, [1 + column for column in columns]][None]
    is_counted = best_sets.best_set(choices)
    # The column that rho is chosen by may have another scale than the gains, so it only decides which radii count.
    return anova(gains, is_counted if only_best else informative(choices, is_counted))


def _side_by_side(analyses: Sequence[Anova]) -> Anova:
    residual, seeds, degrees, num_rhos = (np.concatenate(values) for values in zip(*analyses, strict=True))
    return Anova(residual=residual, seeds=seeds, degrees=degrees, num_rhos=num_rhos)
