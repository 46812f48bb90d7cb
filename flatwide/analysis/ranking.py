"""Ranking of several SAM rules, with the ranks that the seeds leave open.

Every rule is scored like the gain: each seed at the radius that the other seeds choose for that rule. The scores of a
seed are averaged over blocks (a domain at a width), and the base optimizer is ranked as a rule without a radius.
"""

import itertools
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from flatwide.analysis import arms, estimates
from flatwide.analysis.arms import Arm, Comparison
from flatwide.analysis.estimates import Estimate

BASE = "base"


class Block(NamedTuple):
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

    gain: over the base, mean over blocks and seeds, with an interval that is joint over all rules.
    first, last: the range of ranks that the data leave open; a single rank where they are equal.
    """

    name: str
    gain: Estimate
    first: int
    last: int


def arm(block: Block, rule: str) -> Arm | None:
    """Arrange the runs of a rule, or of the base, at the radii without a missing run; None where there is none."""
    table = block.base[:, None] if rule == BASE else block.rules[rule]
    radii = (0.0,) if rule == BASE else block.radii[rule]
    whole = np.flatnonzero(np.isfinite(table).all(axis=0)).tolist()
    settings = tuple({"rho": float(radii[column])} for column in whole)
    values = table[:, whole]
    return Arm(settings, tuple(range(len(table))), values, values) if len(whole) else None


def compared(block: Block, rule: str, other: str = BASE) -> Comparison | None:
    """Compare a rule with another in one block; None where one of them has no radius without a missing run."""
    sam, base = arm(block, rule), arm(block, other)
    if sam is None or base is None:
        return None
    return Comparison(width=block.name, num_params=0, base=base, sam=sam, sign=1)


def rank(blocks: Sequence[Block], *, level: float = 0.95) -> list[Standing]:
    """Rank the rules that have a score in every block, including the base.

    Args:
      blocks: with the same seeds and rules.
    Returns: the best first. The ranks of a rule run from one more than the number of significantly better rules to the
      number of rules that are not significantly worse; a difference is significant if its interval excludes 0, at the
      Šidák level for all pairs.
    """
    names = [BASE, *(rule for rule in blocks[0].rules if all(arm(block, rule) is not None for block in blocks))]
    pairs = list(itertools.combinations(names, 2))
    joint = estimates.sidak(len(pairs), level=level)

    def difference(rule: str, other: str, at: float) -> Estimate:
        every = [comparison for block in blocks if (comparison := compared(block, rule, other)) is not None]
        return estimates.contrast(arms.scores(every), np.full(len(every), 1 / len(every)), level=at)

    better: dict[str, set[str]] = {name: set() for name in names}  # rules significantly better than the key
    for a, b in pairs:
        sign = difference(a, b, joint).sign
        better[b] |= {a} if sign > 0 else set()
        better[a] |= {b} if sign < 0 else set()
    against_base = estimates.sidak(len(names) - 1, level=level)
    standings = [
        Standing(
            name=name,
            gain=Estimate(value=0.0, error=0.0, degrees=1.0) if name == BASE else difference(name, BASE, against_base),
            first=1 + len(better[name]),
            last=len(names) - sum(name in others for others in better.values()),
        )
        for name in names
    ]
    return sorted(standings, key=lambda standing: -standing.gain.value)
