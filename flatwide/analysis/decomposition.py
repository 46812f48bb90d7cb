"""How much of the gain's growth is SAM getting better, and how much is the base getting worse."""

import math
from typing import TYPE_CHECKING

import numpy as np

from flatwide.analysis import gain, intervals, selection, widths

if TYPE_CHECKING:
    import pandas as pd


def decompose(
    runs: "pd.DataFrame", *, width: str = "num_params", metric: str = "test_metric", choose_by: str | None = None
) -> "pd.DataFrame":
    """Split the growth of the gain into what SAM and what the base contributes.

    Growth is counted from the width at which the base is best on average, for networks too small to learn the task say
    nothing about who gains by width. Where that is the largest width, the base never gets worse, and it is counted from
    the smallest. Each seed counts from the width at which the other seeds' base is best: the best of several widths is
    lucky, and from there on noise alone would look like a decline.

    Args, Raises: as for `gain.gain_by_width`.
    Returns: one row a width with a gain, the first that from which growth is counted, over the seeds that all widths
      share: the width, `num_params`, `gain_growth`, `sam_improvement` and `base_decline` (positive where SAM is better,
      and the base worse, than at the first; their sum is the growth), each with its 95 % interval, t over seeds
      widened for their common choice, as `<name>_low` and `<name>_high`, and `num_seeds`.
    """
    import pandas as pd

    cells = widths.by_width(runs, width=width, metric=metric, choose_by=choose_by)
    pairs = [(cell, {pair["seed"]: pair for pair in gain.pairs(cell)}) for cell in cells]
    pairs = [(cell, by_seed) for cell, by_seed in pairs if by_seed]
    seeds = sorted(set.intersection(*(set(by_seed) for _, by_seed in pairs))) if pairs else []
    if not seeds:
        return pd.DataFrame()
    base, sam = (
        np.array([[cell.sign * by_seed[seed][arm] for cell, by_seed in pairs] for seed in seeds])
        for arm in ("base", "sam")
    )
    best = int(base.mean(axis=0).argmax())
    is_chosen = len(seeds) > 1 and best < len(pairs) - 1
    best = best if best < len(pairs) - 1 else 0
    first_base, first_sam = (at_best_width(base, values) if is_chosen else values[:, best] for values in (base, sam))
    widened = stretch(len(seeds), len(pairs)) if is_chosen else 1.0
    rows = []
    for place, (cell, _) in enumerate(pairs[best:], start=best):
        better, worse = sam[:, place] - first_sam, first_base - base[:, place]
        row = {width: cell.value, "num_params": cell.num_params}
        for name, values in (("gain_growth", better + worse), ("sam_improvement", better), ("base_decline", worse)):
            found = intervals.mean(values, stretch=widened)
            row |= {name: found.mean, f"{name}_low": found.low, f"{name}_high": found.high}
        rows.append(row | {"num_seeds": len(seeds)})
    return pd.DataFrame(rows)


def at_best_width(base: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Take the value of each seed at the width where the base of the other seeds is best.

    Args:
      base, values: [..., seeds, widths]; of `base` larger is better.
    """
    return selection.cross_fit(values, base)


def stretch(num_seeds: int, num_widths: int) -> float:
    """Find how much wider than Student's t an interval must be of what is counted from a width so chosen."""
    return selection.stretch_of_scores(num_seeds, num_widths)


def share_of_sam(table: "pd.DataFrame") -> float:
    """Compute SAM's share of the growth at the largest width; NaN where the gain has not grown.

    Above 1 the base got better too, by less than SAM; below 0 SAM got worse, by less than the base.
    """
    if len(table) < 2 or not table["gain_growth"].iloc[-1] > 0:
        return math.nan
    return float(table["sam_improvement"].iloc[-1] / table["gain_growth"].iloc[-1])
