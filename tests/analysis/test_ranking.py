"""Ranks of rules whose order is known."""

import numpy as np
import pytest

from flatwide.analysis import ranking

RADII = (0.1, 0.2, 0.4)


def made(lifts, *, seeds=8, noise=0.01, cells=3, generator=None):
    """Make cells in which a rule is better than the base by so much at the middle radius, less at the others."""
    generator = generator or np.random.default_rng(3)
    standings_found = []
    for cell in range(cells):
        base = 0.6 + noise * generator.standard_normal(seeds)
        rules = {
            name: 0.6 + lift - np.array([0.05, 0.0, 0.05]) + noise * generator.standard_normal((seeds, 3))
            for name, lift in lifts.items()
        }
        standings_found.append(
            ranking.Block(name=f"cell {cell}", base=base, rules=rules, radii=dict.fromkeys(rules, RADII))
        )
    return standings_found


def test_what_is_far_apart_is_ordered():
    standings = ranking.rank(made({"a": 0.1, "b": 0.2, "c": -0.1}))
    assert [(standing.name, standing.first, standing.last) for standing in standings] == [
        ("b", 1, 1),
        ("a", 2, 2),
        (ranking.BASE, 3, 3),
        ("c", 4, 4),
    ]
    gains = {standing.name: standing.gain for standing in standings}
    assert gains["b"].low < 0.2 < gains["b"].high
    assert gains["c"].high < 0


def test_what_is_alike_keeps_all_its_ranks():
    standings = ranking.rank(made({"a": 0.2, "b": 0.2, "c": -0.2}))
    ranks = {standing.name: (standing.first, standing.last) for standing in standings}
    assert ranks == {"a": (1, 2), "b": (1, 2), ranking.BASE: (3, 3), "c": (4, 4)}


def test_each_seed_is_scored_at_the_radius_of_the_others():
    table = np.array([[1.0, 0.0], [0.0, 0.9], [0.0, 0.9]])
    cell = ranking.Block(name="one", base=np.zeros(3), rules={"a": table}, radii={"a": (0.1, 0.2)})
    compared = ranking.compared(cell, "a")
    scores, radius = compared.scored.values[0], compared.sam.settings[compared.chosen[1]]["rho"]
    assert scores.tolist() == [0.0, 0.0, 0.0]  # the others of seed 0 choose 0.2; those of 1 and 2 choose 0.1
    assert radius == 0.2


def test_a_radius_with_a_diverged_run_is_not_chosen():
    cells = made({"a": 0.2})
    cells[0].rules["a"][0, 1] = np.nan
    compared = ranking.compared(cells[0], "a")
    radius = compared.sam.settings[compared.chosen[1]]["rho"]
    assert radius in (0.1, 0.4)
    cells[0].rules["a"][0] = np.nan
    assert ranking.compared(cells[0], "a") is None
    assert [standing.name for standing in ranking.rank(cells)] == [ranking.BASE]


@pytest.mark.parametrize("seeds", [3, 8])
@pytest.mark.slow
def test_equal_rules_are_rarely_distinguished(seeds):
    generator = np.random.default_rng(0)
    wrong = 0
    for _ in range(200):
        standings = ranking.rank(made(dict.fromkeys("abcd", 0.05), seeds=seeds, noise=0.02, generator=generator))
        ranks = {
            standing.name: (standing.first, standing.last) for standing in standings if standing.name != ranking.BASE
        }
        wrong += any(ranks_of_rule[0] > 2 or ranks_of_rule[1] < 4 for ranks_of_rule in ranks.values())
    assert wrong <= 20  # 10 of 200 are expected at most, by the 95 % that all pairs share
