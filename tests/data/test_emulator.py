import importlib.util
import sys

import numpy as np
import pytest

from flatwide.data import emulator
from flatwide.data.emulator import Consoles, Emulator, digest, shrink
from flatwide.data.files import DataError

needs_ale = pytest.mark.skipif(importlib.util.find_spec("ale_py") is None, reason="ale-py is not installed")


def played(consoles: Consoles, turns: int, *, seed: int = 0) -> list:
    """Play at random, and keep all that can be seen."""
    generator, seen = np.random.default_rng(seed), []
    for _ in range(turns):
        num_games = len(consoles.observations)
        actions = generator.integers(consoles.num_actions, size=num_games)
        turn = consoles.step(actions, generator.random((num_games, 4)))
        seen.append((consoles.observations.copy(), turn.rewards, turn.is_over))
    return seen


def assert_same(first: list, second: list) -> None:
    for step, other_step in zip(first, second, strict=True):
        for left, right in zip(step, other_step, strict=True):
            np.testing.assert_array_equal(left, right)


def test_a_shrunk_pixel_is_the_mean_over_its_area():
    screens = np.random.default_rng(0).integers(0, 256, (2, 210, 160)).astype(np.uint8)
    # Each pixel as often as its area holds parts of 1/2 row and 1/21 column.
    fine = np.repeat(np.repeat(screens, 2, axis=1), 21, axis=2).astype(np.int64)
    exact = fine.reshape(2, 84, 5, 84, 40).mean(axis=(2, 4))
    np.testing.assert_array_equal(shrink(screens), np.floor(exact + 0.5).astype(np.uint8))
    assert shrink(np.full((1, 210, 160), 255, np.uint8)).min() == 255


@needs_ale
def test_breakout_is_the_real_game():
    consoles = Consoles(Emulator("breakout"), 2)
    assert consoles.num_actions == 4
    assert consoles.observations.shape == (2, 84, 84, 4)
    np.testing.assert_array_equal(consoles.observations[..., 0], consoles.observations[..., 3])
    seen = played(consoles, 400)
    rewards, over = np.array([s[1] for s in seen]), np.array([s[2] for s in seen])
    assert rewards.sum() >= 2  # some bricks fall even so
    assert set(rewards[rewards > 0].tolist()) <= {1.0, 4.0, 7.0}  # what bricks are worth
    assert over.any(axis=0).all()  # five lives do not last
    game_over = tuple(np.argwhere(over)[0])
    after = seen[game_over[0]][0][game_over[1]]
    np.testing.assert_array_equal(after[..., 0], after[..., 3])  # a new game, of which one screen is known


@needs_ale
def test_games_go_on_from_what_was_saved_as_if_they_had_never_stopped():
    consoles, others = Consoles(Emulator("breakout"), 2), Consoles(Emulator("breakout"), 2)
    played(consoles, 60, seed=1)
    saved = consoles.save()
    whole = played(consoles, 250, seed=2)
    assert any(over.any() for _, _, over in whole)  # past the end of a game too
    played(others, 37, seed=3)
    others.restore(saved)
    assert_same(played(others, 250, seed=2), whole)


@needs_ale
def test_chances_decide_whether_an_action_is_held():
    start = Consoles(Emulator("breakout"), 1).save()

    def screens(chances: list[float], probability: float) -> np.ndarray:
        consoles = Consoles(Emulator("breakout", repeat_action_probability=probability), 1)
        consoles.restore(start)
        right, seen = np.array([2]), []
        for chance in chances:
            consoles.step(right, np.full((1, 4), chance))
            seen.append(consoles.observations[..., -1])
        return np.array(seen)

    never, always = screens([0.25] * 3, 0.25), screens([0.2] * 3, 0.25)
    np.testing.assert_array_equal(never, screens([0.2] * 3, 0.0))
    assert (never != always).any()  # the paddle moves, or it stands where the game began


@needs_ale
def test_a_game_is_stopped_at_its_longest():
    consoles, still = Consoles(Emulator("breakout", longest=5), 1), np.zeros(1, np.int64)
    over = [bool(consoles.step(still, np.ones((1, 4))).is_over[0]) for _ in range(10)]
    assert over == [False] * 4 + [True] + [False] * 4 + [True]


@needs_ale
def test_the_digest_tells_settings_apart():
    assert digest(Emulator("breakout")) == digest(Emulator("breakout"))
    assert digest(Emulator("breakout")) != digest(Emulator("breakout", repeat_action_probability=0.0))


def test_without_the_emulator_the_extra_is_named(monkeypatch):
    emulator._ale.cache_clear()
    monkeypatch.setitem(sys.modules, "ale_py", None)
    with pytest.raises(DataError, match=r"ale-py.*flatwide\[atari\]"):
        Consoles(Emulator("breakout"), 1)
    emulator._ale.cache_clear()
