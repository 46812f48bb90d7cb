"""Estimates over seeds: their standard errors, degrees of freedom and intervals.

Base and SAM each choose among settings, and each seed is scored at the settings that the other seeds choose, so that
no seed selects its own noise. Two things follow for the error of the mean of such scores. The choices of two seeds
share the other seeds, so the scores are dependent and their mean varies more than if they were not. And where several
settings are equally good, each tells how much runs vary, so the variance need not come from the few scores alone.
"""

import functools
import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from flatwide.analysis import best_sets

_NUM_TABLES = 20_000  # of pure noise: a variance to 1 %, an interval to half a percent
_CHUNK = 2_000_000  # simulated numbers at a time, to bound memory
_COUNTS = (*range(1, 13), 16, 24, 32, 64, 128, 256)  # numbers of settings that are simulated; others are interpolated
_LEVEL_OF_LIKE = 0.99  # of the interval about the chosen setting within which others tell how noisy the scores are
_LEAST_SPAN = 1.1  # of sizes: a slope over less is the noise of the gains, magnified more than twentyfold
_ROUNDING = 1e-12  # relative to the largest number: sums that are closer are equal


class Estimate(NamedTuple):
    """An estimate with its Student's t interval; NaN where it is undefined, and the interval below two seeds.

    value, error: the estimate and its standard error. degrees: of freedom of the error. level: of the interval.
    """

    value: float = math.nan
    error: float = math.nan
    degrees: float = math.nan
    num_seeds: int = 0
    level: float = 0.95

    @property
    def reach(self) -> float:
        """Half of the length of the interval."""
        return quantile(self.degrees, self.level) * self.error

    @property
    def low(self) -> float:
        """The lower end of the interval."""
        return self.value - self.reach

    @property
    def high(self) -> float:
        """The upper end of the interval."""
        return self.value + self.reach

    @property
    def sign(self) -> int:
        """1 or -1 where the whole interval lies on that side of zero, else 0."""
        return int(self.low > 0) - int(self.high < 0)

    @property
    def is_exact(self) -> bool:
        """Whether all seeds agree to the last digit, as happens with few test examples; this is no certainty."""
        return self.error <= _ROUNDING * abs(self.value)

    @property
    def p_value(self) -> float:
        """The two-sided p-value of zero; NaN where the seeds do not differ."""
        from scipy.special import stdtr

        return math.nan if self.is_exact else float(2 * stdtr(self.degrees, -abs(self.value) / self.error))

    def scaled(self, factor: float) -> "Estimate":
        """Return the estimate in another unit."""
        return self._replace(value=factor * self.value, error=abs(factor) * self.error)

    def at(self, level: float) -> "Estimate":
        """Return the estimate with an interval of another level."""
        return self._replace(level=level)


NONE = Estimate()


class Side(NamedTuple):
    """The runs of one arm, [..., seeds, settings]: the compared values, and what chooses; larger is better there."""

    values: np.ndarray
    choices: np.ndarray


class Scores(NamedTuple):
    """Scores of treatment minus control, each seed at the settings that the others choose, of several comparisons.

    num_params: of each comparison. seeds: those that every comparison has. values: [comparisons, seeds].
    variances: of a score, [comparisons]. excesses: what the dependence of the choices adds to the variance of their
    mean, times the seeds. degrees: of freedom of both together.
    level: of the intervals of their contrasts.
    """

    num_params: tuple[int, ...]
    seeds: tuple[int, ...]
    values: np.ndarray
    variances: np.ndarray
    excesses: np.ndarray
    degrees: np.ndarray
    level: float = 0.95

    @property
    def stretch(self) -> float:
        """The largest factor by which dependent choices lengthen an interval of one of the comparisons."""
        with np.errstate(divide="ignore", invalid="ignore"):
            factors = np.sqrt(1 + self.excesses / self.variances)
        return float(np.max(factors, initial=1.0, where=np.isfinite(factors)))

    def only(self, rows: Sequence[int]) -> "Scores":
        """Return only some of the comparisons, by their index."""
        at = list(rows)
        arrays = (self.values[at], self.variances[at], self.excesses[at], self.degrees[at])
        return Scores(tuple(self.num_params[row] for row in at), self.seeds, *arrays, self.level)


NO_SCORES = Scores(
    num_params=(),
    seeds=(),
    values=np.empty((0, 0)),
    variances=np.empty(0),
    excesses=np.empty(0),
    degrees=np.empty(0),
)


@functools.lru_cache(maxsize=4096)
def quantile(degrees: float, level: float) -> float:
    """Return the quantile of Student's t for a two-sided interval."""
    from scipy.special import stdtrit  # scipy.stats has the same, but takes a second to import

    return float(stdtrit(degrees, (1 + level) / 2))


