"""One comparison: the runs of base and SAM at one width, arranged by seed and setting."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from flatwide.analysis import estimates, fields
from flatwide.analysis.estimates import Estimate, Scored, Scores, Side


class Arm(NamedTuple):
    """The candidate runs of base or SAM at one width; none of their cells has a diverged or missing seed.

    settings: of each cell: rho and the tuned fields.
    values: [seeds, cells], the compared metric. choices: same shape, the metric to choose by; larger is better.
    tried: the settings of all cells, including those that are not candidates. diverged: those with a diverged run.
    """

    settings: tuple[Mapping[str, Any], ...]
    seeds: tuple[int, ...]
    values: np.ndarray
    choices: np.ndarray
    tried: tuple[Mapping[str, Any], ...] = ()
    diverged: tuple[Mapping[str, Any], ...] = ()

    def edges(self, at: Mapping[str, Any]) -> list[str]:
        """List the numeric fields in which a cell is at an end of the values tried: a better one may lie beyond."""
        edges = []
        for name, value in at.items():
            tried = {cell[name] for cell in self.tried}
            are_numbers = all(isinstance(item, (int, float)) and not isinstance(item, bool) for item in tried)
            numbers = len(tried) > 1 and are_numbers
            edges += [name] if numbers and value in (min(tried), max(tried)) else []
        return edges

    def at(self, seeds: Sequence[int]) -> "Arm":
        """Return the arm with only some of the seeds."""
        rows = [self.seeds.index(seed) for seed in seeds]
        return self._replace(seeds=tuple(seeds), values=self.values[rows], choices=self.choices[rows])

    def only(self, columns: Sequence[int] | np.ndarray) -> "Arm":
        """Return the arm with only some of the settings, by their index."""
        settings = tuple(self.settings[column] for column in columns)
        return self._replace(settings=settings, values=self.values[:, columns], choices=self.choices[:, columns])


class Comparison(NamedTuple):
    """Both arms at one width, over the seeds that have every setting of both.

    same: [base settings, SAM settings], True where settings agree except for rho, if SAM must take those of the base.
    sign: 1 where a higher value is better, else -1. resolution: step of the metric, see `estimates.score`.
    """

    width: Any
    num_params: int
    base: Arm
    sam: Arm
    sign: int
    same: np.ndarray | None = None
    resolution: float = 0.0

    @property
    def seeds(self) -> tuple[int, ...]:
        """The seeds of both arms."""
        return self.base.seeds

    @property
    def num_sam(self) -> int:
        """The number of settings that SAM can choose from."""
        return len(self.sam.settings) if self.same is None else int(self.same.sum(axis=1).max())

    @property
    def is_usable(self) -> bool:
        """Whether there is a setting of each arm, and two seeds, of which each can choose for the other."""
        return len(self.seeds) > 1 and bool(self.base.settings) and bool(self.sam.settings)

    @property
    def chosen(self) -> tuple[int, int]:
        """The settings of base and SAM that all seeds choose together, by their index."""
        base, sam = estimates.choose_both(self.base.choices, self.sam.choices, same=self.same)
        return int(base[-1]), int(sam[-1])

    @property
    def of_sam_alone(self) -> "Comparison":
        """The comparison of SAM with zero instead of the base."""
        return self._replace(base=self.base._replace(values=np.zeros_like(self.base.values)))


def score(comparison: Comparison) -> Scored:
    """Score SAM minus base at each seed, positive where SAM is better, with the variances of `estimates.score`."""
    # The last bit of a sum depends on the order of the numbers in memory, and equal runs must have equal gains.
    sides = (
        Side(np.ascontiguousarray(comparison.sign * arm.values), np.ascontiguousarray(arm.choices))
        for arm in (comparison.base, comparison.sam)
    )
    return estimates.score(*sides, same=comparison.same, resolution=comparison.resolution)


def scores(comparisons: Sequence[Comparison]) -> Scores:
    """Score every comparison that has two seeds, over the seeds that all of these have."""
    usable = [comparison for comparison in comparisons if comparison.is_usable]
    scored = [score(comparison) for comparison in usable]
    seeds = sorted(set.intersection(*(set(comparison.seeds) for comparison in usable))) if usable else []
    rows = [
        each.scores[[comparison.seeds.index(seed) for seed in seeds]]
        for comparison, each in zip(usable, scored, strict=True)
    ]
    return Scores(
        num_params=tuple(comparison.num_params for comparison in usable),
        seeds=tuple(seeds),
        values=np.array(rows).reshape(len(usable), len(seeds)),
        variances=np.array([float(each.variance) for each in scored]),
        excesses=np.array([float(each.excess) for each in scored]),
        degrees=np.array([float(each.degrees) for each in scored]),
        counts=np.array([float(len(comparison.seeds)) for comparison in usable]),
    )


def estimate(comparison: Comparison, *, level: float = 0.95) -> Estimate:
    """Estimate the gain of one comparison; NaN below two seeds."""
    if not comparison.is_usable:
        return Estimate(num_seeds=len(comparison.seeds), level=level)
    return estimates.contrast(scores([comparison]), [1.0], level=level)


def means(comparison: Comparison) -> tuple[float, float]:
    """Return the means of base and SAM, each seed at the settings that the other seeds choose."""
    base, sam = estimates.choose_both(comparison.base.choices, comparison.sam.choices, same=comparison.same)
    each = np.arange(len(comparison.seeds))
    return float(comparison.base.values[each, base[:-1]].mean()), float(comparison.sam.values[each, sam[:-1]].mean())


def settings_text(settings: Mapping[str, Any]) -> str:
    """Write the settings of a cell, such as `learning_rate=0.1 rho=0.2`."""
    return " ".join(
        f"{name}={value:g}" if isinstance(value, float) else f"{name}={value}" for name, value in settings.items()
    )


def arrange(runs: list[dict[str, Any]], settings: Sequence[str], columns: Sequence[str], sign: int, where: str) -> Arm:
    """Arrange runs by seed and cell, and select the cells that are candidates.

    Args:
      where: the width, for error messages.
    Raises: ValueError if two networks of one size have the same cell and seed.
    """
    cells: dict[tuple, dict[int, dict[str, Any]]] = {}
    for run in runs:
        key = tuple(fields.effective_rho(run) if name == "rho" else run[name] for name in settings)
        first = cells.setdefault(key, {}).setdefault(int(run["seed"]), run)
        if differ := [name for name in fields.SHAPES if first.get(name) != run.get(name)]:
            shapes = ", ".join(f"{name} ({first[name]} and {run[name]})" for name in differ)
            where_exactly = f"{where}, {settings_text(dict(zip(settings, key, strict=True)))} and seed={run['seed']}"
            raise ValueError(f"two runs have {where_exactly}; they differ in {shapes}. Select one value first.")
    keys = sorted(cells, key=lambda values: [(str(type(value)), value) for value in values])
    seeds = sorted({seed for group in cells.values() for seed in group})

    def array(name: str) -> np.ndarray:
        numbers = [[cells[key].get(seed, {}).get(name) for key in keys] for seed in seeds]
        return np.array(numbers, dtype=float).reshape(len(seeds), len(keys))

    values, choices = (array(name) for name in columns)
    status = [[cells[key].get(seed, {}).get("status") for key in keys] for seed in seeds]
    candidates = list(whole_columns(values, choices, status)[0])
    return Arm(
        settings=tuple(dict(zip(settings, keys[cell], strict=True)) for cell in candidates),
        seeds=tuple(seeds),
        values=values[:, candidates],
        choices=sign * choices[:, candidates],
        tried=tuple(dict(zip(settings, key, strict=True)) for key in keys),
        diverged=tuple(
            dict(zip(settings, key, strict=True))
            for key, column in zip(keys, zip(*status, strict=True), strict=True)
            if "diverged" in column
        ),
    )


def pair_up(comparison: Comparison, same: Sequence[str] | None) -> Comparison | None:
    """Select the seeds that have every setting of both arms; None where there are fewer than two, or no setting.

    Args:
      same: fields in which the setting of SAM must agree with that of the base.
    """
    whole = [
        {seed for seed, *rows in zip(arm.seeds, arm.values, arm.choices, strict=True) if np.isfinite(rows).all()}
        for arm in (comparison.base, comparison.sam)
    ]
    seeds = sorted(set.intersection(*whole))
    base, sam = comparison.base.at(seeds), comparison.sam.at(seeds)
    pair = comparison._replace(base=base, sam=sam)
    if not pair.is_usable or same is None:
        return pair if pair.is_usable else None
    alike = np.array([[all(b[name] == s[name] for name in same) for s in sam.settings] for b in base.settings])
    served = np.flatnonzero(alike.any(axis=1))  # the base cannot choose settings without a SAM candidate
    return pair._replace(base=base.only(served), same=alike[served]) if len(served) else None


def whole_columns(
    values: np.ndarray, choices: np.ndarray, status: list[list[str | None]]
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Find the settings that can be the best (no diverged seed, most seeds), and those that only have fewer seeds.

    Means over fewer seeds vary more: during a study, a setting with one good seed would beat those with eight.

    Args:
      values, choices: [seeds, settings]. status: of each run, None where there is none.
    """
    whole = np.isfinite(values) & np.isfinite(choices)
    done = np.array([[state is not None for state in row] for row in status]).reshape(whole.shape)
    fine = np.flatnonzero((whole == done).all(axis=0))
    counts = whole.sum(axis=0)
    most = max(counts[fine], default=0)
    return tuple(int(p) for p in fine if counts[p] == most), tuple(int(p) for p in fine if counts[p] < most)
