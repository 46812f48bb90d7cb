"""How much of the gain's growth is SAM getting better, and how much is the base getting worse."""

import math
from typing import TYPE_CHECKING

import numpy as np

from flatwide.analysis import gain, intervals, widths

if TYPE_CHECKING:
    import pandas as pd


def decompose(
    runs: "pd.DataFrame", *, width: str = "num_params", metric: str = "test_metric", choose_by: str | None = None
) -> "pd.DataFrame":
    """Split the growth of the gain into what SAM and what the base contributes.

    Growth is counted from the width at which the base is best on average, for networks too small to learn the task say
    nothing about who gains by width. Where that is the largest width, the base never gets worse, and it is counted from
    the smallest.

    Args, Raises: as for `gain.gain_by_width`.
    Returns: one row a width with a gain, the first that from which growth is counted, over the seeds that it shares
      with the first: the width, `num_params`, `gain_growth`, `sam_improvement` and `base_decline` (positive where SAM
      is better, and the base worse, than at the first; their sum is the growth), each with its 95 % t interval as
      `<name>_low` and `<name>_high`, and `num_seeds`.
    """
    import pandas as pd

    cells = widths.by_width(runs, width=width, metric=metric, choose_by=choose_by)
    pairs = [(cell, {pair["seed"]: pair for pair in gain.pairs(cell)}) for cell in cells]
    pairs = [(cell, by_seed) for cell, by_seed in pairs if by_seed]
    means = [cell.sign * float(np.mean([pair["base"] for pair in by_seed.values()])) for cell, by_seed in pairs]
    best = int(np.argmax(means)) if means else 0
    rows, pairs = [], pairs[best:] if best < len(pairs) - 1 else pairs
    for cell, now in pairs:
        first = pairs[0][1]
        seeds = [seed for seed in now if seed in first]
        sam = np.array([cell.sign * (now[seed]["sam"] - first[seed]["sam"]) for seed in seeds])
        base = np.array([cell.sign * (first[seed]["base"] - now[seed]["base"]) for seed in seeds])
        row = {width: cell.value, "num_params": cell.num_params}
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
