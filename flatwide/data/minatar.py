"""Breakout of MinAtar: a game on a board of 10 x 10 that is written in JAX, so that compiled programs can play it."""

import functools
import hashlib

import jax
import jax.numpy as jnp

from flatwide.data.files import DataError
from flatwide.data.played import Game, Games, Played, Turn
from flatwide.types import Array, Batch, Dataset, PyTree

NUM_ACTIONS = 3  # stay, left, right
SHAPE = (10, 10, 4)  # paddle, ball, its trail, bricks
LONGEST = 1000  # actions of one game, gymnax's own limit


def minatar_breakout(
    *,
    num_envs: int = 64,
    unroll_length: int = 128,
    update_epochs: int = 3,
    discount: float = 0.99,
    gae_lambda: float = 0.95,
    num_test_games: int = 32,
) -> Dataset:
    """Set up Breakout-MinAtar of gymnax: 1 point a brick, over when the ball is lost, stopped after 1,000 actions.

    Unlike the original it never repeats an action on its own. It starts in one of two positions, so all that tells
    games apart is what the network draws: it is scored by games in which it draws its actions, too.

    Args:
      num_envs: games that are played at once; unroll_length: actions of each in an epoch.
      update_epochs: how many times an epoch trains on each action.
      discount, gae_lambda: gamma and lambda of the advantages.
      num_test_games: whole games that an evaluation plays.
    Raises: DataError if gymnax is not installed.
    Source: Young and Tian (2019), MinAtar; gymnax 1.0.
    """
    played = Played(
        game=game(),
        num_envs=num_envs,
        unroll_length=unroll_length,
        update_epochs=update_epochs,
        discount=discount,
        gae_lambda=gae_lambda,
        num_test_games=num_test_games,
    )
    return Dataset(
        train=played,
        test=Games(played.game, num_test_games),
        prepare=prepare,
        example=jax.ShapeDtypeStruct(SHAPE, jax.dtypes.canonicalize_dtype(float)),
        num_outputs=NUM_ACTIONS,
        fingerprint=hashlib.sha256(b"gymnax 1 Breakout-MinAtar").hexdigest(),
    )


def prepare(batch: Batch, key: Array | None, *, train: bool) -> Batch:
    """Turn the marks of a board into numbers 0 and 1."""
    del key, train
    return {**batch, "inputs": batch["inputs"].astype(jax.dtypes.canonicalize_dtype(float))}


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
