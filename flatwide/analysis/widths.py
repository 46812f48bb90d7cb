"""The runs of each width as arrays: a row a seed, a column a rho."""

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from flatwide import registry
from flatwide.analysis import domains, fields
from flatwide.columns import COLLAPSED, RESULT_FIELDS

if TYPE_CHECKING:
    import pandas as pd


class Width(NamedTuple):
    """The runs of one width. NaN stands where a run is missing or has diverged.

    values: [seeds, 1 + rhos], what is compared; column 0 is the base.
    choices: the same shape, what rho is chosen by; larger is better, whatever the metric.
    sign: 1 where a higher value is better, else -1.
    collapsed: shaped like `values`, whether a run is known to be no better than chance; None where nobody has asked.
    """

    value: Any
    num_params: int
    seeds: tuple[int, ...]
    rhos: tuple[float, ...]  # without 0, ascending
    values: np.ndarray
    choices: np.ndarray
    candidates: tuple[int, ...]  # places in `rhos` of those that may be the best: no seed diverged or is missing
    short: tuple[int, ...]  # places of those where seeds are missing, though none diverged
    num_diverged: int
    sign: int
    collapsed: np.ndarray | None = None

    @property
    def best(self) -> int | None:
        """The place in `rhos` of the best candidate by its mean over seeds, the smallest of equals."""
        if not self.candidates:
            return None
        means = [float(np.nanmean(self.choices[:, 1 + place])) for place in self.candidates]
        return self.candidates[int(np.argmax(means))]

    @property
    def best_rho(self) -> float:
        """The best rho; NaN where each rho has a diverged seed, or there is none."""
        return float("nan") if self.best is None else self.rhos[self.best]

    @property
    def num_collapsed(self) -> int:
        """Count the runs that are known to be no better than chance."""
        return 0 if self.collapsed is None else int(self.collapsed.sum())

    @property
    def gains(self) -> np.ndarray:
        """The paired differences SAM - base, [seeds, rhos], positive where SAM is better."""
        return self.sign * (self.values[:, 1:] - self.values[:, :1])

    def complete(self, *, base: bool = True) -> "Width":
        """Keep the seeds that have every candidate rho, so that the choice is among the same for each.

        Args:
          base: they must have the base run too.
        """
        columns = [1 + place for place in self.candidates]
        whole = np.isfinite(self.choices[:, columns]).all(axis=1)
        whole &= np.isfinite(self.values[:, [0, *columns] if base else columns]).all(axis=1)
        return self.at(np.flatnonzero(whole))

    def at(self, rows: Iterable[int]) -> "Width":
        """Keep some of the seeds."""
        rows = list(rows)
        seeds = tuple(self.seeds[row] for row in rows)
        collapsed = None if self.collapsed is None else self.collapsed[rows]
        return self._replace(seeds=seeds, values=self.values[rows], choices=self.choices[rows], collapsed=collapsed)


def by_width(
    runs: "pd.DataFrame",
    *,
    width: str = "num_params",
    metric: str = "test_metric",
    choose_by: str | None = None,
    base_needed: bool = True,
) -> list[Width]:
    """Arrange the runs that are done by width, the smallest first.

    Args:
      runs: rows of the results table that differ in width, rho and seed only.
      width: the column that tells the widths apart.
      metric: the column that is compared; lower is better in one that is named a loss.
      choose_by: the column that rho is chosen by; None is the validation metric where every run has one, else `metric`.
      base_needed: refuse a width without base runs, instead of leaving column 0 empty.
    Raises: ValueError if a column is missing, a width has no base run, or two runs differ in something else.
    """
    if several := [domain.name for domain in domains.domains(runs) if domain.name]:
        raise ValueError(
            f"runs of several domains ({'; '.join(several)}): each has a metric and sizes of its own. Select one "
            "first, or take analysis.table.parts, which has a part for each."
        )
    choose_by = choice_column(runs, metric=metric) if choose_by is None else choose_by
    names = (width, metric, choose_by, "num_params", "rho", "seed", "status", "higher_is_better")
    for name in names:
        if name not in runs.columns:
            raise ValueError(registry.unknown("column", name, runs.columns))
    done = fields.done(fields.with_collapsed(runs), (*names, COLLAPSED))
    for run in done:
        run["rho"] = fields.effective_rho(run)
        run |= {name: int(run[name]) for name in ("num_params", "seed")}  # a column with gaps has floats in pandas
    # Where all diverged there is nothing to compare, and nothing wrong with the column.
    all_diverged = done and all(run["status"] == "diverged" for run in done)
    if all(run[metric] is None for run in done) and not all_diverged:
        raise ValueError(f"metric={metric!r}: none of {len(runs)} runs is done and has it; compare another column.")
    higher = {run["higher_is_better"] for run in done} - {None}
    if len(higher) != 1:
        raise ValueError("higher_is_better differs from run to run; compare runs of one metric.")
    signs = {name: -1 if name.endswith("loss") or higher == {False} else 1 for name in (metric, choose_by)}
    groups: dict[Any, list[dict[str, Any]]] = {}
    for run in done:
        groups.setdefault(run[width], []).append(run)
    found = []
    for value, group in groups.items():
        what = f"{width}={value}"
        places = _places(group, what, runs)
        if base_needed and not any(rho == 0 for rho, _ in places):
            raise ValueError(
                f"{what} has no base run to compare SAM with; train it with rho=0 (or optimizer='sgd') too."
            )
        found.append(_width(places, what, value, metric, choose_by, signs))
    # After the places, for two runs in one place say more.
    if mixed := fields.varying(runs, width=width):
        values = [f"{name} ({', '.join(map(str, seen))})" for name, seen in mixed.items()]
        raise ValueError(
            f"runs of one {width} differ in {', '.join(values)}: they would be compared as if they were alike. "
            "Select one value first, or take analysis.table.parts, which has a part for each."
        )
    return sorted(found, key=lambda one: one.num_params)


