"""The runs of each width as arrays: a row a seed, a column a rho."""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from flatwide import registry
from flatwide import runs as files

if TYPE_CHECKING:
    import pandas as pd


class Width(NamedTuple):
    """The runs of one width. NaN stands where a run is missing or has diverged.

    values: [seeds, 1 + rhos], what is compared; column 0 is the base.
    choices: the same shape, what rho is chosen by; larger is better, whatever the metric.
    sign: 1 where a higher value is better, else -1.
    """

    value: Any
    num_params: int
    seeds: tuple[int, ...]
    rhos: tuple[float, ...]  # without 0, ascending
    values: np.ndarray
    choices: np.ndarray
    candidates: tuple[int, ...]  # places in `rhos` of those whose runs all have a metric
    num_diverged: int
    sign: int

    @property
    def best(self) -> int | None:
        """The place in `rhos` of the best candidate by its mean over seeds, the smallest of equals."""
        if not self.candidates:
            return None
        means = [float(np.nanmean(self.choices[:, 1 + place])) for place in self.candidates]
        return self.candidates[int(np.argmax(means))]

    @property
    def best_rho(self) -> float:
        """The best rho; NaN where each rho has a diverged seed."""
        return float("nan") if self.best is None else self.rhos[self.best]

    @property
    def gains(self) -> np.ndarray:
        """The paired differences SAM - base, [seeds, rhos], positive where SAM is better."""
        return self.sign * (self.values[:, 1:] - self.values[:, :1])

    def at(self, rows: Iterable[int]) -> "Width":
        """Keep some of the seeds."""
        rows = list(rows)
        seeds = tuple(self.seeds[row] for row in rows)
        return self._replace(seeds=seeds, values=self.values[rows], choices=self.choices[rows])


def by_width(
    runs: "pd.DataFrame", *, width: str = "num_params", metric: str = "test_metric", choose_by: str | None = None
) -> list[Width]:
    """Arrange the runs that are done by width, the smallest first.

    Args:
      runs: rows of the results table that differ in width, rho and seed only.
      width: the column that tells the widths apart.
      metric: the column that is compared; lower is better in one that is named a loss.
      choose_by: the column that rho is chosen by; None is the validation metric where every run has one, else `metric`.
    Raises: ValueError if a column is missing, a width has no base run, or two runs differ in something else.
    """
    choose_by = choice_column(runs, metric=metric) if choose_by is None else choose_by
    for name in (width, metric, choose_by, "num_params", "rho", "seed", "status", "higher_is_better"):
        if name not in runs.columns:
            raise ValueError(registry.unknown("column", name, runs.columns))
    done = [run for run in records(runs) if run["status"] in ("finished", "diverged")]
    for run in done:
        run["rho"] = effective_rho(run)
        run |= {name: int(run[name]) for name in ("num_params", "seed")}  # a column with gaps has floats in pandas
    if all(run[metric] is None for run in done):
        raise ValueError(f"metric={metric!r}: none of {len(runs)} runs is done and has it; compare another column.")
    higher = {run["higher_is_better"] for run in done} - {None}
    if len(higher) != 1:
        raise ValueError("higher_is_better differs from run to run; compare runs of one metric.")
    signs = {name: -1 if name.endswith("loss") or higher == {False} else 1 for name in (metric, choose_by)}
    groups: dict[Any, list[dict[str, Any]]] = {}
    for run in done:
        groups.setdefault(run[width], []).append(run)
    found = [_width(group, f"{width}={value}", value, metric, choose_by, signs) for value, group in groups.items()]
    return sorted(found, key=lambda one: one.num_params)


def choice_column(runs: "pd.DataFrame", *, metric: str = "test_metric") -> str:
    """Name the column that rho is chosen by: the validation metric where every finished run has one, else `metric`."""
    name = "validation_metric"
    if name not in runs.columns or "status" not in runs.columns:
        return metric
    have = [run[name] is not None for run in records(runs) if run["status"] == "finished"]
    return name if have and all(have) else metric


def records(runs: "pd.DataFrame") -> list[dict[str, Any]]:
    """Turn a table into dicts, with None for whatever is missing."""
    # By columns: a table of ten thousand runs has most of a million entries.
    columns = [runs[name].astype(object).where(runs[name].notna(), None).tolist() for name in runs.columns]
    names = list(runs.columns)
    return [dict(zip(names, row, strict=True)) for row in zip(*columns, strict=True)]


def effective_rho(run: dict[str, Any]) -> float:
    """Give the rho that a run really had: 0 for anything but SAM."""
    return float(run["rho"]) if run.get("optimizer", "sam") in ("sam", None) else 0.0


def _width(
    runs: list[dict[str, Any]], what: str, value: Any, metric: str, choose_by: str, signs: dict[str, int]
) -> Width:
    """Put the runs of one width in their places."""
    places: dict[tuple[float, int], dict[str, Any]] = {}
    for run in runs:
        other = places.setdefault((run["rho"], run["seed"]), run)
        if other is not run:
            raise ValueError(_not_alike(run, other, what))
    rhos, seeds = sorted({rho for rho, _ in places}), sorted({seed for _, seed in places})
    if 0 not in rhos:
        raise ValueError(f"{what} has no base run to compare SAM with; train it with rho=0 (or optimizer='sgd') too.")
    counts = sorted({run["num_params"] for run in runs})
    if len(counts) != 1:
        raise ValueError(f"{what} has networks of {counts} parameters; width='num_params' tells them apart.")

    def array(name: str) -> np.ndarray:
        found = [[places.get((rho, seed), {}).get(name) for rho in rhos] for seed in seeds]
        return np.array([[np.nan if entry is None else entry for entry in row] for row in found], dtype=float)

    values, choices = array(metric), signs[choose_by] * array(choose_by)
    have = [[run for (at, _), run in places.items() if at == rho] for rho in rhos[1:]]
    whole = [all(run[name] is not None for run in group for name in (metric, choose_by)) for group in have]
    candidates = tuple(place for place, fine in enumerate(whole) if fine)
    diverged = sum(run["status"] == "diverged" for run in runs)
    sizes = (value, counts[0], tuple(seeds), tuple(rhos[1:]))
    return Width(*sizes, values, choices, candidates, diverged, signs[metric])


def _not_alike(run: dict[str, Any], other: dict[str, Any], what: str) -> str:
    """Say in which config fields two runs of one width, rho and seed differ."""
    config = [name for name in run if name != "run" and name.split(".")[0] not in files.RESULT_FIELDS]
    differ = [f"{name} ({other[name]} and {run[name]})" for name in config if run[name] != other[name]]
    return (
        f"two runs have {what}, rho={run['rho']:g} and seed={run['seed']}; they differ in "
        f"{', '.join(differ) or 'their directories'}. Select one value first."
    )
