"""Breakout of MinAtar: a game on a board of 10 x 10 that is written in JAX, so that compiled programs can play it."""

import functools
import hashlib

import jax
import jax.numpy as jnp

from flatwide.data import pixels, played
from flatwide.data.files import DataError
from flatwide.data.played import Game, Turn
from flatwide.types import Array, PyTree

LONGEST = 1000  # actions of one game, gymnax's own limit


def _breakout() -> played.Source:
    """Set up Breakout-MinAtar of gymnax: 1 point a brick, over when the ball is lost, stopped after 1,000 actions.

    Unlike the original it never repeats an action on its own. It starts in one of two positions, so all that tells
    games apart is what the network draws: it is scored by games in which it draws its actions, too.

    Source: Young and Tian (2019), MinAtar; gymnax 1.0.
    """
    return played.Source(
        game=game(),
        shape=(10, 10, 4),  # paddle, ball, its trail, bricks
        num_actions=3,  # stay, left, right
        prepare=pixels.scaling(largest=1),  # marks
        fingerprint=hashlib.sha256(b"gymnax 1 Breakout-MinAtar").hexdigest(),
    )


minatar_breakout = functools.partial(played.load, _breakout, num_envs=64, num_test_games=32)


@functools.cache
def game() -> Game:
    """Wrap gymnax's game; the same functions again, so that programs are shared.

    Raises: DataError if gymnax is not installed.
    """
    try:
        from gymnax.environments.minatar.breakout import MinBreakout
    except ImportError as error:
        raise DataError(
            f"config.dataset='minatar_breakout': gymnax, whose wheel holds the game, cannot be imported ({error}); "
            "install it by pip install 'flatwide[games]'."
        ) from error
    breakout = MinBreakout()

    def reset(key: Array) -> tuple[PyTree, Array]:
        observation, state = breakout.reset(key)
        return jax.tree.map(jnp.asarray, state), observation.astype(bool)

    def step(key: Array, state: PyTree, action: Array) -> tuple[PyTree, Turn]:
        observation, after, reward, terminated, truncated, info = breakout.step(key, state, action)
        after = jax.tree.map(lambda new, old: new.astype(old.dtype), after, state)
        successor = info["final_observation"].astype(bool)
        # A game that is lost with its last action is over, and not only stopped.
        turn = Turn(
            observation=observation.astype(bool),
            successor=successor,
            reward=reward,
            terminated=terminated,
            truncated=truncated & ~terminated,
        )
        return after, turn

    return Game(reset, step, LONGEST)
