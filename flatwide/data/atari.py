"""Atari's Breakout: the real game, which the host plays."""

import jax

from flatwide.data import emulator
from flatwide.data.emulator import Emulator
from flatwide.data.played import Games, Played
from flatwide.types import Array, Batch, Dataset

# Breakout-v5: a quarter of all frames repeats the action before, and a game ends after half an hour.
BREAKOUT = Emulator("breakout", repeat_action_probability=0.25, longest=27_000)
NUM_ACTIONS = 4  # stay, fire, right, left
LIGHTEST = 255


def atari_breakout(
    *,
    num_envs: int = 8,
    unroll_length: int = 128,
    update_epochs: int = 3,
    discount: float = 0.99,
    gae_lambda: float = 0.95,
    num_test_games: int = 8,
) -> Dataset:
    """Set up Breakout-v5: five lives, and 1, 4 or 7 points a brick, of which training sees the sign.

    An action is held for 4 frames; the network sees the latest 4 screens, 84 x 84 pixels in grey. Losing a life ends
    nothing, and a game begins without random moves: the network itself must fire to get a ball.

    Args:
      num_envs: games that are played at once; unroll_length: actions of each in an epoch.
      update_epochs: how many times an epoch trains on each action.
      discount, gae_lambda: gamma and lambda of the advantages.
      num_test_games: whole games that an evaluation plays.
    Raises: DataError if ale-py is not installed.
    Source: Machado et al. (2018), Revisiting the Arcade Learning Environment, for the repeated actions; Flax's PPO
      example for the rest.
    """
    played = Played(
        game=BREAKOUT,
        num_envs=num_envs,
        unroll_length=unroll_length,
        update_epochs=update_epochs,
        discount=discount,
        gae_lambda=gae_lambda,
        num_test_games=num_test_games,
    )
    return Dataset(
        train=played,
        test=Games(BREAKOUT, num_test_games),
        prepare=prepare,
        example=jax.ShapeDtypeStruct(emulator.SEEN, jax.dtypes.canonicalize_dtype(float)),
        num_outputs=NUM_ACTIONS,
        fingerprint=emulator.digest(BREAKOUT),
    )


def prepare(batch: Batch, key: Array | None, *, train: bool) -> Batch:
    """Bring the grey of a screen to [0, 1]."""
    del key, train
    return {**batch, "inputs": batch["inputs"].astype(jax.dtypes.canonicalize_dtype(float)) / LIGHTEST}
