"""Comparisons of base and SAM with separately tuned settings at each width.

A learning rate that was tuned for one arm biases the comparison. Here the fields named in `tune` are chosen for each
arm separately, like rho: each seed is scored at the cell (rho and settings) that the other seeds choose, in both arms.
Further comparisons give the base, with separately chosen settings, what SAM's second gradient could have bought:
training for as many gradients; and what costs no gradient: the average of its weights.

The length of an interval is simulated for the number of seeds and of cells of both arms (`selection.critical_value`).
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from flatwide import registry
from flatwide.analysis import arms, best_sets, domains, fields, intervals, noise, selection, table, trend, widths

if TYPE_CHECKING:
    import pandas as pd

SAME = "same settings"
TUNED = "tuned"
TWICE = "twice as long"
EQUAL_GRADIENTS = "as many gradients"  # where SAM does not take two a step
AVERAGED = "averaged"
AVERAGED_TWICE = "averaged, twice as long"
AVERAGED_EQUAL_GRADIENTS = "averaged, as many gradients"
BOTH_AVERAGED = "both averaged"

COMPARISONS = (
    SAME,
    TUNED,
    TWICE,
    EQUAL_GRADIENTS,
    AVERAGED,
    AVERAGED_TWICE,
    AVERAGED_EQUAL_GRADIENTS,
    BOTH_AVERAGED,
)


class Gain(NamedTuple):
    """The gain of SAM at one width with both arms tuned separately; NaN below two seeds.

    scores: [seeds], each at the cells that the other seeds choose. base, sam: means of the same scores.
    base_at, sam_at: the cells that all seeds choose together.
    """

    scores: np.ndarray
    base: float
    sam: float
    gain: float
    standard_error: float
    low: float
    high: float
    base_at: Mapping[str, Any]
    sam_at: Mapping[str, Any]

    @property
    def interval(self) -> intervals.Mean:
        """The gain with its interval."""
        return intervals.Mean(self.gain, self.standard_error, self.low, self.high)


class Comparison(NamedTuple):
    """One comparison of a part at all its widths.

    values: that distinguish the part. name: one of COMPARISONS.
    length: epochs or steps of SAM. pairs, gains: one for each width, the smallest first.
    """

    values: dict[str, Any]
    name: str
    length: float
    pairs: tuple[arms.Pair, ...]
    gains: tuple[Gain, ...]

    @property
    def is_tuned(self) -> bool:
        """Whether several settings of the base were tried."""
        return any(len(pair.base.tried) > 1 for pair in self.pairs)

    @property
    def scores(self) -> trend.Scores:
        """The gains as input for a fit against the size."""
        seeds = sorted(set.intersection(*(set(pair.base.seeds) for pair in self.pairs)))
        rows = [
            [gain.scores[pair.base.seeds.index(seed)] for seed in seeds]
            for pair, gain in zip(self.pairs, self.gains, strict=True)
        ]
        num_sam = max(pair.num_sam for pair in self.pairs)
        num_base = max(len(pair.base.settings) for pair in self.pairs)
        stretch = 1.0
        if len(seeds) > 1:
            stretch = selection.stretch_of_scores(
                len(seeds), num_sam, num_base=num_base, ratio=variance_ratio(self.pairs)
            )
        return trend.Scores(
            num_params=tuple(pair.num_params for pair in self.pairs),
            seeds=tuple(seeds),
            gains=np.array(rows).reshape(len(self.pairs), len(seeds)),
            weights=_weights(self.pairs, len(seeds)),
            stretch=stretch,
        )


def tuned_gain(
    runs: "pd.DataFrame",
    *,
    tune: Sequence[str],
    width: str = "num_params",
    metric: str = "test_metric",
    choose_by: str | None = None,
) -> "pd.DataFrame":
    """Compute the gain of SAM at every width with settings tuned separately for base and SAM.

    Args:
      tune: fields that are chosen for each arm, such as `learning_rate`; for SAM, rho is chosen too.
      runs, width, metric, choose_by: as for `gain.gain_by_width`, but the runs may differ in other columns.
    Returns: one row for each part, comparison and width: the columns that distinguish parts, `comparison`, `length` (of
      SAM, in epochs or steps), the width, `num_params`, `base` and `sam` (means of the scores), `base_choice` and
      `sam_choice` (of all seeds together, as text), `base_at_edge` and `sam_at_edge` (fields in which that choice is
      the smallest or largest value tried, so that a better one may lie beyond), `num_base_cells` and `num_sam_cells`,
      `tuned_gain`, `tuned_standard_error`, `tuned_low`, `tuned_high` (95 %) and `num_seeds`. The comparisons:
      same settings: SAM at the settings chosen for the base, so that only its rho is chosen: the gain without tuning;
      tuned: each arm at its best settings;
      twice as long: the same, over base runs of twice SAM's length, that is, with as many gradients; where SAM does not
        take two gradients a step, as many gradients: over base runs longer by the number that it takes;
      averaged, and averaged, twice as long (as many gradients): the same over the base's averaged weights
        (`config.weight_average`);
      both averaged: averaged SAM over the averaged base.
      A width at which a single setting of the base was tried is left out where at others several were.
    Raises: ValueError if a column is missing.
    """
    import pandas as pd

    all_comparisons = comparisons(runs, tune=tune, width=width, metric=metric, choose_by=choose_by)
    return pd.DataFrame([row for comparison in all_comparisons for row in rows(comparison, width=width)])


def rows(comparison: Comparison, *, width: str) -> list[dict[str, Any]]:
    """Return the rows of `tuned_gain` for one comparison."""
    return [
        comparison.values
        | {
            "comparison": comparison.name,
            "length": comparison.length,
            width: pair.width,
            "num_params": pair.num_params,
            "base": gain.base,
            "sam": gain.sam,
            "base_choice": arms.settings_text(gain.base_at),
            "sam_choice": arms.settings_text(gain.sam_at),
            "base_at_edge": " ".join(pair.base.edges(gain.base_at)),
            "sam_at_edge": " ".join(pair.sam.edges(gain.sam_at)),
            "num_base_cells": len(pair.base.settings),
            "num_sam_cells": pair.num_sam,
            "tuned_gain": gain.gain,
            "tuned_standard_error": gain.standard_error,
            "tuned_low": gain.low,
            "tuned_high": gain.high,
            "num_seeds": len(pair.base.seeds),
        }
        for pair, gain in zip(comparison.pairs, comparison.gains, strict=True)
    ]


def comparisons(
    runs: "pd.DataFrame", *, tune: Sequence[str], width: str, metric: str, choose_by: str | None
) -> list[Comparison]:
    """Compute every comparison of every part that has the runs for it.

    Args, Raises: as for `tuned_gain`.
    """
    if isinstance(tune, str):
        raise ValueError(f"tune={tune!r}: expected a list of fields, such as [{tune!r}].")
    for argument, name in (("metric", metric), ("choose_by", choose_by or metric)):
        if name not in runs.columns:
            raise ValueError(registry.unknown(argument, name, runs.columns))
    for name in (width, "num_params", "rho", "seed", "status", "higher_is_better", *tune):
        if name not in runs.columns:
            raise ValueError(registry.unknown("column", name, runs.columns))
    all_comparisons = []
    for part in parts(runs, tune=tune, width=width):
        chosen_by = widths.choice_column(part.runs, metric=metric) if choose_by is None else choose_by
        all_comparisons += _of_part(part, tune=tune, width=width, metric=metric, choose_by=chosen_by)
    return all_comparisons


def parts(runs: "pd.DataFrame", *, tune: Sequence[str], width: str = "num_params") -> list[table.Part]:
    """Split a table into parts as `table.parts` does, but not by tuned fields or length."""
    import pandas as pd

    parts_found = []
    for domain in domains.domains(runs):
        names = [name for name in fields.varying(domain.runs, width=width) if name not in (*tune, *fields.LENGTHS)]
        keyed = [(table.key_of(row, names), row["row_index"]) for row in fields.done(domain.runs, names)]
        whole = list(dict.fromkeys(key for key, _ in keyed if ... not in key))
        for key in sorted(whole, key=lambda values: [(str(type(value)), value) for value in values]):
            indices = [index for values, index in keyed if table.serves(values, key)]
            values = domain.values | dict(zip(names, key, strict=True))
            parts_found.append(table.Part(values, pd.DataFrame(domain.runs.iloc[indices])))
    return parts_found


def _of_part(part: table.Part, *, tune: Sequence[str], width: str, metric: str, choose_by: str) -> list[Comparison]:
    averages = {metric: f"{metric}_average", choose_by: f"{choose_by}_average"}
    names = [width, "num_params", "seed", "higher_is_better", *tune, *fields.LENGTHS, *averages, *averages.values()]
    runs = fields.done(part.runs, [*names, *fields.SHAPES, "num_gradients", "steps"])
    higher = {run["higher_is_better"] for run in runs} - {None}
    signs = {name: -1 if name.endswith("loss") or higher == {False} else 1 for name in averages}
    comparisons_found = []
    for length in sorted({fields.length(run) for run in runs if fields.effective_rho(run) > 0}):
        for name, (sam_averaged, base_length, base_averaged) in _compared(runs, length).items():
            pairs = []
            for value in dict.fromkeys(run[width] for run in runs):
                here = [run for run in runs if run[width] == value]
                sizes = {run["num_params"] for run in here}
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
                pair = arms.pair_up(
                    arms.Pair(width=value, num_params=int(min(sizes)), base=base, sam=sam, sign=signs[metric]),
                    tune if name == SAME else None,
                )
                pairs += [pair] if pair else []
            pairs = _tuned(sorted(pairs, key=lambda pair: pair.num_params))
            if pairs:
                gains = compare_all(pairs)
                comparisons_found.append(
                    Comparison(values=part.values, name=name, length=length[1], pairs=pairs, gains=gains)
                )
    return comparisons_found


def _tuned(pairs: Sequence[arms.Pair]) -> tuple[arms.Pair, ...]:
    """Leave out the widths at which a single setting of the base was tried, where at others several were.

    Such a width has an untuned gain, often of another study in the same work directory; beside tuned gains it would
    look like a trend with width. Settings that diverged or are not finished count as tried.
    """
    return tuple(pair for pair in pairs if len(pair.base.tried) > 1) or tuple(pairs)


def _compared(runs: Sequence[dict[str, Any]], length: tuple[str, float]) -> dict[str, tuple[bool, float, bool]]:
    """Map each comparison with SAM runs of a length to whether SAM is averaged, and the length and average of the base.

    A base run of as many gradients is longer by the number of gradients that SAM takes per step; where SAM takes one,
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
    longer, is_twice = fields.length_of_as_many(gradients, steps), fields.is_two(gradients)
    if longer > steps:  # a table without lengths has no longer runs
        compared[TWICE if is_twice else EQUAL_GRADIENTS] = (False, longer, False)
        compared[AVERAGED_TWICE if is_twice else AVERAGED_EQUAL_GRADIENTS] = (False, longer, True)
    return {name: compared[name] for name in COMPARISONS if name in compared}


