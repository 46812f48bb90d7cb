"""Comparisons of base and SAM with separately tuned settings at each width, arranged from the runs of a part.

Further comparisons give the base, with separately chosen settings, what SAM's second gradient could have bought:
training at equal compute; and what costs no gradient: the average of its weights.
"""

import dataclasses
import functools
from collections.abc import Sequence
from functools import cached_property
from typing import Any

from flatwide.analysis import arms, fields
from flatwide.analysis.estimates import Scores

SAME = "same settings"
TUNED = "tuned"
EQUAL_COMPUTE = "equal compute"
AVERAGED = "averaged"
AVERAGED_EQUAL_COMPUTE = f"{AVERAGED}, {EQUAL_COMPUTE}"
BOTH_AVERAGED = "both averaged"


@dataclasses.dataclass(frozen=True, eq=False)
class Compared:
    """One kind of comparison of a part at all its widths.

    kind: such as TUNED. length: epochs or steps of SAM. widths: the comparison at each width, the smallest first.
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
    runs: fields.Frame, *, tune: Sequence[str], width: str, metric: str, choose_by: str, level: float = 0.95
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
    by_arm: dict[tuple, list[dict[str, Any]]] = {}
    for run in done:
        by_width.setdefault(run[width], []).append(run)
        by_arm.setdefault((run[width], fields.effective_rho(run) > 0, fields.length(run)), []).append(run)

    @functools.cache
    def arm(value: Any, is_sam: bool, length: tuple[str, float], is_averaged: bool) -> arms.Arm:
        columns = [averages[column] if is_averaged else column for column in (metric, choose_by)]
        runs_of_arm, settings = by_arm.get((value, is_sam, length), []), ["rho", *tune] if is_sam else tune
        return arms.arrange(runs_of_arm, settings, columns, signs[choose_by], f"{width}={value}")

    compared = []
    for length in sorted({length for _, is_sam, length in by_arm if is_sam}):
        for kind, (sam_averaged, base_length, base_averaged) in _kinds(done, length).items():
            if (sam_averaged or base_averaged) and not set(averages.values()) <= set(runs.columns):
                continue
            pairs = []
            for value, here in by_width.items():
                comparison = arms.Comparison(
                    width=value,
                    num_params=int(min(run["num_params"] for run in here)),
                    base=arm(value, False, (length[0], base_length), base_averaged),
                    sam=arm(value, True, length, sam_averaged),
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
    """Leave out the widths at which a single setting of the base was tried, where at others several were."""
    # Such a width has an untuned gain, often of another study in the same work directory; beside tuned gains it would
    # look like a trend with width. Settings that diverged or are not finished count as tried.
    return tuple(pair for pair in pairs if len(pair.base.tried) > 1) or tuple(pairs)


def _kinds(runs: Sequence[dict[str, Any]], length: tuple[str, float]) -> dict[str, tuple[bool, float, bool]]:
    """Map each kind of comparison to whether SAM is averaged, and to the length and average of the base."""
    # Where the number of gradients that SAM takes per step differs between settings, the base gets the largest.
    steps = length[1]
    sam = [run for run in runs if fields.length(run) == length and fields.effective_rho(run) > 0]
    # A diverged run may have ended before SAM was switched on or off.
    gradients = max((fields.gradients_a_step(run) for run in sam if run["status"] == "finished"), default=2.0)
    longer = fields.equal_compute_length(gradients, steps)
    kinds = {
        SAME: (False, steps, False),
        TUNED: (False, steps, False),
        EQUAL_COMPUTE: (False, longer, False),
        AVERAGED: (False, steps, True),
        AVERAGED_EQUAL_COMPUTE: (False, longer, True),
        BOTH_AVERAGED: (True, steps, True),
    }
    # A table without lengths has no longer runs.
    return {kind: asked for kind, asked in kinds.items() if longer > steps or EQUAL_COMPUTE not in kind}
