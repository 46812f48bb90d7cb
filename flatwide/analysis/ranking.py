"""Ranking of several SAM rules, with the ranks that the seeds leave open.

Every rule is scored like the gain: each seed at the radius that the other seeds choose for that rule. The scores of a
seed are averaged over cells (a domain at a width), and the base optimizer is ranked as a rule without a radius.
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
    """The rank of a rule among others.

    gain: over the base, mean over cells and seeds, with an interval that is joint over all rules.
    first, last: the range of ranks that the data leave open; a single rank where they are equal.
    """

    name: str
    gain: intervals.Mean
    first: int
    last: int


def scores(cell: Cell, rule: str) -> tuple[np.ndarray, float] | None:
    """Score each seed of a rule at the radius that the other seeds choose.

    Returns: [seeds], and the radius that all seeds choose together; None where every radius has a missing run.
    """
    table = cell.rules[rule]
    whole = np.atleast_1d(np.isfinite(table).all(axis=0))
    if not whole.any():
        return None
    complete = table[:, whole]
    best = int(complete.sum(axis=0).argmax())
    radius = [float(rho) for rho, is_whole in zip(cell.radii[rule], whole, strict=True) if is_whole][best]
    return selection.cross_fit(complete, complete), radius


def rank(cells: Sequence[Cell], *, level: float = 0.95) -> list[Standing]:
    """Rank the rules that have a score in every cell, including the base.

    Args:
      cells: with the same seeds and rules.
    Returns: the best first. The ranks of a rule run from one more than the number of significantly better rules to the
      number of rules that are not significantly worse; a difference is significant if its interval excludes 0, at the
      Šidák level for all pairs. Differences are paired by seed, and Student's t is widened for dependent scores, as in
      `selection.stretch_of_scores`.
    """
    scores_of_rules = {BASE: np.mean([cell.base for cell in cells], axis=0)}
    for rule in cells[0].rules:
        scored = [scores(cell, rule) for cell in cells]
        if all(scored_cell is not None for scored_cell in scored):
            scores_of_rules[rule] = np.mean(
                [scored_cell[0] for scored_cell in scored if scored_cell is not None], axis=0
            )
    most = max((len(cell.radii[rule]) for cell in cells for rule in cell.rules), default=1)
    pairs = list(itertools.combinations(scores_of_rules, 2))
    joint = intervals.sidak(len(pairs), level=level)
    num_seeds = len(cells[0].base)

    def difference(a: str, b: str, at: float) -> intervals.Mean:
        num_base = 1 if BASE in (a, b) else most
        # A base without noise needs the widest intervals.
        stretch = selection.stretch_of_scores(num_seeds, most, num_base=num_base, ratio=0.0, level=at)
        return intervals.mean(scores_of_rules[a] - scores_of_rules[b], level=at, stretch=stretch)

    better: dict[str, set[str]] = {name: set() for name in scores_of_rules}  # rules significantly better than the key
    for a, b in pairs:
        between = difference(a, b, joint)
        if between.low > 0:
            better[b].add(a)
        if between.high < 0:
            better[a].add(b)
    of_base = intervals.sidak(len(scores_of_rules) - 1, level=level)
    standings = [
        Standing(
            name=name,
            gain=intervals.Mean(0.0, 0.0, 0.0, 0.0) if name == BASE else difference(name, BASE, of_base),
            first=1 + len(better[name]),
            last=len(scores_of_rules) - sum(name in others for others in better.values()),
        )
        for name in scores_of_rules
    ]
    return sorted(standings, key=lambda standing: -standing.gain.mean)