def compare_all(pairs: Sequence[arms.Pair], *, level: float = 0.95) -> tuple[Gain, ...]:
    """Compute the gain of every width, with the ratio of base to SAM noise estimated from all of them."""
    ratio = variance_ratio(pairs)
    return tuple(compare(pair, ratio=ratio, level=level) for pair in pairs)


def compare(pair: arms.Pair, *, ratio: float, level: float = 0.95) -> Gain:
    """Compute the gain of a width, each seed at the cells that the other seeds choose.

    Args:
      ratio: variance of the base over that of SAM.
    Equation: b(i), k(i) are the cells of base and SAM with the best mean over all seeds but i, b and k over all;
      d[i] = SAM[i, k(i)] - base[i, b(i)], e[i] = SAM[i, k] - base[i, b]; gain = mean d,
      standard_error = max(s(d), s(e)) / sqrt(n), the interval is gain -/+ c standard_error with c that of
      `selection.critical_value` for n seeds and the cells of both arms.
    """
    base_at = arms.chosen(pair.base.choices)
    sam_at = arms.chosen(pair.sam.choices, None if pair.same is None else pair.same[base_at])
    n = len(pair.base.seeds)
    each = np.arange(n)
    base, sam = pair.base.values[each, base_at[:-1]], pair.sam.values[each, sam_at[:-1]]
    together = pair.sam.values[:, sam_at[-1]] - pair.base.values[:, base_at[-1]]
    scores = pair.sign * (sam - base)
    limit = selection.critical_value(n, pair.num_sam, num_base=len(pair.base.settings), ratio=ratio, level=level)
    estimate = selection.interval(scores, together, limit=limit)
    return Gain(
        scores=scores,
        base=float(base.mean()),
        sam=float(sam.mean()),
        gain=estimate.mean,
        standard_error=estimate.standard_error,
        low=estimate.low,
        high=estimate.high,
        base_at=pair.base.settings[base_at[-1]],
        sam_at=pair.sam.settings[sam_at[-1]],
    )


