"""The gain of SAM where base and SAM each have separately tuned settings.

A learning rate that was tuned for one arm biases the comparison. Here the fields named in `tune` are chosen for each
arm separately, like rho: each seed is scored at the settings that the other seeds choose, in both arms.
"""

from collections.abc import Iterator
from typing import Any

from flatwide.analysis import arms, table
from flatwide.analysis.comparisons import EQUAL_COMPUTE, Compared


@table.Rows
@table.for_table
def tuned_gain(split: table.Split) -> Iterator[dict[str, Any]]:
    """Compute the gain of SAM at every width with settings tuned separately for base and SAM.

    Args:
      split: a table split with `tune`, such as `tune=["learning_rate"]`; for SAM, rho is chosen too.
    Returns: one row for each part, comparison and width: the columns that distinguish parts, `comparison`, `length` (of
      SAM, in epochs or steps), the width, `num_params`, `base` and `sam` (means of the scores), `base_choice` and
      `sam_choice` (of all seeds together, as text), `base_at_edge` and `sam_at_edge` (fields in which that choice is
      the smallest or largest value tried, so that a better one may lie beyond), `num_base_cells` and `num_sam_cells`
      (settings compared), `tuned_gain`, `tuned_standard_error`, `tuned_low`, `tuned_high` (95 %) and `num_seeds`. The
      comparisons: "same settings", SAM at the settings of the base, but for rho: the gain without tuning; "tuned", each
      arm at its best; "equal compute", over base runs longer by the number of gradients that SAM takes per step;
      "averaged", over the base's averaged weights (`config.weight_average`), and with equal compute; "both averaged".
      A width at which a single setting of the base was tried is left out where at others several were.
    """
    for part in split.tuned:
        for compared in part.comparisons:
            yield from rows(part, compared)


@table.Rows
@table.for_table
def equal_compute_gain(split: table.Split) -> Iterator[dict[str, Any]]:
    """Compute the gain of SAM over base runs of equal compute, at every width that has such runs.

    Returns: as `tuned_gain` without tuned fields; no rows if there are no such runs.
    """
    for part in (part for domain in split.domains for part in domain.tuning(()).tuned):
        for compared in part.comparisons:
            if compared.kind == EQUAL_COMPUTE:
                yield from rows(part, compared)


def rows(part: table.Part, compared: Compared) -> Iterator[dict[str, Any]]:
    """Yield the rows of `tuned_gain` for one kind of comparison."""
    for comparison in compared.widths:
        gain, at = comparison.gain, comparison.chosen
        base_at, sam_at = comparison.base.settings[at[0]], comparison.sam.settings[at[1]]
        base, sam = comparison.means
        yield part.values | {
            "comparison": compared.kind,
            "length": compared.length,
            part.question.width: comparison.width,
            "num_params": comparison.num_params,
            "base": base,
            "sam": sam,
            "base_choice": arms.settings_text(base_at),
            "sam_choice": arms.settings_text(sam_at),
            "base_at_edge": " ".join(comparison.edges[0]),
            "sam_at_edge": " ".join(comparison.edges[1]),
            "num_base_cells": len(comparison.base.settings),
            "num_sam_cells": comparison.num_sam,
            "tuned_gain": gain.value,
            "tuned_standard_error": gain.error,
            "tuned_low": gain.low,
            "tuned_high": gain.high,
            "num_seeds": gain.num_seeds,
        }
