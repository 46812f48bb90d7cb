"""How much of the gain's growth is SAM getting better, and how much is the base getting worse."""

import math
from typing import TYPE_CHECKING

from flatwide.analysis import gain, intervals

if TYPE_CHECKING:
    import pandas as pd


def decompose(
    runs: "pd.DataFrame", *, width: str = "num_params", metric: str = "test_metric", choose_by: str | None = None
) -> "pd.DataFrame":
    """Split the growth of the gain since the smallest width into what SAM and what the base contributes.

    Args, Raises: as for `gain.gain_by_width`.
    Returns: one row a width with a gain, over the seeds that it shares with the smallest: the width, `num_params`,
      `gain_growth`, `sam_improvement` and `base_decline` (positive where SAM is better, and the base worse, than at
      the smallest; their sum is the growth), each with its 95 % t interval as `<name>_low` and `<name>_high`,
      and `num_seeds`.
    """
    import pandas as pd

    lower = _is_lower_better(runs, metric)
    pairs = gain.pair_seeds(runs, width=width, metric=metric, choose_by=choose_by)
    pairs = pairs.assign(sam=-pairs["sam"], base=-pairs["base"]) if lower else pairs
    rows = []
    for num_params, group in pairs.groupby("num_params", sort=True):
        first = pairs[pairs["num_params"] == pairs["num_params"].min()].set_index("seed")
        now = group.set_index("seed")
        seeds = [seed for seed in now.index if seed in first.index]
        sam = (now["sam"][seeds] - first["sam"][seeds]).to_numpy(dtype=float)
        base = (first["base"][seeds] - now["base"][seeds]).to_numpy(dtype=float)
        row = {width: group[width].iloc[0], "num_params": num_params}
        for name, values in (("gain_growth", sam + base), ("sam_improvement", sam), ("base_decline", base)):
            found = intervals.mean(values)
            row |= {name: found.mean, f"{name}_low": found.low, f"{name}_high": found.high}
        rows.append(row | {"num_seeds": len(seeds)})
    return pd.DataFrame(rows)


def share_of_sam(table: "pd.DataFrame") -> float:
    """Give SAM's share of the growth at the largest width; NaN where the gain has not grown.

    Above 1 the base got better too, by less than SAM; below 0 SAM got worse, by less than the base.
    """
    if len(table) < 2 or not table["gain_growth"].iloc[-1] > 0:
        return math.nan
    return float(table["sam_improvement"].iloc[-1] / table["gain_growth"].iloc[-1])


def _is_lower_better(runs: "pd.DataFrame", metric: str) -> bool:
    return metric.endswith("loss") or not runs["higher_is_better"].dropna().astype(bool).all()
