"""The candidate runs of base and SAM at one width, arranged by seed and cell of their tuned settings."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from flatwide.analysis import fields, widths

_ROUNDING = 1e-12  # relative to the largest metric: sums that are closer are equal


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


class Pair(NamedTuple):
    """Both arms at one width, over the seeds that both have.

    same: [base cells, SAM cells], True where settings agree except for rho, if SAM must take those of the base.
    sign: 1 where a higher value is better, else -1.
    """

    width: Any
    num_params: int
    base: Arm
    sam: Arm
    sign: int
    same: np.ndarray | None = None

    @property
    def num_sam(self) -> int:
        """The number of cells that SAM can choose from."""
        return len(self.sam.settings) if self.same is None else int(self.same.sum(axis=1).max())


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
    candidates = list(widths.candidates(values, choices, status)[0])
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


def pair_up(pair: Pair, same: Sequence[str] | None) -> Pair | None:
    """Select the seeds that have every cell of both arms; None where there are fewer than two, or no cell.

    Args:
      same: fields in which the cell of SAM must agree with that of the base.
    """
    whole = [
        {seed for seed, *rows in zip(arm.seeds, arm.values, arm.choices, strict=True) if np.isfinite(rows).all()}
        for arm in (pair.base, pair.sam)
    ]
    seeds = sorted(set.intersection(*whole))
    if len(seeds) < 2 or not pair.base.settings or not pair.sam.settings:
        return None
    base, sam = pair.base.at(seeds), pair.sam.at(seeds)
    if same is None:
        return pair._replace(base=base, sam=sam)
    alike = np.array([[all(b[name] == s[name] for name in same) for s in sam.settings] for b in base.settings])
    served = np.flatnonzero(alike.any(axis=1))  # the base cannot choose settings without a SAM candidate
    if not len(served):
        return None
    settings = tuple(base.settings[cell] for cell in served)
    base = base._replace(settings=settings, values=base.values[:, served], choices=base.choices[:, served])
    return pair._replace(base=base, sam=sam, same=alike[served])


def chosen(choices: np.ndarray, is_allowed: np.ndarray | None = None) -> np.ndarray:
    """Choose a cell for each seed by the other seeds, and finally one by all seeds: [seeds + 1], the first of ties.

    Args:
      choices: [seeds, cells].
      is_allowed: [seeds + 1, cells]; None allows all.
    """
    total = choices.sum(axis=0)
    sums = np.vstack([total - choices, total])
    sums = sums if is_allowed is None else np.where(is_allowed, sums, -np.inf)
    # Sums of accuracies that are equal as fractions of a test set differ in their last bits, by the order of seeds.
    tolerance = _ROUNDING * np.abs(choices).max()
    return (sums >= sums.max(axis=1, keepdims=True) - tolerance).argmax(axis=1)
