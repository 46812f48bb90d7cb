"""Splits whose examples come from playing a game with a network."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple, NoReturn

import jax
import numpy as np

from flatwide.types import Array, Batch, Dataset, PyTree


class Turn(NamedTuple):
    """The outcome of one action.

    observation: what the next action answers; where the game has ended, the first one of a new game.
    successor: what the action led to, also where the game has ended.
    terminated: the game is over. truncated: it was stopped at its longest, and would have gone on.
    """

    observation: Array
    successor: Array
    reward: Array
    terminated: Array
    truncated: Array


class Game(NamedTuple):
    """A game of one player as pure functions that can be compiled; where one ends, a new one begins by itself.

    reset(key) -> (state, observation); step(key, state, action) -> (state, turn), the state in its own dtypes.
    longest: actions after which a game is stopped.
    """

    reset: Callable[[Array], tuple[PyTree, Array]]
    step: Callable[[Array, PyTree, Array], tuple[PyTree, Turn]]
    longest: int


class _NoExamples:
    """The parts of a split that need examples."""

    @property
    def targets(self) -> np.ndarray:
        """Return none: the training examples come from playing."""
        return np.zeros(0, np.int32)

    @property
    def arrays(self) -> dict[str, Any]:
        """Return none."""
        return {}

    def take(self, *arguments: Any, **options: Any) -> NoReturn:
        """Refuse: there is nothing to select from, and batches come from a network that plays."""
        raise ValueError(
            "a split that comes from playing a game has no examples to select or to change, and no batches before a "
            "network has played (see flatwide.training.rollouts): set config.validation_fraction=0, "
            "config.train_examples=None and config.label_noise=0."
        )

    with_targets = batches = take


@dataclass(frozen=True)
class Played(_NoExamples):
    """A training split: an epoch plays `num_envs` games for `unroll_length` actions each, by the network as it is.

    game: any hashable description; a `Game` is played inside the compiled program.
    update_epochs: how many times an epoch trains on each action.
    discount, gae_lambda: of `rollouts.advantages`.
    num_test_games: whole games that score the network; those of this split have other random numbers than the test's.
    """

    game: Any
    num_envs: int
    unroll_length: int
    update_epochs: int
    discount: float
    gae_lambda: float
    num_test_games: int

    @property
    def num_examples(self) -> int:
        """Count the actions that an epoch trains on, each as often as it is used."""
        return self.num_transitions * self.update_epochs

    @property
    def num_transitions(self) -> int:
        """Count the actions that an epoch plays."""
        return self.num_envs * self.unroll_length

    @property
    def games(self) -> "Games":
        """Return whole games for scoring, with other random numbers than those of the test split."""
        return Games(self.game, self.num_test_games, seed=1)


@dataclass(frozen=True)
class Games(_NoExamples):
    """A test split: whole games, the same random numbers for every network and every seed of a run."""

    game: Any
    num_games: int
    seed: int = 0

    @property
    def num_examples(self) -> int:
        """Count the games."""
        return self.num_games


class Source(NamedTuple):
    """A game, its observations (shape, and how they are prepared for the network), actions, and digest."""

    game: Any
    shape: tuple[int, ...]
    num_actions: int
    prepare: Callable[..., Batch]
    fingerprint: str


def load(
    source: Callable[[], Source],
    *,
    num_envs: int = 8,
    unroll_length: int = 128,
    update_epochs: int = 3,
    discount: float = 0.99,
    gae_lambda: float = 0.95,
    num_test_games: int = 8,
) -> Dataset:
    """Set up a game.

    Args:
      num_envs: games that are played at once; unroll_length: actions of each in an epoch.
      update_epochs: how many times an epoch trains on each action.
      discount, gae_lambda: gamma and lambda of the advantages.
      num_test_games: whole games that an evaluation plays.
    Raises: DataError if the package that holds the game is not installed.
    """
    game, shape, num_actions, prepare, fingerprint = source()
    played = Played(
        game=game,
        num_envs=num_envs,
        unroll_length=unroll_length,
        update_epochs=update_epochs,
        discount=discount,
        gae_lambda=gae_lambda,
        num_test_games=num_test_games,
    )
    return Dataset(
        train=played,
        test=Games(game, num_test_games),
        prepare=prepare,
        example=jax.ShapeDtypeStruct(shape, jax.dtypes.canonicalize_dtype(float)),
        num_outputs=num_actions,
        fingerprint=fingerprint,
    )
