"""The columns of a table, seeds × columns, that the seeds cannot tell from the best one."""

import functools

import numpy as np

_NUM_TABLES = 10_000  # each has a draw for every column
_CHUNK = 1000
_SIZES = (*range(2, 13), 16, 24, 32, 64, 128, 256)  # of sets whose limit is simulated


def best_set(tables: np.ndarray, *, level: float = 0.95, stretch: float = 1.0) -> np.ndarray:
    """Find the columns that no other is significantly better than.

    The set begins with the column of the best mean, and takes in the one least far behind it while that is within the
    limit for as many columns as it then has. Variance and limit are those of the set alone, so a column that ends
    outside, however far behind or noisy, leaves the rest of the set as it would be without it.

    Args:
      tables: [tables, seeds, columns], larger is better; two seeds or more.
      stretch: factor of the limit, for values that depend on each other.
    Returns: [tables, columns].
    Equation: column k is c_m or less behind each j of the set: mean_i(x_ij - x_ik) <= c_m sqrt(v_jk / n), v_jk the mean
      of the variance of those differences and of 2 s^2, s^2 the mean square that is left of the m columns after their
      means and those of the seeds; c_m as in `limits`.
    Source: comparisons with the best after Hsu (1984), with half of the variance pooled: its own few seeds alone would
      keep nearly every column, and the pooled one alone would trust that noise is the same in each.
    """
    num_tables, num_seeds, num_columns = tables.shape
    means, covariances = _moments(tables)
    limit = stretch * limits(num_seeds, num_columns, level=level)
    live = np.arange(num_tables)
    found = np.zeros((num_tables, num_columns), dtype=bool)
    found[live, means.argmax(axis=1)] = True
    for size in range(2, num_columns + 1):
        behind = _behind(means[live], covariances[live], found[live], num_seeds)
        nearest = behind.argmin(axis=1)
        is_near = behind[np.arange(len(live)), nearest] <= limit[size]
        live, nearest = live[is_near], nearest[is_near]
        found[live, nearest] = True
    return found


def limits(num_seeds: int, most: int, *, level: float = 0.95) -> np.ndarray:
    """Compute how many standard errors a column may be behind, for sets of 0, 1, ... `most` columns.

    Each is the quantile of the greatest ratio over j for one k, simulated for columns that are equal, with noise of one
    size; always the same number.

    Cost: half a second for 8 seeds and 11 columns, the first time, a tenth for each larger size of `_SIZES`; between
      those, limits are interpolated.
    """
    sizes = [size for place, size in enumerate(_SIZES) if place == 0 or _SIZES[place - 1] < most]
    found = [_limit(num_seeds, size, level) for size in sizes]
    return np.array([0.0, 0.0, *np.interp(np.log(range(2, most + 1)), np.log(sizes), found)])


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
    return float(np.quantile(np.concatenate(ratios), level))  # by symmetry every column is a draw of the same law


def _moments(tables: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Compute the mean of each column, and their covariances over seeds."""
    means = tables.mean(axis=1)
    rest = tables - means[:, None]
    return means, np.matmul(rest.transpose(0, 2, 1), rest) / (tables.shape[1] - 1)


def _behind(means: np.ndarray, covariances: np.ndarray, is_in: np.ndarray, num_seeds: int) -> np.ndarray:
    """Compute by how many standard errors each column would be behind, were it in the set too; infinite for members."""
    inside = is_in.astype(float)
    own = np.einsum("tkk->tk", covariances)
    with_set = np.einsum("tjk,tk->tj", covariances, inside)
    size = 1 + inside.sum(axis=1, keepdims=True)
    # The sum of squares after both means, over n - 1: the trace of the covariances less their sum over the size.
    trace = np.sum(own * inside, axis=1, keepdims=True) + own
    total = np.sum(with_set * inside, axis=1, keepdims=True) + 2 * with_set + own
    ratios = _ratios(means, covariances, np.maximum(trace - total / size, 0) / (size - 1), num_seeds)
    return np.where(is_in, np.inf, np.where(is_in[:, None, :], ratios, 0).max(axis=2))


def _ratios(means: np.ndarray, covariances: np.ndarray, pooled: np.ndarray, num_seeds: int) -> np.ndarray:
    """Compute by how many standard errors column k is behind column j: [tables, k, j], 0 where it is not behind.

    Args:
      pooled: [tables, 1], or [tables, columns] where it depends on k.
    """
    own = np.einsum("tkk->tk", covariances)
    difference = np.maximum(own[:, :, None] + own[:, None, :] - 2 * covariances, 0)
    error = np.sqrt((difference + 2 * pooled[:, :, None]) / 2 / num_seeds)
    ahead = means[:, None, :] - means[:, :, None]
    # Equal values may differ in their last bits.
    rounding = 1e-12 * (np.abs(means).max(axis=1) + np.sqrt(own).max(axis=1))[:, None, None]
    ahead = np.where(ahead > rounding, ahead, 0)
    return np.divide(ahead, error, out=np.where(ahead > 0, np.inf, 0.0), where=error > rounding)
