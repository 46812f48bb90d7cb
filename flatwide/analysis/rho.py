"""Which rho for my width: the best of the grid, and those that the seeds cannot tell from it."""

import functools
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from flatwide.analysis import widths

if TYPE_CHECKING:
    import pandas as pd

_NUM_TABLES = 20_000


def best_rho(
    runs: "pd.DataFrame", *, width: str = "num_params", metric: str = "test_metric", choose_by: str | None = None
) -> "pd.DataFrame":
    """Find the best rho of each width, and a 95 % confidence set for it.

    A rho is in the set unless another is significantly better. The set holds the rho with the best true mean in at
    least 95 % of studies where noise is alike from rho to rho; in 95 % if all are equally good.

    Args, Raises: as for `gain.gain_by_width`.
    Returns: one row a width: the width, `num_params`, `best_rho`, `best_rho_low` and `best_rho_high` (the least and
      greatest rho of the set; NaN below two seeds), `best_rho_set` (its members, as text), `chosen_by`,
      `at_grid_edge` ("low", "high" or ""), `num_rhos` and `num_excluded_rhos` (those with a diverged or missing seed).
    """
    import pandas as pd

    chosen_by = widths.choice_column(runs, metric=metric) if choose_by is None else choose_by
    cells = widths.by_width(runs, width=width, metric=metric, choose_by=chosen_by)
    return pd.DataFrame(of_widths(cells, width=width, chosen_by=chosen_by))


def of_widths(cells: Sequence[widths.Width], *, width: str, chosen_by: str) -> list[dict[str, Any]]:
    """Give the rows of `best_rho` for runs that are arranged already."""
    rows = []
    for one in cells:
        members = confidence_set(one)
        rows.append(
            {
                width: one.value,
                "num_params": one.num_params,
                "best_rho": one.best_rho,
                "best_rho_low": min(members, default=math.nan),
                "best_rho_high": max(members, default=math.nan),
                "best_rho_set": " ".join(f"{rho:g}" for rho in members),
                "chosen_by": chosen_by,
                "at_grid_edge": grid_edge(one),
                "num_rhos": len(one.candidates),
                "num_excluded_rhos": len(one.rhos) - len(one.candidates),
            }
        )
    return rows


def grid_edge(one: widths.Width) -> str:
    """Tell whether the best rho is the least ("low") or greatest ("high") of the grid, so that a better may lie beyond.

    Where greater rho diverged, the grid has reached its end: that is no edge.
    """
    if one.best is None or len(one.rhos) < 2:
        return ""
    return {0: "low", len(one.rhos) - 1: "high"}.get(one.best, "")


def confidence_set(one: widths.Width, *, level: float = 0.95) -> list[float]:
    """List the rhos that no other is significantly better than; empty below two seeds.

    Equation: k is out if some j has mean_i(x_ij - x_ik) > c sqrt(v_jk / n), x what rho is chosen by, v_jk the mean of
      the variance of those differences and of 2 s^2, s^2 the mean square that is left of x after the means of seeds and
      rhos; c the quantile of the greatest ratio over j for one k, simulated for rhos that are equal.
    Source: comparisons with the best after Hsu (1984), with half of the variance pooled: its own few seeds alone would
      keep nearly every rho, and the pooled one alone would trust that noise is the same at each rho.
    """
    table = one.complete(base=False).choices[:, [1 + place for place in one.candidates]]
    n, num_rhos = table.shape
    if n < 2 or num_rhos == 0:
        return []
    worst = _behind(table[None])[0]
    limit = _critical_value(n, num_rhos, level=level)
    best = one.best
    return [one.rhos[p] for p, ratio in zip(one.candidates, worst, strict=True) if ratio <= limit or p == best]


def _behind(tables: np.ndarray) -> np.ndarray:
    """Compute by how many standard errors each rho is behind the one that beats it most: [tables, rhos]."""
    n, num_rhos = tables.shape[1:]
    if num_rhos == 1:
        return np.zeros((len(tables), 1))
    means = tables.mean(axis=1)
    rest = tables - tables.mean(axis=2, keepdims=True)
    rest = rest - rest.mean(axis=1, keepdims=True)
    pooled = np.sum(rest**2, axis=(1, 2)) / ((n - 1) * (num_rhos - 1))
    products = np.einsum("tij,tik->tjk", rest, rest) / (n - 1)
    own = np.einsum("tjj->tj", products)[:, :, None] + np.einsum("tkk->tk", products)[:, None, :] - 2 * products
    error = np.sqrt((np.maximum(own, 0) + 2 * pooled[:, None, None]) / 2 / n)
    ahead = means[:, :, None] - means[:, None, :]
    ratios = np.divide(ahead, error, out=np.where(ahead > 0, np.inf, 0.0), where=error > 0)
    return ratios.max(axis=1)


@functools.lru_cache(maxsize=512)
def _critical_value(num_seeds: int, num_rhos: int, *, level: float) -> float:
    """Find the quantile of how far a given rho is behind where all are equal; always the same number."""
    if num_rhos == 1:
        return 0.0
    generator = np.random.default_rng(1)
    behind = [_behind(generator.standard_normal((1000, num_seeds, num_rhos))) for _ in range(_NUM_TABLES // 1000)]
    # By symmetry every rho is a draw of the same law.
    return float(np.quantile(np.concatenate(behind), level))
