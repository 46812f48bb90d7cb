"""The growth of the gain, split into SAM improving and the base getting worse."""

import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from flatwide.analysis import estimates, gain, table
from flatwide.analysis.estimates import Side
from flatwide.analysis.fields import Frame


@table.Rows
@table.for_part
def decompose(part: table.Part) -> Iterator[dict[str, Any]]:
    """Split the growth of the gain into the contributions of SAM and of the base.

    Growth is measured from the width at which the base is best on average, because networks too small to learn the task
    are uninformative. Where that is the largest width, the base never gets worse and growth is measured from the
    smallest. For each seed it is the width at which the base of the other seeds is best: the best of several widths is
    optimistically biased, so noise alone would look like a decline from there.

    Returns: one row for each width with a gain, starting from the reference width, over the seeds that all widths
      share: the width, `num_params`, `gain_growth`, `sam_improvement` and `base_decline` (positive where SAM is better,
      and the base worse, than at the reference; their sum is the growth), each with its 95 % interval, t over seeds
      widened for their common choice, as `<name>_low` and `<name>_high`, and `num_seeds`.
    """
    pairs = [(width, {pair["seed"]: pair for pair in gain.pairs(width)}) for width in part.widths]
    pairs = [(width, by_seed) for width, by_seed in pairs if by_seed]
    seeds = sorted(set.intersection(*(set(by_seed) for _, by_seed in pairs))) if pairs else []
    if not seeds:
        return
    base, sam = (
        np.array([[width.sign * by_seed[seed][arm] for width, by_seed in pairs] for seed in seeds])
        for arm in ("base", "sam")
    )
    best = int(estimates.choose(base))
    is_chosen = len(seeds) > 1 and best < len(pairs) - 1
    best = best if best < len(pairs) - 1 else 0
    first_base, first_sam = (
        estimates.cross_fit(Side(values, base)) if is_chosen else values[:, best] for values in (base, sam)
    )
    widened = float(estimates.inflation(len(seeds), len(pairs))) if is_chosen else 1.0
    for index, (width, _) in enumerate(pairs[best:], start=best):
        better, worse = sam[:, index] - first_sam, first_base - base[:, index]
        row = {part.question.width: width.value, "num_params": width.num_params}
        for name, values in (("gain_growth", better + worse), ("sam_improvement", better), ("base_decline", worse)):
            interval = estimates.mean(values, inflation=widened)
            row |= {name: interval.value, f"{name}_low": interval.low, f"{name}_high": interval.high}
        yield row | {"num_seeds": len(seeds)}


def share_of_sam(table: Frame) -> float:
    """Compute the share of SAM in the growth at the largest width; NaN where the gain has not grown.

    Above 1, the base improved too, by less than SAM; below 0, SAM got worse, by less than the base.
    """
    if len(table) < 2 or not table["gain_growth"].iloc[-1] > 0:
        return math.nan
    return float(table["sam_improvement"].iloc[-1] / table["gain_growth"].iloc[-1])
