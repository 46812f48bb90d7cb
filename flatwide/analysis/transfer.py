"""Transfer of the settings of the narrowest network to wider ones, as a regret with an interval.

muP promises that a learning rate tuned at a small width transfers, and muP with layerwise perturbations that rho does
too. This is measured here for every part of a table: the loss of a width under the settings chosen at the smallest one.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from flatwide.analysis import arms, domains, estimates, trend, tuned, verdict
from flatwide.analysis.estimates import NONE, Estimate

if TYPE_CHECKING:
    import pandas as pd

TRANSFERS, FAILS, OPEN, SAME_CELL = "transfers", "does not transfer", "not decided", "the same settings"
SHARE = 0.25  # of the gain of SAM at the width: the largest loss for which settings count as transferring


class Regret(NamedTuple):
    """The loss of one arm at a width under the settings of the smallest width.

    carried, own: the settings that the smallest width, and this one, choose on all seeds.
    regret: in the unit of the metric, positive where the carried settings are worse, with its 95 % interval; NaN
      without an interval where every fold of the seeds chooses the same settings at both widths, and where a run at the
      carried settings of some fold is missing or has diverged.
    margin: a quarter of the gain of SAM at this width, both arms tuned; the share was fixed in advance.
    decision: TRANSFERS where the whole interval lies below the margin, FAILS where it lies above, or where a run at the
      carried settings has diverged, SAME_CELL where the settings are the same, else OPEN.
    """

    num_params: int
    carried: Mapping[str, Any]
    own: Mapping[str, Any]
    regret: Estimate
    margin: float
    decision: str


def regrets(compared: tuned.Compared, *, of_sam: bool = True) -> list[Regret]:
    """Compute the regret of every width but the smallest.

    Args:
      compared: `tuned.TUNED` of a part, from `tuned.comparisons`.
      of_sam: of SAM; else of the base.
    Equation: a(i), b(i) are the cells that all seeds but i choose at the smallest width and at this one; d[i] = the
      metric at b(i) minus that at a(i), for seed i; regret = mean d, with the interval of
      `estimates.score` for the settings of this width against one.
    """
    first, *others = compared.widths
    all_regrets = []
    for pair, gain_there in zip(others, compared.gains[1:], strict=True):
        source, here = (arms.sam if of_sam else arms.base for arms in (first, pair))
        seeds = [seed for seed in here.seeds if seed in source.seeds]
        if len(seeds) >= 2:
            all_regrets.append(_regret(pair, source.at(seeds), here.at(seeds), max(gain_there.value, 0.0) * SHARE))
    return all_regrets


def _regret(pair: arms.Comparison, source: arms.Arm, here: arms.Arm, margin: float) -> Regret:
    """Compute the regret of a width; both arms have the same seeds."""
    n = len(here.seeds)
    folds = np.vstack([estimates.leave_one_out(n), np.ones(n)])
    chosen, own_cells = (estimates.choose(arm.choices, folds) for arm in (source, here))
    settings = [dict(cell) for cell in here.settings]
    facts = {
        "num_params": pair.num_params,
        "carried": source.settings[chosen[-1]],
        "own": here.settings[own_cells[-1]],
        "margin": margin,
    }
    wanted = [dict(source.settings[cell]) for cell in chosen]
    if any(cell not in settings for cell in wanted):  # not a candidate here: a run has diverged or is missing
        has_diverged = wanted[-1] in [dict(cell) for cell in here.diverged]
        return Regret(**facts, regret=NONE, decision=FAILS if has_diverged else OPEN)
    at = np.array([settings.index(cell) for cell in wanted])
    if np.array_equal(at, own_cells):
        return Regret(**facts, regret=NONE, decision=SAME_CELL)
    carried = here.values[np.arange(n), at[:-1]][:, None]
    there = arms.Arm(settings=({},), seeds=here.seeds, values=carried, choices=carried)
    regret = arms.estimate(pair._replace(base=there, sam=here, same=None))
    decision = TRANSFERS if regret.high < margin else FAILS if regret.low > margin else OPEN
    return Regret(**facts, regret=regret, decision=decision)


def regret_table(
    runs: "pd.DataFrame", *, tune: Sequence[str], metric: str = "test_metric", choose_by: str | None = None
) -> "pd.DataFrame":
    """Compute the regret of every part, arm and width.

    Args: as for `tuned.tuned_gain`.
    Returns: one row for each part, arm ("SAM" or "base") and width but the smallest: the columns that distinguish
      parts, `arm`, `num_params`, `carried`, `own` (settings as text), `regret`, `regret_low`, `regret_high`, `margin`,
      `decision`.
    """
    import pandas as pd

    rows = []
    options = {"width": "num_params", "metric": metric, "choose_by": choose_by}
    for comparison in tuned.comparisons(runs, tune=tune, names=[tuned.TUNED], **options):
        for arm in ("SAM", "base"):
            rows += [
                comparison.values
                | {
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
                for regret in regrets(comparison, of_sam=arm == "SAM")
            ]
    return pd.DataFrame(rows)


class Curve(NamedTuple):
    """The gain by width of one part and comparison, with its trend."""

    values: Mapping[str, Any]
    comparison: tuned.Compared
    slope: Estimate
    verdict: verdict.Verdict

    @property
    def name(self) -> str:
        """Return the name of the curve: its part and comparison."""
        return ", ".join(filter(None, [domains.name(dict(self.values)), self.comparison.name]))


def curves(
    runs: "pd.DataFrame",
    *,
    tune: Sequence[str],
    names: Sequence[str] = (tuned.SAME, tuned.TUNED),
    metric: str = "test_metric",
    choose_by: str | None = None,
) -> list[Curve]:
    """Fit the gain of every part and comparison against the size.

    Args:
      names: of the comparisons, such as `tuned.SAME` and `tuned.TUNED`.
      runs, tune, metric, choose_by: as for `tuned.tuned_gain`.
    Returns: one curve for each; curves with too few widths have NaN where a value is undefined.
    """
    options = {"width": "num_params", "metric": metric, "choose_by": choose_by}
    shown = tuned.comparisons(runs, tune=tune, names=names, **options)
    scored = [comparison.scores for comparison in shown]
    return [
        Curve(
            values=comparison.values,
            comparison=comparison,
            slope=trend.slope(scores),
            verdict=verdict.verdict(scores),
        )
        for comparison, scores in zip(shown, scored, strict=True)
    ]
