"""How far away a decision is: the effects that the runs of a part could show, and the seeds that would decide.

A plan at the observed effect promises too much, because an effect that is not shown is seldom as large as it looks. The
chance of a decision is therefore the predictive one: over all true effects that the runs leave possible.
"""

import math
from typing import NamedTuple

import numpy as np

from flatwide.analysis import estimates, fields, rho, table, verdict
from flatwide.analysis.estimates import Estimate

GAIN, GROWTH = "gain", "growth"
POWER = 0.8
MOST_SEEDS = 32  # in all; more are seldom affordable, and the sd from a few seeds does not reach further
_LEAST_SEEDS = 3  # below, the standard deviation itself is unknown to a factor of five or more
_NUM_DRAWS = 4000  # a chance to one in a hundred


class Plan(NamedTuple):
    """What would decide a question that is open.

    question: GAIN at the largest width, or GROWTH of the gain with width.
    observed: the gain, or its slope per tenfold increase in parameters.
    detectable: the smallest true effect that as many seeds show with a chance of 80 %.
    num_seeds: in all, with which the chance of a decision is 80 % or more; None where no number up to MOST_SEEDS is.
    chance: of a decision with so many seeds, or with MOST_SEEDS.
    widths: the values of the width that need more seeds. rhos: the radii worth more seeds, without the base's 0.
    num_runs: of the continuation. seconds: of one process, from the runs that are done; NaN where unknown.
    """

    question: str
    observed: Estimate
    detectable: float
    num_seeds: int | None
    chance: float
    widths: tuple
    rhos: tuple[float, ...]
    num_runs: int
    seconds: float


@table.for_part
def plans(part: table.Part) -> list[Plan]:
    """Plan how to decide the open questions of a part: whether SAM helps at the largest width, and whether that grows.

    Returns: one for each open question with an interval from three seeds or more; empty where all are decided.
    """
    if part.not_learned:
        return []
    last = part.widths[-1]
    gain = last.comparison.gain.at(estimates.sidak(len(part.widths), level=part.question.level))
    every = []
    if not gain.sign and _has_spread(gain):
        every.append(_plan(part, GAIN, [gain], [last.value]))
    if part.verdict.kind == verdict.NO_TREND:
        slope, rise = estimates.slope(part.scores), estimates.rise(part.scores)
        if _has_spread(slope) and _has_spread(rise):
            every.append(_plan(part, GROWTH, [slope, rise], [width.value for width in part.widths]))
    return every


def useful_rhos(part: table.Part, sizes: list) -> tuple[float, ...]:
    """List the radii that may be the best at one of some widths: those in its 95 % set, and their neighbours."""
    kept: set[float] = set()
    for width in (width for width in part.widths if width.value in sizes):
        members = rho.confidence_set(width) or width.rhos
        first, last = width.rhos.index(members[0]), width.rhos.index(members[-1])
        kept |= set(width.rhos[max(first - 1, 0) : last + 2])
    return tuple(sorted(kept))


def detectable(estimate: Estimate) -> float:
    """Compute the smallest true effect whose interval excludes zero with the chance POWER.

    Equation: P(T > t) = POWER, with t the quantile of the interval and T a noncentral t variable of the estimate's
      degrees of freedom and the noncentrality delta / error.
    """
    from scipy.special import nctdtrinc

    limit = estimates.quantile(estimate.degrees, estimate.level)
    return float(nctdtrinc(estimate.degrees, 1 - POWER, limit)) * estimate.error


def chance(estimate: Estimate, num_seeds: int) -> float:
    """Compute the chance that the interval excludes zero once there are `num_seeds` seeds in all.

    Equation: sigma^2 = nu s^2 / X, X chi-squared with nu degrees of freedom, and delta normal about the estimate with
      the variance sigma^2 / n: what the runs leave possible under a flat prior. The final mean is n / N of the present
      one and a normal mean of N - n seeds about delta; the final s^2 pools nu present degrees and the new ones.
    Source: the predictive power of Spiegelhalter, Freedman and Blackburn (1986), with an unknown variance.
    """
    n, nu = estimate.num_seeds, estimate.degrees
    more = num_seeds - n
    generator = np.random.default_rng(0)
    variance = estimate.error**2 * n  # of one seed, with what dependent choices add
    sigma_squared = nu * variance / generator.chisquare(nu, _NUM_DRAWS)
    effect = estimate.value + np.sqrt(sigma_squared / n) * generator.standard_normal(_NUM_DRAWS)
    new = effect + np.sqrt(sigma_squared / more) * generator.standard_normal(_NUM_DRAWS)
    mean = (n * estimate.value + more * new) / num_seeds
    final_nu = nu * (num_seeds - 1) / (n - 1)
    pooled = (nu * variance + sigma_squared * generator.chisquare(final_nu - nu, _NUM_DRAWS)) / final_nu
    return float(np.mean(np.abs(mean) > estimates.quantile(final_nu, estimate.level) * np.sqrt(pooled / num_seeds)))


def enough_seeds(needed: list[Estimate]) -> int | None:
    """Find the smallest number of seeds with which each estimate is likely decided; None where MOST_SEEDS do not."""
    counts = range(needed[0].num_seeds + 1, MOST_SEEDS + 1)
    return next((count for count in counts if all(chance(each, count) >= POWER for each in needed)), None)


def _has_spread(estimate: Estimate) -> bool:
    return estimate.num_seeds >= _LEAST_SEEDS and math.isfinite(estimate.low) and not estimate.is_exact


def _plan(part: table.Part, question: str, needed: list[Estimate], sizes: list) -> Plan:
    """Plan for intervals that must all exclude zero; the first is shown."""
    present = needed[0].num_seeds
    enough = enough_seeds(needed)
    count = enough or max(MOST_SEEDS, present + 1)
    rhos = useful_rhos(part, sizes)
    runs, seconds = _cost(part, sizes, rhos, count - present)
    return Plan(
        question=question,
        observed=needed[0],
        detectable=detectable(needed[0]),
        num_seeds=enough,
        chance=min(chance(each, count) for each in needed),
        widths=tuple(sizes),
        rhos=rhos,
        num_runs=runs,
        seconds=seconds,
    )


def _cost(part: table.Part, sizes: list, rhos: tuple[float, ...], num_seeds: int) -> tuple[int, float]:
    """Count the runs of more seeds, and their seconds by the median run of each width and arm."""
    name = part.question.width
    durations: dict[tuple, list[float]] = {}
    for row in fields.done(part.runs, [name, "seconds"]):
        if row.get("seconds"):
            durations.setdefault((row[name], fields.effective_rho(row) > 0), []).append(row["seconds"])
    seconds = sum(
        count * float(np.median(durations[size, is_sam])) if (size, is_sam) in durations else math.nan
        for size in sizes
        for is_sam, count in ((False, num_seeds), (True, num_seeds * len(rhos)))
    )
    return num_seeds * len(sizes) * (1 + len(rhos)), seconds
