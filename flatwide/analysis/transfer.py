"""Whether the settings that suit the narrowest network serve the wider ones: regret, with an interval.

muP promises that a learning rate tuned at a small width carries over, and muP with layerwise perturbations that rho
does. Here it is measured, for every part of a table: what a width loses by the settings that the smallest one chooses.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from flatwide.analysis import domains, intervals, selection, trend, tuned, verdict

if TYPE_CHECKING:
    import pandas as pd

TRANSFERS, FAILS, OPEN, SAME_CELL = "transfers", "does not transfer", "not decided", "the same settings"
_SHARE = 0.25  # of the gain of SAM at the width: the most that may be lost where settings are said to transfer


class Regret(NamedTuple):
    """What one arm loses at a width by the settings of the smallest width.

    carried, own: the settings that the smallest width, and this one, choose by all seeds.
    regret: in the metric's unit, positive where the carried settings are worse, with its 95 % interval; NaN without an
      interval where every fold of the seeds chooses the same settings at both widths, and where a run at the carried
      settings of some fold is missing or has diverged.
    margin: a quarter of the gain of SAM at this width, both arms tuned; the share was fixed beforehand.
    decision: TRANSFERS where the whole interval lies below the margin, FAILS where it lies above, or where a run at the
      carried settings has diverged, SAME_CELL where the settings are the same, else OPEN.
    """

    num_params: int
    carried: Mapping[str, Any]
    own: Mapping[str, Any]
    regret: intervals.Mean
    margin: float
    decision: str


def regrets(comparison: tuned.Comparison, *, of_sam: bool = True) -> list[Regret]:
    """Compute the regret of every width but the smallest.

    Args:
      comparison: `tuned.TUNED` of a part, from `tuned.comparisons`.
      of_sam: of SAM; else of the base.
    Equation: a(i), b(i) are the cells that the seeds but i choose at the smallest width and at this one; d[i] = the
      metric at b(i) less that at a(i), for seed i; regret = mean d, with c standard errors on either side, c as in
      `selection.critical_value` for the cells of this width against one, and the larger one of the spread of d and of
      the spread at the cells that all seeds choose.
    """
    first, *others = comparison.pairs
    found = []
    for pair, gained in zip(others, comparison.gains[1:], strict=True):
        source, here = (one.sam if of_sam else one.base for one in (first, pair))
        seeds = [seed for seed in here.seeds if seed in source.seeds]
        if len(seeds) >= 2:
            found.append(_regret(pair, source.at(seeds), here.at(seeds), max(gained.gain, 0.0) * _SHARE))
    return found


def _regret(pair: tuned.Pair, source: tuned.Arm, here: tuned.Arm, margin: float) -> Regret:
    """Compute the regret of one width; both arms have the same seeds."""
    chosen, own = tuned.chosen(source.choices), tuned.chosen(here.choices)
    settings = [dict(cell) for cell in here.settings]
    known = {
        "num_params": pair.num_params,
        "carried": source.settings[chosen[-1]],
        "own": here.settings[own[-1]],
        "margin": margin,
    }
    wanted = [dict(source.settings[cell]) for cell in chosen]
    if any(cell not in settings for cell in wanted):  # it may not be chosen here: a run has diverged or is missing
        has_diverged = wanted[-1] in [dict(cell) for cell in here.diverged]
        return Regret(**known, regret=intervals.NONE, decision=FAILS if has_diverged else OPEN)
    at = np.array([settings.index(cell) for cell in wanted])
    if np.array_equal(at, own):
        return Regret(**known, regret=intervals.NONE, decision=SAME_CELL)
    n = len(here.seeds)
    each = np.arange(n)
    scores = pair.sign * (here.values[each, own[:-1]] - here.values[each, at[:-1]])
    together = pair.sign * (here.values[:, own[-1]] - here.values[:, at[-1]])
    regret = selection.interval(scores, together, limit=selection.critical_value(n, len(settings), ratio=1.0))
    decision = TRANSFERS if regret.high < margin else FAILS if regret.low > margin else OPEN
    return Regret(**known, regret=regret, decision=decision)


def regret_table(
    runs: "pd.DataFrame", *, tune: Sequence[str], metric: str = "test_metric", choose_by: str | None = None
) -> "pd.DataFrame":
    """Compute the regret of every part, arm and width.

    Args: as for `tuned.tuned_gain`.
    Returns: one row a part, arm ("SAM" or "base") and width but the smallest: the columns that tell parts apart, `arm`,
      `num_params`, `carried`, `own` (settings as text), `regret`, `regret_low`, `regret_high`, `margin`, `decision`.
    """
    import pandas as pd

    rows = []
    for one in tuned.comparisons(runs, tune=tune, width="num_params", metric=metric, choose_by=choose_by):
        for arm in ("SAM", "base") if one.name == tuned.TUNED else ():
            rows += [
                one.values
                | {
                    "arm": arm,
                    "num_params": found.num_params,
                    "carried": tuned.settings_text(found.carried),
                    "own": tuned.settings_text(found.own),
                    "regret": found.regret.mean,
                    "regret_low": found.regret.low,
                    "regret_high": found.regret.high,
                    "margin": found.margin,
                    "decision": found.decision,
                }
                for found in regrets(one, of_sam=arm == "SAM")
            ]
    return pd.DataFrame(rows)


class Curve(NamedTuple):
    """The gain by width of one part and comparison, with the trend by weights that all curves share."""

    values: Mapping[str, Any]
    comparison: tuned.Comparison
    slope: trend.Trend
    verdict: verdict.Verdict

    @property
    def name(self) -> str:
        """Name the curve by its part and comparison."""
        return ", ".join(filter(None, [domains.name(dict(self.values)), self.comparison.name]))


def curves(
    runs: "pd.DataFrame",
    *,
    tune: Sequence[str],
    names: Sequence[str] = (tuned.SAME, tuned.TUNED),
    metric: str = "test_metric",
    choose_by: str | None = None,
) -> list[Curve]:
    """Fit the gain of every part and comparison against the size, with one weight a width for all of them.

    Args:
      names: of the comparisons, such as `tuned.SAME` and `tuned.TUNED`.
      runs, tune, metric, choose_by: as for `tuned.tuned_gain`.
    Returns: a curve for each; those of fewer widths than the others have NaN where there is nothing to tell it by.
    """
    every = tuned.comparisons(runs, tune=tune, width="num_params", metric=metric, choose_by=choose_by)
    shown = [one for one in every if one.name in names]
    scored = [one.scores for one in shown]
    shared = trend.shared_weights(
        [dict(zip(found.num_params, found.weights.tolist(), strict=True)) for found in scored]
    )
    fitted = []
    for one, found in zip(shown, scored, strict=True):
        alike = found._replace(weights=np.array([shared[size] for size in found.num_params]))
        fitted.append(
            Curve(values=one.values, comparison=one, slope=trend.of_scores(alike), verdict=verdict.verdict(alike))
        )
    return fitted
