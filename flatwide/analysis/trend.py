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

    grows: bool = False  # the gain at the largest width exceeds that at the smallest
    num_rises: int = 0  # among the steps from one width to the next
    num_steps: int = 0


@table.for_part
def trend(part: table.Part) -> Estimate:
    """Fit the corrected gain against the logarithm of the number of parameters, all widths alike.

    Returns: the mean over seeds of each seed's least-squares slope, per tenfold increase in parameters, with the
      interval of `estimates.contrast`; NaN below two widths or (the interval) two seeds.
    """
    return estimates.slope(part.scores)


@table.for_part
def paper_rule(part: table.Part) -> PaperRule:
    """Apply the paper's rule to its gain: with the best rho on the mean over seeds of the metric that is compared."""
    gains = [row["gain"] for row in gain.gain_by_width.rows(_as_in_paper(part)) if math.isfinite(row["gain"])]
    rises = np.diff(gains)
    if not len(rises):
        return PaperRule()
    return PaperRule(grows=gains[-1] > gains[0], num_rises=int(np.sum(rises > 0)), num_steps=len(rises))


@table.Rows
@table.for_part
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
