"""Gains and slopes of a result from its committed tables, for docs/results.md and docs/claims.md. Not a program."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from studies import FOLDER, Result

from flatwide.analysis import comparisons, estimates, table
from flatwide.analysis.estimates import Estimate, Scores


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
    def estimate(self) -> Estimate:
        """The gain, with the degrees of freedom that the length of its interval implies."""
        from scipy.special import stdtridf

        if not self.standard_error > 0:
            return Estimate(self.gain, self.standard_error, self.num_seeds - 1, self.num_seeds)
        reach = (self.high - self.low) / 2 / self.standard_error
        return Estimate(self.gain, self.standard_error, float(stdtridf(0.975, reach)), self.num_seeds)


def decimal(value: float, *, digits: int = 2, sign: str = "+") -> str:
    """Write a number with a typographic minus sign, as in the pages; `sign=""` leaves out the plus sign."""
    return f"{value:{sign}.{digits}f}".replace("-", "−")


def read(name: str | Path, where: Mapping[str, Any] | None = None) -> pd.DataFrame:
    """Read the rows of a committed table, a path in docs/studies, that have all of some values.

    Raises: KeyError if it lacks a column.
    """
    table = pd.read_csv(FOLDER / name)
    for column, value in (where or {}).items():
        table = table[table[column] == value]
    return table


def width_rows(study: Result) -> list[dict[str, Any]]:
    """List the rows of a study's summary for widths, the smallest first."""
    if study.tune:
        table = read(study.path("tuned_gain.csv"), {"comparison": "tuned"})
    else:
        table = read(study.path(study.summary), study.where)
    rows = table[table["row"] == "width"] if "row" in table.columns else table
    return rows.sort_values("num_params").to_dict("records")


def widths(study: Result) -> list[Width]:
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
    """Compute the interval that holds together with those of all `count` widths of a study in 95 % of studies."""
    joint = width.estimate.at(estimates.sidak(count))
    return joint.low, joint.high


def seed_gains(study: Result, sizes: Sequence[int] | None = None) -> pd.DataFrame | None:
    """Read the corrected gain of each width and seed, as of the table; None where no table has them.

    Args:
      sizes: numbers of parameters to read; None is all.
    """
    if study.tune or not study.gains:
        return None
    table = read(study.path(study.gains), study.gains_where)
    # A single rho needs no correction, and its table does not name one.
    rows = table[table["of"] == "corrected"] if "of" in table.columns else table
    rows = rows[rows["seed"].notna() & (rows["num_params"].isin(sizes) if sizes else True)]
    return rows.pivot(index="num_params", columns="seed", values="gain").dropna(axis="columns")


def scores(study: Result, sizes: Sequence[int] | None = None) -> Scores | None:
    """Arrange the gains of a study by width and seed; None where no table has the gains of single seeds.

    Args:
      sizes: numbers of parameters to read; None is all.
    """
    if study.tune:
        return _tuned_scores(study)
    gains = seed_gains(study, sizes)
    if gains is None:
        return None
    by_size = {width.num_params: width for width in widths(study)}
    rows = [by_size[size] for size in gains.index]
    plain = estimates.plain(gains.to_numpy(), list(gains.index), list(gains.columns))
    counts = np.array([float(row.num_seeds) for row in rows])
    # The error of a width has the excess in it.
    return plain._replace(
        variances=np.array([row.standard_error**2 for row in rows]) * counts,
        degrees=np.array([row.estimate.degrees for row in rows]),
    )


def slope(study: Result) -> Estimate | None:
    """Compute the change of the gain per tenfold increase in parameters.

    None where no table has the gains of single seeds.
    """
    scored = scores(study)
    return None if scored is None else estimates.slope(scored)


def _tuned_scores(study: Result) -> Scores:
    """Compute the gain of each seed with both arms tuned, from the runs: the summary has only means."""
    runs = read(study.path("runs.csv")).assign(higher_is_better=study.higher_is_better)
    if not {"num_epochs", "num_train_steps"} & set(runs.columns):
        runs["num_epochs"] = 1  # of the same length
    (scored,) = (
        compared.scores
        for part in table.split(runs, tune=[study.tune]).tuned
        for compared in part.comparisons
        if compared.kind == comparisons.TUNED and len(compared.widths) == len(widths(study))
    )
    return scored
