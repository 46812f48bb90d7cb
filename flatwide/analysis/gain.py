"""The gain of SAM over its base optimizer at each width.

The gain is the mean over seeds of SAM - base, signed so that positive means that SAM is better. Both runs of a seed
start from the same weights, see the same data in the same order and differ only in rho, so they are compared in pairs.
The best of many values of rho beats one base run even where SAM has no effect, because it is selected for its noise;
the corrected gain scores each seed at the rho that the other seeds choose.
"""

import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from flatwide.analysis import arms, estimates, table
from flatwide.analysis.estimates import Scores
from flatwide.analysis.widths import Width


@table.Rows
@table.for_part
def gain_by_width(part: table.Part) -> Iterator[dict[str, Any]]:
    """Compute the gain of SAM over its base optimizer at every width.

    Returns: one row for each width, the smallest first: the width, `num_params`, `base`, `best_rho`, `sam` (means over
      the seeds that both have), `gain`, its `standard_error` and 95 % t interval `low`, `high` (NaN for one seed),
      `num_seeds` (pairs), `num_diverged` and `num_collapsed` (runs).
    Raises: ValueError if a column is missing, a width has no base run, or two runs differ in another field.
    """
    for width in part.widths:
        seed_pairs = pairs(width)
        gain = estimates.mean([pair["gain"] for pair in seed_pairs])
        yield {
            part.question.width: width.value,
            "num_params": width.num_params,
            "base": estimates.mean([pair["base"] for pair in seed_pairs]).value,
            "best_rho": width.best_rho,
            "sam": estimates.mean([pair["sam"] for pair in seed_pairs]).value,
            "gain": gain.value,
            "standard_error": gain.error,
            "low": gain.low,
            "high": gain.high,
            "num_seeds": len(seed_pairs),
            "num_diverged": width.num_diverged,
            "num_collapsed": width.num_collapsed,
        }


@table.Rows
@table.for_part
def corrected_gain(part: table.Part) -> Iterator[dict[str, Any]]:
    """Compute the gain at every width, each seed scored at the rho that the other seeds choose.

    Returns: one row for each width: the width, `num_params`, `corrected_gain`, `corrected_standard_error`,
      `corrected_low`, `corrected_high` (95 %), `selection_bias` (the plain gain of the same seeds minus the corrected
      one), `corrected_num_seeds` and `num_rhos` (that the choice was made from: without a diverged or missing run).
    """
    for width in part.widths:
        comparison, gain = width.comparison, width.comparison.gain
        bias = math.nan
        if comparison.is_usable:
            _, best = comparison.chosen
            plain = comparison.sign * (comparison.sam.values[:, best] - comparison.base.values[:, 0])
            bias = float(plain.mean()) - gain.value
        yield {
            part.question.width: width.value,
            "num_params": width.num_params,
            "corrected_gain": gain.value,
            "corrected_standard_error": gain.error,
            "corrected_low": gain.low,
            "corrected_high": gain.high,
            "selection_bias": bias,
            "corrected_num_seeds": len(comparison.seeds),
            "num_rhos": len(width.candidates),
        }


@table.Rows
@table.for_part
def pair_seeds(part: table.Part) -> Iterator[dict[str, Any]]:
    """Pair each seed's SAM run at the best rho of its width with its base run; `gain_by_width` averages these.

    Returns: one row for each width and seed: the width, `num_params`, `best_rho`, `seed`, `base`, `sam`, `gain`.
    """
    for width in part.widths:
        for pair in pairs(width):
            row = {part.question.width: width.value, "num_params": width.num_params, "best_rho": width.best_rho}
            yield row | pair


def pairs(width: Width) -> list[dict[str, Any]]:
    """List `seed`, `base`, `sam` and `gain` of each seed of a width that has a base run and one at the best rho."""
    if width.best is None:
        return []
    base, sam = width.values[:, 0], width.values[:, 1 + width.best]
    return [
        {"seed": seed, "base": float(b), "sam": float(s), "gain": float(width.sign * (s - b))}
        for seed, b, s in zip(width.seeds, base, sam, strict=True)
        if math.isfinite(b) and math.isfinite(s)
    ]


def by_rho(width: Width, name: str) -> Iterator[dict[str, Any]]:
    """Yield the mean over seeds of each rho of a width, base included as rho 0; `name` is the column of the width."""
    for rho, column in zip((0.0, *width.rhos), width.values.T, strict=True):
        mean = estimates.mean(column[np.isfinite(column)])
        row = {name: width.value, "num_params": width.num_params, "rho": rho, "mean": mean.value}
        ends = {"standard_error": mean.error, "low": mean.low, "high": mean.high}
        yield row | ends | {"num_seeds": mean.num_seeds}


def aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """Write rows of cells as lines of text with right-aligned columns."""
    sizes = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(cell.rjust(size) for cell, size in zip(row, sizes, strict=True)) for row in rows]


@table.for_part
def scores_of_sam(part: table.Part) -> Scores:
    """Score SAM itself, against zero, at the widths that have a gain; larger is better."""
    return arms.scores([width.comparison.sam_alone for width in part.widths])
