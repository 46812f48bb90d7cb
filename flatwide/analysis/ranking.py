"""Which of several SAM rules is better, and which ranks the seeds cannot order.

Every rule is scored as the gain is: each seed at the radius that the other seeds choose for that rule. Scores of a seed
are averaged over cells (a domain at a width), and the base optimizer takes part as a rule without a radius.
"""

import itertools
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from flatwide.analysis import intervals, selection

BASE = "base"


class Cell(NamedTuple):
    """The runs of one domain at one width.

    base: [seeds], the base optimizer's metric, larger is better.
    rules: name -> [seeds, radii], with NaN where a run is missing or has diverged.
    radii: name -> the radii of its columns.
    """

    name: str
    base: np.ndarray
    rules: Mapping[str, np.ndarray]
    radii: Mapping[str, Sequence[float]]


class Standing(NamedTuple):
    """How a rule stands among others.

    gain: over the base, mean over cells and seeds, with an interval that holds for all rules together.
    first, last: the ranks that the data leave open to it; one rank where the two are equal.
    """

    name: str
    gain: intervals.Mean
    first: int
    last: int


def scores(cell: Cell, rule: str) -> tuple[np.ndarray, float] | None:
    """Score each seed of a rule at the radius that the other seeds choose.

    Returns: [seeds], and the radius that all seeds choose together; None where every radius lacks a run.
    """
    table = cell.rules[rule]
    whole = np.atleast_1d(np.isfinite(table).all(axis=0))
    if not whole.any():
        return None
    kept = table[:, whole]
    best = int(kept.sum(axis=0).argmax())
    radius = [float(rho) for rho, is_whole in zip(cell.radii[rule], whole, strict=True) if is_whole][best]
    return selection.cross_fit(kept, kept), radius


def rank(cells: Sequence[Cell], *, level: float = 0.95) -> list[Standing]:
    """Rank the rules that have a score in every cell, the base among them.

    Args:
      cells: with the same seeds and rules.
    Returns: the best first. A rule's ranks run from one more than the number of rules that are certainly better to the
      number of those that are not certainly worse; certain is a difference whose interval excludes 0, at the level of
      Šidák for all pairs. Differences are paired by seed, and Student's t is widened for scores that depend on each
      other, as `selection.stretch_of_scores`.
    """
    found = {BASE: np.mean([cell.base for cell in cells], axis=0)}
    for rule in cells[0].rules:
        scored = [scores(cell, rule) for cell in cells]
        if all(one is not None for one in scored):
            found[rule] = np.mean([one[0] for one in scored if one is not None], axis=0)
    most = max((len(cell.radii[rule]) for cell in cells for rule in cell.rules), default=1)
    pairs = list(itertools.combinations(found, 2))
    joint = intervals.sidak(len(pairs), level=level)
    num_seeds = len(cells[0].base)

    def difference(a: str, b: str, at: float) -> intervals.Mean:
        num_base = 1 if BASE in (a, b) else most
        # A base without noise of its own is the case that needs the widest intervals.
        stretch = selection.stretch_of_scores(num_seeds, most, num_base=num_base, ratio=0.0, level=at)
        return intervals.mean(found[a] - found[b], level=at, stretch=stretch)

    better: dict[str, set[str]] = {name: set() for name in found}  # those that are certainly better than the key
    for a, b in pairs:
        between = difference(a, b, joint)
        if between.low > 0:
            better[b].add(a)
        if between.high < 0:
            better[a].add(b)
    of_base = intervals.sidak(len(found) - 1, level=level)
    standings = [
        Standing(
            name=name,
            gain=intervals.Mean(0.0, 0.0, 0.0, 0.0) if name == BASE else difference(name, BASE, of_base),
            first=1 + len(better[name]),
            last=len(found) - sum(name in others for others in better.values()),
        )
        for name in found
    ]
    return sorted(standings, key=lambda one: -one.gain.mean)
