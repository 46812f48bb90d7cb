"""Comparisons of base and SAM with separately tuned settings at each width, arranged from the runs of a part.

Further comparisons give the base, with separately chosen settings, what SAM's second gradient could have bought:
training for as many gradients; and what costs no gradient: the average of its weights.
"""

import dataclasses
from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

from flatwide.analysis import arms, fields
from flatwide.analysis.estimates import Scores

if TYPE_CHECKING:
    import pandas as pd

SAME = "same settings"
TUNED = "tuned"
EQUAL_COMPUTE = "equal compute"
AVERAGED = "averaged"
AVERAGED_EQUAL_COMPUTE = "averaged, equal compute"
BOTH_AVERAGED = "both averaged"

KINDS = (SAME, TUNED, EQUAL_COMPUTE, AVERAGED, AVERAGED_EQUAL_COMPUTE, BOTH_AVERAGED)


@dataclasses.dataclass(frozen=True, eq=False)
class Compared:
    """One kind of comparison of a part at all its widths.

    kind: one of KINDS. length: epochs or steps of SAM. widths: the comparison at each width, the smallest first.
    """

    kind: str
    length: float
    widths: tuple[arms.Comparison, ...]

    @property
    def is_tuned(self) -> bool:
        """Whether several settings of the base were tried."""
        return any(len(comparison.base.tried) > 1 for comparison in self.widths)

    @cached_property
    def scores(self) -> Scores:
        """The scores of all widths."""
        return arms.scores(self.widths)


def compare(
    runs: "pd.DataFrame", *, tune: Sequence[str], width: str, metric: str, choose_by: str, level: float = 0.95
) -> list[Compared]:
    """Arrange every kind of comparison that a part has runs for, at each length of its SAM runs.

    Args: as in `table.Question`.
    """
    averages = {metric: f"{metric}_average", choose_by: f"{choose_by}_average"}
    columns = [width, "num_params", "seed", "higher_is_better", *tune, *fields.LENGTHS, *averages, *averages.values()]
    done = fields.done(runs, [*columns, *fields.SHAPES, "num_gradients", "steps", "metric_name", "num_test_items"])
    if not done:
        return []
    signs = fields.signs(done, averages)
    by_width: dict[Any, list[dict[str, Any]]] = {}
    for run in done:
        by_width.setdefault(run[width], []).append(run)
    compared = []
    for length in sorted({fields.length(run) for run in done if fields.effective_rho(run) > 0}):
        for kind, (sam_averaged, base_length, base_averaged) in _kinds(done, length).items():
            if (sam_averaged or base_averaged) and not set(averages.values()) <= set(runs.columns):
                continue
            pairs = []
            for value, here in by_width.items():
                sam, base = (
                    arms.arrange(
                        [run for run in here if is_sam == (fields.effective_rho(run) > 0) and fields.length(run) == of],
                        ["rho", *tune] if is_sam else tune,
                        [averages[column] if averaged else column for column in (metric, choose_by)],
                        signs[choose_by],
                        f"{width}={value}",
                    )
                    for is_sam, of, averaged in (
                        (True, length, sam_averaged),
                        (False, (length[0], base_length), base_averaged),
                    )
                )
                comparison = arms.Comparison(
                    width=value,
                    num_params=int(min(run["num_params"] for run in here)),
                    base=base,
                    sam=sam,
                    sign=signs[metric],
                    resolution=fields.resolution(here, metric),
                    level=level,
                )
                pair = arms.pair_up(comparison, tune if kind == SAME else None)
                pairs += [pair] if pair else []
            if pairs:
                widths = _tuned(sorted(pairs, key=lambda pair: pair.num_params))
                compared.append(Compared(kind=kind, length=length[1], widths=widths))
    return compared


def _tuned(pairs: Sequence[arms.Comparison]) -> tuple[arms.Comparison, ...]:
    """Leave out the widths at which a single setting of the base was tried, where at others several were.

    Such a width has an untuned gain, often of another study in the same work directory; beside tuned gains it would
    look like a trend with width. Settings that diverged or are not finished count as tried.
    """
    return tuple(pair for pair in pairs if len(pair.base.tried) > 1) or tuple(pairs)


def _kinds(runs: Sequence[dict[str, Any]], length: tuple[str, float]) -> dict[str, tuple[bool, float, bool]]:
    """Map each comparison with SAM runs of a length to whether SAM is averaged, and the length and average of the base.

    A base run of equal compute is longer by the number of gradients that SAM takes per step; where SAM takes one,
    it is no longer than SAM. Where that number differs between settings, the base gets the largest.
    """
    steps = length[1]
    compared = {
        SAME: (False, steps, False),
        TUNED: (False, steps, False),
        AVERAGED: (False, steps, True),
        BOTH_AVERAGED: (True, steps, True),
    }
    sam = [run for run in runs if fields.length(run) == length and fields.effective_rho(run) > 0]
    # A diverged run may have ended before SAM was switched on or off.
    gradients = max((fields.gradients_a_step(run) for run in sam if run["status"] == "finished"), default=2.0)
    longer = fields.equal_compute_length(gradients, steps)
    if longer > steps:  # a table without lengths has no longer runs
        compared[EQUAL_COMPUTE] = (False, longer, False)
        compared[AVERAGED_EQUAL_COMPUTE] = (False, longer, True)
    return {name: compared[name] for name in KINDS if name in compared}
