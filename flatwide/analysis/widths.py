"""The runs of each width as arrays: one row per seed, one column per rho."""

import dataclasses
from collections.abc import Sequence
from functools import cached_property
from typing import Any

import numpy as np

from flatwide import registry
from flatwide.analysis import arms, estimates, fields
from flatwide.columns import COLLAPSED, RESULT_FIELDS


@dataclasses.dataclass(frozen=True, eq=False)
class Width:
    """The runs of one width. NaN means that a run is missing or has diverged.

    values: [seeds, 1 + rhos], the compared metric; column 0 is the base.
    choices: the same shape, the metric that rho is chosen by; larger is better, whatever the metric.
    candidates: indices in `rhos` of those that can be the best: no seed diverged or is missing.
    short: indices of those where seeds are missing, though none diverged.
    sign: 1 where a higher value is better, else -1.
    collapsed: shaped like `values`, whether a run is known to be no better than chance; None where not computed.
    resolution: step of an accuracy, one over the number of test items, where that is recorded; else 0.
    level: of the intervals.
    """

    value: Any
    num_params: int
    seeds: tuple[int, ...]
    rhos: tuple[float, ...]  # without 0, ascending
    values: np.ndarray
    choices: np.ndarray
    candidates: tuple[int, ...]
    short: tuple[int, ...]
    num_diverged: int
    sign: int
    collapsed: np.ndarray | None = None
    resolution: float = 0.0
    has_base: bool = True
    level: float = 0.95

    @cached_property
    def best(self) -> int | None:
        """The index in `rhos` of the best candidate by its mean over seeds, the smallest of ties."""
        return self.candidates[int(estimates.choose(self.sam.choices))] if self.candidates else None

    @property
    def best_rho(self) -> float:
        """The best rho; NaN where every rho has a diverged seed, or there is none."""
        return float("nan") if self.best is None else self.rhos[self.best]

    @property
    def num_collapsed(self) -> int:
        """The number of runs that are known to be no better than chance."""
        return 0 if self.collapsed is None else int(self.collapsed.sum())

    @property
    def gains(self) -> np.ndarray:
        """The paired differences SAM - base, [seeds, rhos], positive where SAM is better."""
        return self.sign * (self.values[:, 1:] - self.values[:, :1])

    @cached_property
    def sam(self) -> arms.Arm:
        """SAM at the candidates; NaN where a seed lacks one."""
        return self._arm([1 + column for column in self.candidates], range(len(self.seeds)), self.values)

    @cached_property
    def complete(self) -> arms.Arm:
        """SAM at the candidates over the seeds that have all of them, so that each chooses from the same values."""
        whole = np.isfinite(self.sam.values).all(axis=1) & np.isfinite(self.sam.choices).all(axis=1)
        return self.sam.at([self.seeds[row] for row in np.flatnonzero(whole)])

    @cached_property
    def comparison(self) -> arms.Comparison:
        """The comparison of SAM with its base over the seeds that have every candidate rho."""
        return self.compared(self.values)

    def compared(self, values: np.ndarray, *, is_metric: bool = True) -> arms.Comparison:
        """Compare SAM at the candidates with the base, over the seeds that have all of these.

        Args:
          values: shaped like `values`, what is compared. is_metric: whether it is the metric; else larger is more.
        """
        at = [1 + column for column in self.candidates]
        is_whole = np.isfinite(values[:, [0, *at]]).all(axis=1) & np.isfinite(self.choices[:, at]).all(axis=1)
        base, sam = (self._arm(columns, np.flatnonzero(is_whole), values) for columns in ([0], at))
        sign, resolution = (self.sign, self.resolution) if is_metric else (1, 0.0)
        return arms.Comparison(
            width=self.value,
            num_params=self.num_params,
            base=base,
            sam=sam,
            sign=sign,
            resolution=resolution,
            level=self.level,
        )

    def _arm(self, columns: Sequence[int], rows: Sequence[int] | np.ndarray, values: np.ndarray) -> arms.Arm:
        """Return some columns of some seeds as an arm."""
        return arms.Arm(
            settings=tuple({"rho": self.rhos[column - 1]} if column else {} for column in columns),
            seeds=tuple(self.seeds[row] for row in rows),
            values=values[rows][:, columns],
            choices=self.choices[rows][:, columns],
            tried=tuple({"rho": rho} for rho in self.rhos),
        )


