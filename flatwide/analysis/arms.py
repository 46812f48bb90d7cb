"""One comparison: the runs of base and SAM at one width, arranged by seed and setting."""

import dataclasses
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np

from flatwide.analysis import estimates, fields
from flatwide.analysis.estimates import Estimate, Scores, Side


class Arm(NamedTuple):
    """The candidate settings of base or SAM at one width; none has a diverged or missing seed.

    settings: rho and the tuned fields of each.
    values: [seeds, settings], the compared metric. choices: same shape, the metric to choose by; larger is better.
    tried: all settings, including those that are not candidates. diverged: those with a diverged run.
    """

    settings: tuple[Mapping[str, Any], ...]
    seeds: tuple[int, ...]
    values: np.ndarray
    choices: np.ndarray
    tried: tuple[Mapping[str, Any], ...] = ()
    diverged: tuple[Mapping[str, Any], ...] = ()

    def edges(self, allowed: np.ndarray | None = None) -> dict[str, str]:
        """Map the numeric fields in which the best setting, or one tied with it, is at an end of the values tried.

        Args:
          allowed: [settings], those that may be chosen; None is all.
        Returns: field -> "low" or "high", or "low and high" where settings at both ends are tied.
        """
        (is_tied,) = estimates.ties(self.choices, allowed=None if allowed is None else allowed[None])
        edges = {}
        for name in self.settings[0]:
            tried = {setting[name] for setting in self.tried}
            if len(tried) < 2 or not all(type(item) in (int, float) for item in tried):
                continue
            values = {setting[name] for setting, is_best in zip(self.settings, is_tied, strict=True) if is_best}
            if ends := [end for end, at in (("low", min(tried)), ("high", max(tried))) if at in values]:
                edges[name] = " and ".join(ends)
        return edges

    def at(self, seeds: Sequence[int]) -> "Arm":
        """Return the arm with only some of the seeds."""
        rows = [self.seeds.index(seed) for seed in seeds]
        return self._replace(seeds=tuple(seeds), values=self.values[rows], choices=self.choices[rows])

    def only(self, columns: Sequence[int] | np.ndarray) -> "Arm":
        """Return the arm with only some of the settings, by their index."""
        settings = tuple(self.settings[column] for column in columns)
        return self._replace(settings=settings, values=self.values[:, columns], choices=self.choices[:, columns])


@dataclasses.dataclass(frozen=True, eq=False)
class Comparison:
    """Both arms at one width, over the seeds that have every setting of both.

    same: [base settings, SAM settings], True where settings agree except for rho, if SAM must take those of the base.
    sign: 1 where a higher value is better, else -1. resolution: step of the metric, see `estimates.score`.
    level: of the intervals.
    """

    width: Any
    num_params: int
    base: Arm
    sam: Arm
    sign: int
    same: np.ndarray | None = None
    resolution: float = 0.0
    level: float = 0.95

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

    @cached_property
    def _choices(self) -> tuple[np.ndarray, np.ndarray]:
        return estimates.choose_both(self.base.choices, self.sam.choices, same=self.same)

    @property
    def chosen(self) -> tuple[int, int]:
        """The settings of base and SAM that all seeds choose together, by their index."""
        base, sam = self._choices
        return int(base[-1]), int(sam[-1])

    @property
    def edges(self) -> tuple[dict[str, str], dict[str, str]]:
        """The fields in which the choices of base and SAM are at an end of the values tried, see `Arm.edges`."""
        return self.base.edges(), self.sam.edges(None if self.same is None else self.same[self.chosen[0]])

    @property
    def sam_alone(self) -> "Comparison":
        """The comparison of SAM with zero instead of the base."""
        zeros = self.base._replace(values=np.zeros_like(self.base.values))
        return dataclasses.replace(self, base=zeros)

    @cached_property
    def scored(self) -> Scores:
        """The scores of SAM minus base at each seed, positive where SAM is better, see `estimates.score`."""
        # The last bit of a sum depends on the order of the numbers in memory, and equal runs must have equal gains.
        sides = (
            Side(np.ascontiguousarray(self.sign * arm.values), np.ascontiguousarray(arm.choices))
            for arm in (self.base, self.sam)
        )
        scored = estimates.score(*sides, same=self.same, resolution=self.resolution)
        return Scores(
            num_params=(self.num_params,),
            seeds=self.seeds,
            values=scored.values[None],
            variances=scored.variances[None],
            excesses=scored.excesses[None],
            degrees=scored.degrees[None],
            level=self.level,
        )

    @cached_property
    def gain(self) -> Estimate:
        """The mean of the scores; NaN below two seeds."""
        return estimates.contrast(self.scored, [1.0]) if self.is_usable else Estimate(num_seeds=len(self.seeds))

    @property
    def means(self) -> tuple[float, float]:
        """The means of base and SAM, each seed at the settings that the other seeds choose."""
        each = np.arange(len(self.seeds))
        base, sam = (
            float(arm.values[each, at[:-1]].mean())
            for arm, at in zip((self.base, self.sam), self._choices, strict=True)
        )
        return base, sam


