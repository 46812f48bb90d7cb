"""Which rho for my width: the best of the grid, and those that the seeds cannot tell from it."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from flatwide.analysis import best_sets, widths

if TYPE_CHECKING:
    import pandas as pd


def best_rho(
    runs: "pd.DataFrame", *, width: str = "num_params", metric: str = "test_metric", choose_by: str | None = None
) -> "pd.DataFrame":
    """Find the best rho of each width, and a 95 % confidence set for it.

    A rho is in the set unless another is significantly better. The set holds the rho with the best true mean in 95 % of
    studies or more; in 90 to 94 % of them where that rho is several times noisier than the rest and seeds are few.

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
    """List the rhos that no other is significantly better than, as `best_sets.best_set`; empty below two seeds."""
    table = one.complete(base=False).choices[:, [1 + column for column in one.candidates]]
    if len(table) < 2 or not one.candidates:
        return []
    (is_in,) = best_sets.best_set(table[None], level=level)
    return [one.rhos[column] for column, kept in zip(one.candidates, is_in, strict=True) if kept]