def arrange(runs: fields.Frame, *, width: str, metric: str, choose_by: str) -> list[Width]:
    """Arrange the completed runs by width, the smallest first.

    Args:
      runs: rows of a table that differ only in width, rho and seed. width, metric, choose_by: as in `table.Question`.
    Raises: ValueError if a column is missing, no run has the metric, or two runs have the same width, rho and seed.
    """
    names = (width, metric, choose_by, "num_params", "rho", "seed", "status", "higher_is_better")
    for name in names:
        if name not in runs.columns:
            raise ValueError(registry.unknown("column", name, runs.columns))
    done = fields.done(runs, (*names, COLLAPSED, "metric_name", "num_test_items"))
    for run in done:
        run["rho"] = fields.effective_rho(run)
        run |= {name: int(run[name]) for name in ("num_params", "seed")}  # a column with gaps has floats in pandas
    # Where all runs diverged there is nothing to compare, but nothing wrong with the column.
    all_diverged = done and all(run["status"] == "diverged" for run in done)
    if all(run[metric] is None for run in done) and not all_diverged:
        raise ValueError(
            f"metric={metric!r}: none of the {len(runs)} runs is complete and has it; compare another column."
        )
    signs = fields.signs(done, (metric, choose_by))
    groups: dict[Any, list[dict[str, Any]]] = {}
    for run in done:
        groups.setdefault(run[width], []).append(run)
    widths = [
        _width(group, f"{width}={value}", runs, value, metric, choose_by, signs) for value, group in groups.items()
    ]
    return sorted(widths, key=lambda each: each.num_params)


def choice_column(runs: fields.Frame, *, metric: str = "test_metric") -> str:
    """Return the column that rho is chosen by: the validation metric if every finished run has one, else `metric`."""
    name = "validation_metric"
    if name not in runs.columns or "status" not in runs.columns:
        return metric
    have = [row[name] is not None for row in fields.records(runs, [name, "status"]) if row["status"] == "finished"]
    return name if have and all(have) else metric


def _width(
    runs: list[dict[str, Any]],
    where: str,
    table: fields.Frame,
    value: Any,
    metric: str,
    choose_by: str,
    signs: dict[str, int],
) -> Width:
    """Arrange the runs of one width, which have a single run for each rho and seed."""
    run_at: dict[tuple[float, int], dict[str, Any]] = {}
    for run in runs:
        other = run_at.setdefault((run["rho"], run["seed"]), run)
        if other is not run:
            both = fields.records(table.iloc[[other["row_index"], run["row_index"]]])
            raise ValueError(_not_alike(*both, where=f"{where}, rho={run['rho']:g} and seed={run['seed']}"))
    rhos, seeds = sorted({0.0, *(rho for rho, _ in run_at)}), sorted({seed for _, seed in run_at})
    counts = sorted({run["num_params"] for run in runs})
    if len(counts) != 1:
        raise ValueError(f"{where} has networks of {counts} parameters; width='num_params' separates them.")

    def array(name: str) -> np.ndarray:
        numbers = [[run_at.get((rho, seed), {}).get(name) for rho in rhos] for seed in seeds]
        return np.array(numbers, dtype=float)  # None becomes NaN

    values, choices = array(metric), signs[choose_by] * array(choose_by)
    status = [[run_at.get((rho, seed), {}).get("status") for rho in rhos[1:]] for seed in seeds]
    candidates, short = arms.whole_columns(values[:, 1:], choices[:, 1:], status)
    return Width(
        value=value,
        num_params=counts[0],
        seeds=tuple(seeds),
        rhos=tuple(rhos[1:]),
        values=values,
        choices=choices,
        candidates=candidates,
        short=short,
        num_diverged=sum(run["status"] == "diverged" for run in runs),
        sign=signs[metric],
        collapsed=array(COLLAPSED) == 1,
        resolution=fields.resolution(runs, metric),
        has_base=(0.0 in {rho for rho, _ in run_at}),
    )


def _not_alike(run: dict[str, Any], other: dict[str, Any], *, where: str) -> str:
    """Return an error message: the config fields in which two runs of one width, rho and seed differ."""
    config = [name for name in run if name != "run" and name.split(".")[0] not in RESULT_FIELDS]
    differ = [f"{name} ({run[name]} and {other[name]})" for name in config if run[name] != other[name]]
    return f"two runs have {where}; they differ in {', '.join(differ) or 'their directories'}. Select one value first."


def evenly(values: Sequence[Any], most: int) -> list[Any]:
    """Return at most so many values, evenly spaced, including both ends."""
    if len(values) <= most:
        return list(values)
    return [values[round(index * (len(values) - 1) / max(most - 1, 1))] for index in range(most)]