def sidak(count: int, *, level: float = 0.95) -> float:
    """Return the level of each of `count` independent intervals at which all cover jointly at `level`."""
    return level ** (1 / max(count, 1))


def mean(values: Sequence[float] | np.ndarray, *, level: float = 0.95, inflation: float = 1.0) -> Estimate:
    """Estimate the mean of values over seeds.

    Args:
      values: [n], one for each seed.
      inflation: of the variance of the mean, for values that are not fully independent.
    Equation: error^2 = inflation s^2 / n, s^2 with n - 1 in its denominator and as degrees of freedom.
    """
    n = len(values)
    center = float(np.mean(values)) if n else math.nan
    if n < 2:
        return Estimate(value=center, num_seeds=n, level=level)
    error = float(np.std(values, ddof=1)) * math.sqrt(inflation / n)
    return Estimate(value=center, error=error, degrees=n - 1, num_seeds=n, level=level)


def choose(choices: np.ndarray, folds: np.ndarray | None = None, *, allowed: np.ndarray | None = None) -> np.ndarray:
    """Choose the setting with the best mean over the seeds of each fold, the first of those equal up to rounding.

    Args: as for `ties`.
    Returns: [..., folds], indices of settings; without the last axis if `folds` is None.
    """
    chosen = ties(choices, folds, allowed=allowed).argmax(axis=-1)
    return chosen[..., 0] if folds is None else chosen


def ties(choices: np.ndarray, folds: np.ndarray | None = None, *, allowed: np.ndarray | None = None) -> np.ndarray:
    """Find the settings whose mean over the seeds of each fold is the best up to rounding.

    Args:
      choices: [..., seeds, settings], larger is better; NaN is a missing run.
      folds: [folds, seeds], 1 for a seed that takes part; None is one fold of all seeds.
      allowed: [..., folds, settings]; None allows all.
    Returns: [..., folds, settings].
    """
    seeds = np.ones((1, choices.shape[-2])) if folds is None else folds
    is_there = np.isfinite(choices)
    counts = seeds @ is_there
    with np.errstate(divide="ignore", invalid="ignore"):
        means = np.where(counts > 0, seeds @ np.where(is_there, choices, 0.0) / counts, -np.inf)
    means = means if allowed is None else np.where(allowed, means, -np.inf)
    # Means of accuracies that are equal as fractions of a test set differ in their last bits, by the order of seeds.
    tolerance = _ROUNDING * np.max(np.abs(choices), axis=(-2, -1), initial=0.0, where=is_there)[..., None, None]
    return means >= means.max(axis=-1, keepdims=True) - tolerance


def leave_one_out(num_seeds: int) -> np.ndarray:
    """Return the folds of `choose` in which each seed in turn is left out: [seeds, seeds]."""
    return 1.0 - np.eye(num_seeds)


