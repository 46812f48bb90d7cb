"""Gains and slopes of a study from its committed tables, for docs/results.md and docs/claims.md.

Not a program: `results.py` and `claims.py` write the pages.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from study_kinds import Study

from flatwide.analysis import intervals, selection, trend, tuned

TABLES = Path(__file__).parents[1] / "docs" / "studies"


class Width(NamedTuple):
    """The gain at one width: corrected for the choice of rho, in the unit of the table of runs, with 95 % ends."""

    num_params: int
    num_seeds: int
    num_rhos: int
    num_base: int
    gain: float
    standard_error: float
    low: float
    high: float
    best_rho: str

    @property
    def estimate(self) -> intervals.Mean:
        """The gain as a mean with its interval."""
        return intervals.Mean(self.gain, self.standard_error, self.low, self.high)


def decimal(value: float, *, digits: int = 2, sign: str = "+") -> str:
    """Write a number with a typographic minus sign, as in the pages; `sign=""` leaves out the plus sign."""
    return f"{value:{sign}.{digits}f}".replace("-", "−")


def read(name: str, where: Mapping[str, Any] | None = None) -> pd.DataFrame:
    """Read the rows of a committed table that have all of some values.

    Raises: KeyError if it lacks a column.
    """
    table = pd.read_csv(TABLES / name)
    for column, value in (where or {}).items():
        table = table[table[column] == value]
    return table


def width_rows(study: Study) -> list[dict[str, Any]]:
    """List the rows of a study's summary for widths, the smallest first."""
    table = read(study.summary, study.where)
    rows = table[table["row"] == "width"] if "row" in table.columns else table
    return rows.sort_values("num_params").to_dict("records")


def widths(study: Study) -> list[Width]:
    """List the widths of a study, the smallest first."""
    return [_tuned(row) if "tuned_gain" in row else _corrected(row) for row in width_rows(study)]


def _corrected(row: Mapping[str, Any]) -> Width:
    """Read a width whose rho alone was chosen."""
    return Width(
        num_params=int(row["num_params"]),
        num_seeds=int(row["corrected_num_seeds"]),
        num_rhos=int(row["num_rhos"]),
        num_base=1,
        gain=row["corrected_gain"],
        standard_error=row["corrected_standard_error"],
        low=row["corrected_low"],
        high=row["corrected_high"],
        best_rho=f"{row['best_rho']:g}",
    )


def _tuned(row: Mapping[str, Any]) -> Width:
    """Read a width at which each arm chose its settings."""
    chosen = dict(item.split("=") for item in row["sam_choice"].split())
    return Width(
        num_params=int(row["num_params"]),
        num_seeds=int(row["num_seeds"]),
        num_rhos=int(row["num_sam_cells"]),
        num_base=int(row["num_base_cells"]),
        gain=row["tuned_gain"],
        standard_error=row["tuned_standard_error"],
        low=row["tuned_low"],
        high=row["tuned_high"],
        best_rho=chosen["rho"],
    )


def joint_interval(width: Width, count: int) -> tuple[float, float]:
    """Compute the interval that holds together with those of all `count` widths of a study in 95 % of studies.

    How far it reaches depends on the base's share of the noise, which the committed table does not have. Its 95 %
    interval bounds that share; the widest joint interval within the bound is returned.
    """
    if not width.standard_error > 0:
        return width.low, width.high
    reach = (width.high - width.low) / 2 / width.standard_error
    sizes = {"num_seeds": width.num_seeds, "num_rhos": width.num_rhos, "num_base": width.num_base}
    level = intervals.sidak(count)
    joint = max(
        selection.critical_value(**sizes, ratio=ratio, level=level)
        for ratio in selection.possible_ratios(reach, **sizes)
    )
    return width.gain - joint * width.standard_error, width.gain + joint * width.standard_error


def seed_gains(study: Study, sizes: Sequence[int] | None = None) -> pd.DataFrame | None:
    """Read the corrected gain of each width and seed, as of the table; None where no table has them.

    Args:
      sizes: numbers of parameters to read; None is all.
    """
    if not study.gains:
        return None
    table = read(study.gains, study.gains_where)
    # A single rho needs no correction, and its table does not name one.
    rows = table[table["of"] == "corrected"] if "of" in table.columns else table
    rows = rows[rows["seed"].notna() & (rows["num_params"].isin(sizes) if sizes else True)]
    return rows.pivot(index="num_params", columns="seed", values="gain").dropna(axis="columns")


def seed_slopes(gains: pd.DataFrame) -> pd.Series:
    """Compute each seed's change of the gain per tenfold increase in parameters: unweighted least squares."""
    weights = trend.slope_weights(list(gains.index))
    return pd.Series(weights @ gains.to_numpy(), index=gains.columns)


def stretch(study: Study, num_seeds: int) -> float:
    """Return the factor by which the interval of cross-fitted gains is wider than Student's t.

    It depends on the noise of the base, which the intervals of the widths bound; this is the largest possible one.
    """
    estimates = [(width.estimate, width.num_seeds, width.num_rhos) for width in widths(study)]
    return selection.widest_stretch(num_seeds, estimates)


def slope(study: Study) -> intervals.Mean | None:
    """Compute the change of the gain per tenfold increase in parameters, with the same weight for every width.

    The mean of each seed's slope; None where no table has the gains of single seeds.
    """
    if study.tune:
        scores = _tuned_scores(study)
        return trend.slope_of(scores._replace(weights=np.ones(len(scores.num_params))))
    gains = seed_gains(study)
    if gains is None:
        return None
    slopes = seed_slopes(gains)
    return intervals.mean(slopes.tolist(), stretch=stretch(study, len(slopes)))


def _tuned_scores(study: Study) -> trend.Scores:
    """Compute the gain of each seed with both arms tuned, from the runs: the summary has only means."""
    runs = read(study.runs).assign(higher_is_better=True)
    if "num_epochs" not in runs.columns:
        runs["num_epochs"] = 1  # of the same length
    options = {"width": "num_params", "metric": "test_metric", "choose_by": None}
    (scores,) = (
        comparison.scores
        for comparison in tuned.comparisons(runs, tune=[study.tune], **options)
        if comparison.name == tuned.TUNED and len(comparison.pairs) == len(widths(study))
    )
    return scores