def scores(comparisons: Sequence[Comparison]) -> Scores:
    """Score every comparison that has two seeds, over the seeds that all of these have."""
    return estimates.joined([comparison.scored for comparison in comparisons if comparison.is_usable])


def settings_text(settings: Mapping[str, Any]) -> str:
    """Write settings, such as `learning_rate=0.1 rho=0.2`."""
    return " ".join(
        f"{name}={value:g}" if isinstance(value, float) else f"{name}={value}" for name, value in settings.items()
    )


def arrange(runs: list[dict[str, Any]], settings: Sequence[str], columns: Sequence[str], sign: int, where: str) -> Arm:
    """Arrange runs by seed and setting, and select the settings that are candidates; `where` names the width.

    Raises: ValueError if two networks of one size have the same settings and seed.
    """
    by_setting: dict[tuple, dict[int, dict[str, Any]]] = {}
    for run in runs:
        key = tuple(fields.effective_rho(run) if name == "rho" else run[name] for name in settings)
        first = by_setting.setdefault(key, {}).setdefault(int(run["seed"]), run)
        if differ := [name for name in fields.SHAPES if first.get(name) != run.get(name)]:
            shapes = ", ".join(f"{name} ({first[name]} and {run[name]})" for name in differ)
            where_exactly = f"{where}, {settings_text(dict(zip(settings, key, strict=True)))} and seed={run['seed']}"
            raise ValueError(f"two runs have {where_exactly}; they differ in {shapes}. Select one value first.")
    keys = sorted(by_setting, key=lambda values: [(str(type(value)), value) for value in values])
    seeds = sorted({seed for group in by_setting.values() for seed in group})

    def array(name: str) -> np.ndarray:
        numbers = [[by_setting[key].get(seed, {}).get(name) for key in keys] for seed in seeds]
        return np.array(numbers, dtype=float).reshape(len(seeds), len(keys))

    values, choices = (array(name) for name in columns)
    status = [[by_setting[key].get(seed, {}).get("status") for key in keys] for seed in seeds]
    candidates = list(whole_columns(values, choices, status)[0])
    tried = tuple(dict(zip(settings, key, strict=True)) for key in keys)
    return Arm(
        settings=tuple(tried[index] for index in candidates),
        seeds=tuple(seeds),
        values=values[:, candidates],
        choices=sign * choices[:, candidates],
        tried=tried,
        diverged=tuple(
            setting for setting, states in zip(tried, zip(*status, strict=True), strict=True) if "diverged" in states
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
    pair = dataclasses.replace(comparison, base=base, sam=sam)
    if not pair.is_usable or same is None:
        return pair if pair.is_usable else None
    alike = np.array([[all(b[name] == s[name] for name in same) for s in sam.settings] for b in base.settings])
    served = np.flatnonzero(alike.any(axis=1))  # the base cannot choose settings without a SAM candidate
    return dataclasses.replace(pair, base=base.only(served), same=alike[served]) if len(served) else None


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