def choose_both(
    control: np.ndarray, treatment: np.ndarray, *, same: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Choose the settings of two arms for each seed by the other seeds, and last by all seeds together.

    Args:
      control, treatment: [..., seeds, settings], as for `choose`.
      same: [control settings, treatment settings], the pairs that may be compared; None is all.
    Returns: [..., seeds + 1] of each.
    """
    num_seeds = control.shape[-2]
    folds = np.vstack([leave_one_out(num_seeds), np.ones(num_seeds)])
    chosen = choose(control, folds)
    return chosen, choose(treatment, folds, allowed=None if same is None else same[chosen])


def cross_fit(side: Side) -> np.ndarray:
    """Score each seed at the setting that the other seeds choose: [..., seeds]."""
    at = choose(side.choices, leave_one_out(side.choices.shape[-2]))
    return np.take_along_axis(side.values, at[..., None], axis=-1)[..., 0]


def score(control: Side, treatment: Side, *, same: np.ndarray | None = None, resolution: float = 0.0) -> Scores:
    """Score treatment minus control, each seed at the settings that the other seeds choose for either.

    Args:
      control, treatment: [..., seeds, settings] without missing values, two seeds or more.
      same: [control settings, treatment settings], the pairs that may be compared; None is all.
      resolution: step of the compared values, such as one over the number of test items; 0 is none.
    Returns: the fields of `Scores` with the leading axes of the arguments instead of comparisons.
    Equation: with d[i] the score of seed i, S and B the confidence sets of the best settings of treatment and control
      (m and b of them, without those whose mean differs from the chosen one's by more than t sqrt(2 s(d)^2 / n), t of
      99 %), r_S and r_B the residual mean squares of the runs in them after removing the means of seeds and
      settings, and p the variance over seeds of the difference of the means over S and B:
      variance = max(s(d)^2, p + (1 - 1 / m) r_S + (1 - 1 / b) r_B), excess = (V(n, m) - 1) r_S + (V(n, b) - 1) r_B
      with V as in `inflation`, and the degrees of freedom are Satterthwaite's for the parts of their sum. Where the
      scores of all seeds lie within one step, the variance is at least that of one item that differs at random, the
      step squared.
    Source: Satterthwaite (1946). Coverage by simulation: `python benchmarks/answers.py gains`.
    """
    num_seeds = control.values.shape[-2]
    at = choose_both(control.choices, treatment.choices, same=same)
    base, sam = (
        np.take_along_axis(side.values, chosen[..., :-1, None], axis=-1)[..., 0]
        for side, chosen in zip((control, treatment), at, strict=True)
    )
    scores = sam - base
    spread = scores.var(axis=-1, ddof=1)
    if same is not None:
        is_open = same[at[0][-1]]
        treatment = Side(treatment.values[..., is_open], treatment.choices[..., is_open])
    noises = [_noise(side, spread) for side in (control, treatment)]
    between = (noises[1].by_seed - noises[0].by_seed).var(axis=-1, ddof=1)
    within, excess, squares = between, np.zeros_like(between), between**2 / (num_seeds - 1)
    for noise in noises:
        more = (inflation(num_seeds, noise.count) - 1) * noise.residual
        share = (1 - 1 / noise.count) * noise.residual
        within, excess = within + share, excess + more
        squares = squares + (share + more) ** 2 / np.maximum((num_seeds - 1) * (noise.count - 1), 1)
    total = within + excess
    with np.errstate(divide="ignore", invalid="ignore"):
        degrees = np.where(squares > 0, total**2 / squares, num_seeds - 1.0)
    variance = np.maximum(spread, within)
    is_within_a_step = np.ptp(scores, axis=-1) <= (1 + 1e-6) * resolution
    variance = np.where(is_within_a_step, np.maximum(variance, resolution**2), variance)
    # Below n - 1, rounding aside, only where the parts are very unequal; the scores alone have as many.
    degrees = np.maximum(degrees, num_seeds - 1.0)
    return NO_SCORES._replace(values=scores, variances=variance, excesses=excess, degrees=degrees)


class _Noise(NamedTuple):
    """The runs in the confidence set of the best settings: their number, their mean by seed, and their residual."""

    count: np.ndarray  # [...]
    by_seed: np.ndarray  # [..., seeds]
    residual: np.ndarray  # [...]


def _noise(side: Side, spread: np.ndarray) -> _Noise:
    *front, num_seeds, num_settings = side.values.shape
    flat = side.choices.reshape(-1, num_seeds, num_settings)
    is_in = best_sets.best_set(flat).reshape(*front, 1, num_settings)
    # A setting at which runs fail now and then is so noisy that few seeds cannot exclude it from the set. Where it is
    # far from the chosen one in units of the scores' own spread, its noise is not that of the scores.
    means = side.values.mean(axis=-2, keepdims=True)
    chosen = np.take_along_axis(means, choose(side.choices)[..., None, None], axis=-1)
    limit = quantile(num_seeds - 1, _LEVEL_OF_LIKE) * np.sqrt(2 * spread / num_seeds)
    is_in &= np.abs(means - chosen) <= limit[..., None, None] + _ROUNDING * np.abs(chosen)
    count = is_in.sum(axis=(-2, -1))
    by_seed = np.where(is_in, side.values, 0.0).sum(axis=-1) / count[..., None]
    rest = np.where(is_in, side.values - by_seed[..., None], 0.0)
    rest = np.where(is_in, rest - rest.mean(axis=-2, keepdims=True), 0.0)
    degrees = np.maximum((num_seeds - 1) * (count - 1), 1)
    return _Noise(count=count, by_seed=by_seed, residual=np.sum(rest**2, axis=(-2, -1)) / degrees)


def inflation(num_seeds: int, num_settings: int | np.ndarray) -> np.ndarray:
    """Compute V, by how much dependent choices raise the variance of the mean of scores.

    Equation: V(n, m) = n var(mean_i x[i, k(i)]), k(i) the best of m settings by all seeds but i, for x of independent
      standard normal noise; 1 for one setting. Equally good settings, whose choice is arbitrary, are the worst case.
    Cost: some tenths of a second for 8 seeds and 11 settings, the first time. The random seed is fixed.
    """
    numbers = np.asarray(num_settings)
    most = int(numbers.max(initial=1))
    counts = [count for index, count in enumerate(_COUNTS) if index == 0 or _COUNTS[index - 1] < most]
    return np.interp(np.log(numbers), np.log(counts), [_inflation(num_seeds, count) for count in counts])


@functools.lru_cache(maxsize=1024)
def _inflation(num_seeds: int, num_settings: int) -> float:
    if num_settings == 1:
        return 1.0
    generator = np.random.default_rng(0)
    chunk = max(20, min(_NUM_TABLES, _CHUNK // (num_seeds * num_settings)))
    means = []
    for start in range(0, _NUM_TABLES, chunk):
        noise = generator.standard_normal((min(chunk, _NUM_TABLES - start), num_seeds, num_settings))
        means.append(cross_fit(Side(noise, noise)).mean(axis=-1))
    return max(1.0, num_seeds * float(np.mean(np.concatenate(means) ** 2)))


def contrast(scores: Scores, weights: Sequence[float] | np.ndarray, *, level: float | None = None) -> Estimate:
    """Estimate a weighted sum of comparisons: a gain, a slope, a rise, or a difference of any of these.

    Args:
      weights: [comparisons]. level: of the interval; None is that of the scores.
    Equation: with a the weights, v the variances, x the excesses, n the seeds that all comparisons have: n error^2 =
      max(sum_w a_w^2 v_w, s(a . d)^2) + sum_w a_w^2 x_w: the comparisons vary independently, or together as far as the
      seeds show it. The degrees of freedom are Satterthwaite's for the sum, of which s(a . d)^2 has n - 1.
    Source: Satterthwaite (1946). Coverage by simulation: `python benchmarks/answers.py trends`.
    """
    a = np.asarray(weights, dtype=float)
    n = len(scores.seeds)
    by_seed = a @ scores.values
    level = scores.level if level is None else level
    if n < 2:
        return Estimate(value=float(by_seed.mean()) if n else math.nan, num_seeds=n, level=level)
    apart, excess = a**2 * scores.variances / n, a**2 * scores.excesses / n
    together = float(by_seed.var(ddof=1)) / n
    parts, degrees = apart + excess, scores.degrees
    # A single comparison's own variance already is the larger of the two.
    if len(a) > 1 and together > (1 + 1e-9) * apart.sum():
        parts, degrees = np.append(excess, together), np.append(scores.degrees, n - 1)
    total, squares = float(parts.sum()), float((parts**2 / degrees).sum())
    return Estimate(
        value=float(by_seed.mean()),
        error=math.sqrt(total),
        degrees=total**2 / squares if squares > 0 else n - 1,
        num_seeds=n,
        level=level,
    )


def span(sizes: Sequence[float]) -> bool:
    """Whether sizes lie far enough apart for a change per tenfold increase: by more than a tenth."""
    return len(sizes) > 1 and max(sizes) > _LEAST_SPAN * min(sizes)


def slope(scores: Scores, *, level: float | None = None) -> Estimate:
    """Estimate the slope of scores against log10 of the number of parameters, all widths alike.

    Returns: NaN where the sizes do not `span` a tenth.
    """
    if not span(scores.num_params) or not scores.seeds:
        return NONE._replace(num_seeds=len(scores.seeds), level=level or scores.level)
    return contrast(scores, slope_weights(scores.num_params), level=level)


def rise(scores: Scores, *, level: float | None = None) -> Estimate:
    """Estimate the score at the largest width minus the mean of the smaller half of the widths."""
    num = len(scores.num_params)
    weights = np.zeros(num)
    weights[: num // 2] = -1 / (num // 2)
    weights[-1] = 1.0
    return contrast(scores, weights, level=level)


def joined(every: Sequence[Scores]) -> Scores:
    """Put the scores of several groups of comparisons one after the other, over the seeds that all of them have."""
    if not every:
        return NO_SCORES
    seeds = sorted(set.intersection(*(set(scores.seeds) for scores in every)))
    values = [scores.values[:, [scores.seeds.index(seed) for seed in seeds]] for scores in every]
    fields = zip(*((each.variances, each.excesses, each.degrees) for each in every), strict=True)
    variances, excesses, degrees = map(np.concatenate, fields)
    return Scores(
        num_params=tuple(size for each in every for size in each.num_params),
        seeds=tuple(seeds),
        values=np.concatenate(values),
        variances=variances,
        excesses=excesses,
        degrees=degrees,
        level=every[0].level,
    )


def plain(values: np.ndarray, num_params: Sequence[int], seeds: Sequence[int]) -> Scores:
    """Arrange numbers that nothing was chosen by, [comparisons, seeds], as scores."""
    count, num_seeds = values.shape
    return Scores(
        num_params=tuple(num_params),
        seeds=tuple(seeds),
        values=values,
        variances=values.var(axis=1, ddof=1) if num_seeds > 1 else np.full(count, math.nan),
        excesses=np.zeros(count),
        degrees=np.full(count, num_seeds - 1.0),
    )


def slope_weights(num_params: Sequence[float]) -> np.ndarray:
    """Compute the vector whose product with values is their least-squares slope on log10 of the parameters."""
    return line_weights(np.log10(np.asarray(num_params, dtype=float)))


def line_weights(positions: np.ndarray) -> np.ndarray:
    """Compute the vector whose product with values is their least-squares slope on some positions."""
    centered = positions - positions.mean()
    return centered / (centered @ centered)
