"""Transfer of the settings of the narrowest network to wider ones, as a regret with an interval.

muP promises that a learning rate tuned at a small width transfers, and muP with layerwise perturbations that rho does
too. This is measured here for every part of a table: the loss of a width under the settings chosen at the smallest one.
"""

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np

from flatwide.analysis import arms, comparisons, estimates, table
from flatwide.analysis.comparisons import Compared
from flatwide.analysis.estimates import NONE, Estimate

TRANSFERS, FAILS, OPEN, SAME_SETTINGS = "transfers", "does not transfer", "not decided", "the same settings"
SHARE = 0.25  # of the gain of SAM at the width: the largest loss for which settings count as transferring


class Regret(NamedTuple):
    """The loss of one arm at a width under the settings of the smallest width.

    carried, own: the settings that the smallest width, and this one, choose on all seeds.
    regret: in the unit of the metric, positive where the carried settings are worse, with its 95 % interval; NaN
      without an interval where every fold of the seeds chooses the same settings at both widths, and where a run at the
      carried settings of some fold is missing or has diverged.
    margin: a quarter of the gain of SAM at this width, both arms tuned; the share was fixed in advance.
    decision: TRANSFERS where the whole interval lies below the margin, FAILS where it lies above, or where a run at the
      carried settings has diverged, SAME_SETTINGS where the settings are the same, else OPEN.
    """

    num_params: int
    carried: Mapping[str, Any]
    own: Mapping[str, Any]
    regret: Estimate
    margin: float
    decision: str


def regrets(compared: Compared, *, is_sam: bool = True) -> list[Regret]:
    """Compute the regret of every width but the smallest.

    Args:
      compared: `comparisons.TUNED` of a part. is_sam: of SAM; else of the base.
    Equation: a(i), b(i) are the settings that all seeds but i choose at the smallest width and at this one; d[i] = the
      metric at b(i) minus that at a(i), for seed i; regret = mean d, with the interval of `estimates.score` for the
      settings of this width against one.
    """
    first, *others = compared.widths
    all_regrets = []
    for pair in others:
        source, here = (arms.sam if is_sam else arms.base for arms in (first, pair))
        seeds = [seed for seed in here.seeds if seed in source.seeds]
        if len(seeds) >= 2:
            all_regrets.append(_regret(pair, source.at(seeds), here.at(seeds), max(pair.gain.value, 0.0) * SHARE))
    return all_regrets


def _regret(pair: arms.Comparison, source: arms.Arm, here: arms.Arm, margin: float) -> Regret:
    """Compute the regret of a width; both arms have the same seeds."""
    n = len(here.seeds)
    folds = np.vstack([estimates.leave_one_out(n), np.ones(n)])
    at_source, at_here = (estimates.choose(arm.choices, folds) for arm in (source, here))
    wanted = [source.settings[index] for index in at_source]
    facts = {"num_params": pair.num_params, "carried": wanted[-1], "own": here.settings[at_here[-1]], "margin": margin}
    if any(setting not in here.settings for setting in wanted):  # not a candidate here: a run is missing or diverged
        return Regret(**facts, regret=NONE, decision=FAILS if wanted[-1] in here.diverged else OPEN)
    at = np.array([here.settings.index(setting) for setting in wanted])
    if np.array_equal(at, at_here):
        return Regret(**facts, regret=NONE, decision=SAME_SETTINGS)
    carried = here.values[np.arange(n), at[:-1]][:, None]
    there = arms.Arm(settings=({},), seeds=here.seeds, values=carried, choices=carried)
    regret = dataclasses.replace(pair, base=there, sam=here, same=None).gain
    decision = TRANSFERS if regret.high < margin else FAILS if regret.low > margin else OPEN
    return Regret(**facts, regret=regret, decision=decision)


@table.Rows
@table.for_table
def regret_table(split: table.Split) -> Iterator[dict[str, Any]]:
    """Compute the regret of every part, arm and width of a table split with tuned fields.

    Returns: one row for each part, arm ("SAM" or "base") and width but the smallest: the columns that distinguish
      parts, `arm`, `num_params`, `carried`, `own` (settings as text), `regret`, `regret_low`, `regret_high`, `margin`,
      `decision`.
    """
    for part in split.tuned:
        yield from rows(part)


def rows(part: table.Part) -> Iterator[dict[str, Any]]:
    """Yield the rows of `regret_table` for one part."""
    for compared in part.comparisons:
        for arm in ("SAM", "base") if compared.kind == comparisons.TUNED else ():
            for regret in regrets(compared, is_sam=arm == "SAM"):
                yield part.values | {
                    "arm": arm,
                    "num_params": regret.num_params,
                    "carried": arms.settings_text(regret.carried),
                    "own": arms.settings_text(regret.own),
                    "regret": regret.regret.value,
                    "regret_low": regret.regret.low,
                    "regret_high": regret.regret.high,
                    "margin": regret.margin,
                    "decision": regret.decision,
                }
