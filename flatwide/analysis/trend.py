"""The trend of the gain with width: its slope with an interval, and the paper's rule."""

import dataclasses
import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from flatwide.analysis import estimates, gain, table
from flatwide.analysis.estimates import Estimate


class PaperRule(NamedTuple):
    """The paper's claim that the gain grows with width, as read off its figures."""

    gain_smallest: float = math.nan
    gain_largest: float = math.nan
    grows: bool = False  # gain_largest > gain_smallest
    num_rises: int = 0  # among the steps from one width to the next
    num_steps: int = 0


@table.for_part
def trend(part: table.Part) -> Estimate:
    """Fit the corrected gain against the logarithm of the number of parameters, all widths alike.

    Returns: the mean over seeds of each seed's least-squares slope, per tenfold increase in parameters, with the
      interval of `estimates.contrast`, over the widths with a gain and the seeds that have it at each of them; NaN
      below two widths or (the interval) two seeds.
    """
    return estimates.slope(part.scores)


@table.for_part
def paper_rule(part: table.Part) -> PaperRule:
    """Apply the paper's rule: the gain at the largest width exceeds that at the smallest.

    The gain is that of the paper: with the best rho on the mean over seeds of the same metric that is compared.
    """
    gains = [row["gain"] for row in gain.gain_by_width.rows(_as_in_paper(part)) if math.isfinite(row["gain"])]
    if len(gains) < 2:
        return PaperRule()
    return PaperRule(
        gain_smallest=gains[0],
        gain_largest=gains[-1],
        grows=gains[-1] > gains[0],
        num_rises=int(np.sum(np.diff(gains) > 0)),
        num_steps=len(gains) - 1,
    )


@table.rows_for_part
def paper_bands(part: table.Part) -> Iterator[dict[str, Any]]:
    """Compute means and bands as in the paper's figures, for comparison with its numbers.

    Returns: the rows of `gain.by_rho` with `std` (with n - 1, which the paper's bands turn out to be; its text states
      the standard error).
    """
    for width in _as_in_paper(part).widths:
        for row in gain.by_rho(width, part.question.width):
            yield row | {"std": row["standard_error"] * math.sqrt(row["num_seeds"])}


def _as_in_paper(part: table.Part) -> table.Part:
    """Return the part with rho chosen by the metric that is compared."""
    question = part.question._replace(choose_by=part.question.metric)
    return part if part.chosen_by == question.choose_by else dataclasses.replace(part, question=question)
