"""Comparisons of base and SAM with separately tuned settings at each width.

A learning rate that was tuned for one arm biases the comparison. Here the fields named in `tune` are chosen for each
arm separately, like rho: each seed is scored at the cell (rho and settings) that the other seeds choose, in both arms.
Further comparisons give the base, with separately chosen settings, what SAM's second gradient could have bought:
training for as many gradients; and what costs no gradient: the average of its weights.

The intervals are those of `estimates.score`, for the choices of both arms.
"""

from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from flatwide import registry
from flatwide.analysis import arms, domains, fields, table, widths
from flatwide.analysis.estimates import Estimate, Scores

if TYPE_CHECKING:
    import pandas as pd

SAME = "same settings"
TUNED = "tuned"
EQUAL_COMPUTE = "equal compute"
AVERAGED = "averaged"
AVERAGED_EQUAL_COMPUTE = "averaged, equal compute"
BOTH_AVERAGED = "both averaged"

COMPARISONS = (SAME, TUNED, EQUAL_COMPUTE, AVERAGED, AVERAGED_EQUAL_COMPUTE, BOTH_AVERAGED)


class Compared(NamedTuple):
    """One kind of comparison of a part at all its widths.

    values: that distinguish the part. name: one of COMPARISONS. length: epochs or steps of SAM.
    widths: the comparison at each width, the smallest first; gains: their estimates.
    """

    values: dict[str, Any]
    name: str
    length: float
    widths: tuple[arms.Comparison, ...]
    gains: tuple[Estimate, ...]

    @property
    def is_tuned(self) -> bool:
        """Whether several settings of the base were tried."""
        return any(len(comparison.base.tried) > 1 for comparison in self.widths)

    @property
    def scores(self) -> Scores:
        """The scores of all widths."""
        return arms.scores(self.widths)


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
      equal compute: the same, over base runs longer by the number of gradients that SAM takes per step, such as two;
      averaged, and averaged, equal compute: the same over the base's averaged weights (`config.weight_average`);
      both averaged: averaged SAM over the averaged base.
      A width at which a single setting of the base was tried is left out where at others several were.
    Raises: ValueError if a column is missing.
    """
    import pandas as pd

    all_comparisons = comparisons(runs, tune=tune, width=width, metric=metric, choose_by=choose_by)
    return pd.DataFrame([row for compared in all_comparisons for row in rows(compared, width=width)])


def equal_compute_gain(
    runs: "pd.DataFrame", *, width: str = "num_params", metric: str = "test_metric", choose_by: str | None = None
) -> "pd.DataFrame":
    """Compute the gain of SAM over base runs with as many gradients, at every width that has such runs.

    These are base runs of twice its length where SAM takes two gradients a step, and of 1.1 times its length where SAM
    is active in a tenth of the steps.

    Args, Returns: as for `tuned_gain` without tuned fields; no rows if there are no such runs.
    """
    import pandas as pd

    options = {"width": width, "metric": metric, "choose_by": choose_by}
    compared = comparisons(runs, tune=(), names=[EQUAL_COMPUTE], **options)
    return pd.DataFrame([row for each in compared for row in rows(each, width=width)])


def rows(compared: Compared, *, width: str) -> list[dict[str, Any]]:
    """Return the rows of `tuned_gain` for one kind of comparison."""
    rows_of_widths = []
    for comparison, gain in zip(compared.widths, compared.gains, strict=True):
        at = comparison.chosen
        base_at, sam_at = comparison.base.settings[at[0]], comparison.sam.settings[at[1]]
        base, sam = arms.means(comparison)
        rows_of_widths.append(
            compared.values
            | {
                "comparison": compared.name,
                "length": compared.length,
                width: comparison.width,
                "num_params": comparison.num_params,
                "base": base,
                "sam": sam,
                "base_choice": arms.settings_text(base_at),
                "sam_choice": arms.settings_text(sam_at),
                "base_at_edge": " ".join(comparison.base.edges(base_at)),
                "sam_at_edge": " ".join(comparison.sam.edges(sam_at)),
                "num_base_cells": len(comparison.base.settings),
                "num_sam_cells": comparison.num_sam,
                "tuned_gain": gain.value,
                "tuned_standard_error": gain.error,
                "tuned_low": gain.low,
                "tuned_high": gain.high,
                "num_seeds": gain.num_seeds,
            }
        )
    return rows_of_widths


def comparisons(
    runs: "pd.DataFrame",
    *,
    tune: Sequence[str],
    width: str,
    metric: str,
    choose_by: str | None,
    names: Collection[str] = COMPARISONS,
) -> list[Compared]:
    """Compute the comparisons of every part that has the runs for them.

    Args:
      names: of the comparisons, from COMPARISONS.
      runs, tune, width, metric, choose_by: as for `tuned_gain`.
    Raises: as `tuned_gain`.
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
        all_comparisons += _of_part(part, tune=tune, width=width, metric=metric, choose_by=chosen_by, names=names)
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


def _of_part(
    part: table.Part, *, tune: Sequence[str], width: str, metric: str, choose_by: str, names: Collection[str]
) -> list[Compared]:
    averages = {metric: f"{metric}_average", choose_by: f"{choose_by}_average"}
    columns = [width, "num_params", "seed", "higher_is_better", *tune, *fields.LENGTHS, *averages, *averages.values()]
    runs = fields.done(part.runs, [*columns, *fields.SHAPES, "num_gradients", "steps", "metric_name", "num_test_items"])
    higher = {run["higher_is_better"] for run in runs} - {None}
    signs = {name: -1 if name.endswith("loss") or higher == {False} else 1 for name in averages}
    comparisons_found = []
    for length in sorted({fields.length(run) for run in runs if fields.effective_rho(run) > 0}):
        compared = _compared(runs, length)
        for name in (name for name in compared if name in names):
            sam_averaged, base_length, base_averaged = compared[name]
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
                    arms.Comparison(
                        width=value,
                        num_params=int(min(sizes)),
                        base=base,
                        sam=sam,
                        sign=signs[metric],
                        resolution=fields.resolution(here, metric),
                    ),
                    tune if name == SAME else None,
                )
                pairs += [pair] if pair else []
            pairs = _tuned(sorted(pairs, key=lambda pair: pair.num_params))
            if pairs:
                gains = tuple(arms.estimate(pair) for pair in pairs)
                comparisons_found.append(
                    Compared(values=part.values, name=name, length=length[1], widths=pairs, gains=gains)
                )
    return comparisons_found


def _tuned(pairs: Sequence[arms.Comparison]) -> tuple[arms.Comparison, ...]:
    """Leave out the widths at which a single setting of the base was tried, where at others several were.

    Such a width has an untuned gain, often of another study in the same work directory; beside tuned gains it would
    look like a trend with width. Settings that diverged or are not finished count as tried.
    """
    return tuple(pair for pair in pairs if len(pair.base.tried) > 1) or tuple(pairs)


def _compared(runs: Sequence[dict[str, Any]], length: tuple[str, float]) -> dict[str, tuple[bool, float, bool]]:
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
    return {name: compared[name] for name in COMPARISONS if name in compared}