def variance_ratio(pairs: Sequence[arms.Pair]) -> float:
    """Estimate the ratio of the variance of the base to that of SAM, from all widths together.

    Each is the residual variance of its runs after removing the means of seeds and cells, over the cells whose noise is
    like that of the best (`noise.informative`). Where the base has one cell, its noise is only in what its seeds share
    with those of SAM, and the ratio is that of `noise.variance_ratio`.
    """
    ratios, residuals = [], []
    for pair in pairs:
        if len(pair.base.settings) == 1:
            gains = (pair.sam.values - pair.base.values)[None]
            alone = noise.anova(gains, best_sets.best_set(pair.sam.choices[None]))
            if alone.degrees[0] > 2 and alone.residual[0] > 0:
                ratios.append(float(noise.variance_ratio(alone)))
                residuals.append(float(alone.residual[0]))
            continue
        base, sam = _anova(pair.base), _anova(pair.sam)
        if sam.degrees > 2 and sam.residual > 0 and base.degrees > 0:
            ratios.append(float(base.residual / sam.residual * (sam.degrees - 2) / sam.degrees))
            residuals.append(sam.residual)
    if not ratios:
        return 1.0
    is_kept = noise.unsaturated(np.array(residuals), np.ones(len(residuals), bool))
    return float(np.mean(np.array(ratios)[is_kept]))


class _Residual(NamedTuple):
    residual: float
    degrees: float


def _anova(arm: arms.Arm) -> _Residual:
    if len(arm.settings) == 1:
        return _Residual(0.0, 0.0)
    choices = arm.choices[None]
    analysis = noise.anova(arm.values[None], noise.informative(choices, best_sets.best_set(choices)))
    return _Residual(float(analysis.residual[0]), float(analysis.degrees[0]))


def _weights(pairs: Sequence[arms.Pair], num_seeds: int) -> np.ndarray:
    """Compute the weight of each width in a fit against its size from the residuals of its SAM runs: [widths]."""
    residuals = [_anova(pair.sam) for pair in pairs]
    residual, degrees = (np.array(values) for values in zip(*residuals, strict=True))
    ones = np.ones(len(residuals))
    return noise.weights(noise.Anova(residual=residual, seeds=ones, degrees=degrees, num_rhos=ones), num_seeds)
