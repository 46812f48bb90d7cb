"""Confidence sets for the best column of a table of seeds × columns."""

import functools

import numpy as np

_NUM_TABLES = 10_000  # each gives one draw per column
_CHUNK = 1000
_SIZES = (*range(2, 13), 16, 24, 32, 64, 128, 256)  # set sizes whose limit is simulated


def best_set(tables: np.ndarray, *, level: float = 0.95, stretch: float = 1.0) -> np.ndarray:
    """Find the columns that no other is significantly better than.

    The set starts with the column of the best mean and adds the column least far behind it, as long as that is within
    the limit for a set of the new size. Variance and limit are computed within the set, so a column that stays outside,
    however far behind or noisy, does not affect it.

    Args:
      tables: [tables, seeds, columns], larger is better; two seeds or more.
      stretch: factor of the limit, for values that depend on each other.
    Returns: [tables, columns].
    Equation: column k is at most c_m behind each j of the set: mean_i(x_ij - x_ik) <= c_m sqrt(v_jk / n), with v_jk the
      mean of the variance of those differences and of 2 s^2, s^2 the residual mean square of the m columns after
      removing the means of columns and seeds; c_m as in `limits`.
    Source: comparisons with the best after Hsu (1984), with half of the variance pooled: the variance from a few seeds
      alone would keep nearly every column, and the pooled one alone would assume equal noise in each.
    """
    num_tables, num_seeds, num_columns = tables.shape
    means, covariances = _moments(tables)
    limit = stretch * limits(num_seeds, num_columns, level=level)
    live = np.arange(num_tables)
    is_in = np.zeros((num_tables, num_columns), dtype=bool)
    is_in[live, means.argmax(axis=1)] = True
    for size in range(2, num_columns + 1):
        behind = _behind(means[live], covariances[live], is_in[live], num_seeds)
        nearest = behind.argmin(axis=1)
        is_near = behind[np.arange(len(live)), nearest] <= limit[size]
        live, nearest = live[is_near], nearest[is_near]
        is_in[live, nearest] = True
    return is_in


def limits(num_seeds: int, most: int, *, level: float = 0.95) -> np.ndarray:
    """Compute how many standard errors a column may be behind, for sets of 0, 1, ... `most` columns.

    Each is the quantile of the largest ratio over j for a given k, simulated for equal columns with equal noise. The
    random seed is fixed.

    Cost: half a second for 8 seeds and 11 columns, the first time, and a tenth of a second for each larger size of
      `_SIZES`; limits between these sizes are interpolated.
    """
    sizes = [size for index, size in enumerate(_SIZES) if index == 0 or _SIZES[index - 1] < most]
    limits_of_sizes = [_limit(num_seeds, size, level) for size in sizes]
    return np.array([0.0, 0.0, *np.interp(np.log(range(2, most + 1)), np.log(sizes), limits_of_sizes)])


@functools.lru_cache(maxsize=512)
def _limit(num_seeds: int, size: int, level: float) -> float:
    generator = np.random.default_rng(1)
    ratios = []
    chunk = max(20, min(_CHUNK, 100_000 // size**2))
    for _ in range(_NUM_TABLES // _CHUNK):
        means, covariances = _moments(generator.standard_normal((chunk, num_seeds, size)))
        trace, total = np.einsum("tkk->t", covariances), covariances.sum(axis=(1, 2))
        pooled = (trace - total / size) / (size - 1)
        ratios.append(_ratios(means, covariances, pooled[:, None], num_seeds).max(axis=2))
    return float(np.quantile(np.concatenate(ratios), level))  # by symmetry, all columns have the same distribution


def _moments(tables: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Compute the mean of each column, and their covariances over seeds."""
    means = tables.mean(axis=1)
    rest = tables - means[:, None]
    return means, np.matmul(rest.transpose(0, 2, 1), rest) / (tables.shape[1] - 1)


def _behind(means: np.ndarray, covariances: np.ndarray, is_in: np.ndarray, num_seeds: int) -> np.ndarray:
    """Compute by how many standard errors each column would be behind if it joined the set; infinite for members."""
    inside = is_in.astype(float)
    variances = np.einsum("tkk->tk", covariances)
    with_set = np.einsum("tjk,tk->tj", covariances, inside)
    size = 1 + inside.sum(axis=1, keepdims=True)
    # The residual sum of squares over n - 1 is the trace of the covariances minus their sum over the size.
    trace = np.sum(variances * inside, axis=1, keepdims=True) + variances
    total = np.sum(with_set * inside, axis=1, keepdims=True) + 2 * with_set + variances
    ratios = _ratios(means, covariances, np.maximum(trace - total / size, 0) / (size - 1), num_seeds)
    return np.where(is_in, np.inf, np.where(is_in[:, None, :], ratios, 0).max(axis=2))


def _ratios(means: np.ndarray, covariances: np.ndarray, pooled: np.ndarray, num_seeds: int) -> np.ndarray:
    """Compute by how many standard errors column k is behind column j: [tables, k, j]; 0 where it is not behind."""
    variances = np.einsum("tkk->tk", covariances)
    difference = np.maximum(variances[:, :, None] + variances[:, None, :] - 2 * covariances, 0)
    error = np.sqrt((difference + 2 * pooled[:, :, None]) / 2 / num_seeds)
    ahead = means[:, None, :] - means[:, :, None]
    # Equal values may differ in their last bits.
    rounding = 1e-12 * (np.abs(means).max(axis=1) + np.sqrt(variances).max(axis=1))[:, None, None]
    ahead = np.where(ahead > rounding, ahead, 0)
    return np.divide(ahead, error, out=np.where(ahead > 0, np.inf, 0.0), where=error > rounding)