def choice_column(runs: "pd.DataFrame", *, metric: str = "test_metric") -> str:
    """Name the column that rho is chosen by: the validation metric where every finished run has one, else `metric`."""
    name = "validation_metric"
    if name not in runs.columns or "status" not in runs.columns:
        return metric
    have = [row[name] is not None for row in fields.records(runs, [name, "status"]) if row["status"] == "finished"]
    return name if have and all(have) else metric


def _places(runs: list[dict[str, Any]], what: str, table: "pd.DataFrame") -> dict[tuple[float, int], dict[str, Any]]:
    """Find the one run of each rho and seed."""
    places: dict[tuple[float, int], dict[str, Any]] = {}
    for run in runs:
        other = places.setdefault((run["rho"], run["seed"]), run)
        if other is not run:
            both = fields.records(table.iloc[[other["place"], run["place"]]])
            raise ValueError(_not_alike(*both, what=f"{what}, rho={run['rho']:g} and seed={run['seed']}"))
    return places


def _width(
    places: dict[tuple[float, int], dict[str, Any]],
    what: str,
    value: Any,
    metric: str,
    choose_by: str,
    signs: dict[str, int],
) -> Width:
    """Arrange the runs of one width."""
    rhos, seeds = sorted({0.0, *(rho for rho, _ in places)}), sorted({seed for _, seed in places})
    counts = sorted({run["num_params"] for run in places.values()})
    if len(counts) != 1:
        raise ValueError(f"{what} has networks of {counts} parameters; width='num_params' tells them apart.")

    def array(name: str) -> np.ndarray:
        found = [[places.get((rho, seed), {}).get(name) for rho in rhos] for seed in seeds]
        return np.array([[np.nan if entry is None else entry for entry in row] for row in found], dtype=float)

    values, choices = array(metric), signs[choose_by] * array(choose_by)
    status = [[places.get((rho, seed), {}).get("status") for rho in rhos[1:]] for seed in seeds]
    diverged = sum(run["status"] == "diverged" for run in places.values())
    places_of_best, short = candidates(values[:, 1:], choices[:, 1:], status)
    return Width(
        value=value,
        num_params=counts[0],
        seeds=tuple(seeds),
        rhos=tuple(rhos[1:]),
        values=values,
        choices=choices,
        candidates=places_of_best,
        short=short,
        num_diverged=diverged,
        sign=signs[metric],
        collapsed=array(COLLAPSED) == 1,
    )


def candidates(
    values: np.ndarray, choices: np.ndarray, status: list[list[str | None]]
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Find the rhos that may be the best, with no seed diverged and as many seeds as any of them, and those with fewer.

    A mean over fewer seeds is luckier: while a study runs, a rho with one good seed would beat those with eight.

    Args:
      values, choices: [seeds, rhos]. status: of each run, None where there is none.
    """
    whole = np.isfinite(values) & np.isfinite(choices)
    done = np.array([[state is not None for state in row] for row in status]).reshape(whole.shape)
    fine = np.flatnonzero((whole == done).all(axis=0))
    counts = whole.sum(axis=0)
    most = max(counts[fine], default=0)
    return tuple(int(p) for p in fine if counts[p] == most), tuple(int(p) for p in fine if counts[p] < most)


def _not_alike(run: dict[str, Any], other: dict[str, Any], *, what: str) -> str:
    """Say in which config fields two runs of one width, rho and seed differ."""
    config = [name for name in run if name != "run" and name.split(".")[0] not in RESULT_FIELDS]
    differ = [f"{name} ({run[name]} and {other[name]})" for name in config if run[name] != other[name]]
    return f"two runs have {what}; they differ in {', '.join(differ) or 'their directories'}. Select one value first."


def evenly(values: Sequence[Any], most: int) -> list[Any]:
    """Take at most so many values, evenly, with both ends."""
    if len(values) <= most:
        return list(values)
    return [values[round(index * (len(values) - 1) / (most - 1))] for index in range(most)]
