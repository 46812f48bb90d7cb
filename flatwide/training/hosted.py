"""PPO and its evaluation for games that only the host can play.

The network's part of a turn is a compiled program; observations go to the device and actions come back once a turn. The
minibatches that follow are those of `rollouts`. The games under way are part of the run's state, down to the emulator's
bytes, and all randomness comes from the seed, so a resumed run gives the numbers of an undisturbed one.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from flatwide import streams
from flatwide.data.emulator import FRAME_SKIP, SEEN, Consoles, Emulator
from flatwide.data.played import Games, Turn
from flatwide.training import rollouts
from flatwide.training.evaluate import Interrupted
from flatwide.training.rollouts import Minibatches, Seen, no_targets
from flatwide.training.state import State, Values
from flatwide.types import Array, Batch, PyTree
from flatwide.workloads import Scores, Workload


class HostMinibatches(Minibatches):
    """The plan of PPO where the host plays: an epoch begins outside of the compiled program, with `play`."""

    def start(self, seed: Array) -> PyTree:
        """Begin the games, without examples until the first epoch begins."""
        del seed  # consoles start alike and differ by the randomness of each frame
        split = self.split
        _, playing = _consoles(split.game, split.num_envs)
        nothing = np.zeros((split.num_transitions, *SEEN), playing["observations"].dtype)
        return {"playing": playing, "examples": {"inputs": nothing, "targets": no_targets(split.num_transitions)}}

    def begin(self, values: Values, state: State, arrays: Batch) -> tuple[State, tuple[Batch, Array]]:
        """Draw the order of each of an epoch's passes over the examples."""
        del arrays  # there are none
        return state, self.material(values.seed, state)

    def play(self, values: Values, state: State) -> State:
        """Play the actions of the epoch that begins now.

        Cost: T + 1 passes of the network over N observations.
        """
        split, epoch = self.split, int(state.step) // self.steps_per_epoch
        consoles, _ = _consoles(split.game, split.num_envs)
        consoles.restore(jax.device_get(state.source["playing"]))
        shape = (split.unroll_length, split.num_envs)
        chances = streams.generator(int(values.seed), "games", epoch).random((*shape, FRAME_SKIP))
        key = jax.random.fold_in(streams.key(values.seed, "actions"), epoch)
        act, network = _compiled_act(self.workload), (state.params, state.stats, state.mask)
        observations = np.zeros((split.unroll_length, *consoles.observations.shape), consoles.observations.dtype)
        rewards, is_over, answers = np.zeros(shape, np.float32), np.zeros(shape, bool), []
        for time in range(split.unroll_length):
            observations[time] = consoles.observations
            answers.append(act(network, consoles.observations, key, np.int32(time)))
            turn = consoles.step(np.asarray(answers[-1][0]), chances[time])
            rewards[time], is_over[time] = np.sign(turn.rewards), turn.is_over
        last = act(network, consoles.observations, key, np.int32(split.unroll_length))
        actions, log_probabilities, expected = (
            np.stack(leaves) for leaves in zip(*jax.device_get(answers), strict=True)
        )
        next_values = np.concatenate([expected[1:], np.asarray(last[2])[None]])
        # A game that is stopped at its longest, some 30 minutes, counts as over, as in Flax's PPO example.
        ends: dict[str, Any] = {"reward": rewards, "terminated": is_over, "truncated": np.zeros_like(is_over)}
        answered: dict[str, Any] = {"actions": actions, "log_probabilities": log_probabilities, "values": expected}
        after = Turn(observation=None, successor=None, **ends)  # type: ignore[arg-type]
        seen = Seen(observations=observations, after=after, **answered)  # type: ignore[arg-type]
        batch = _examples(split.discount, split.gae_lambda)(seen, next_values, clip_factor=self.schedule(state.step))
        return state._replace(source={"playing": consoles.save(), "examples": batch})


def whole_games(
    workload: Workload, split: Games, *, interrupt: Callable[[], bool] = lambda: False
) -> Callable[[State], Scores]:
    """Build state -> scores of whole games, each action drawn from the network's probabilities.

    Games begin alike and differ by the randomness of each frame, which is the same for every network.

    Args:
      interrupt: called after each turn; once it returns true, `Interrupted` is raised.
    Returns: losses [G] are minus the points of a game, which are its prediction, as the game counts them.
    """
    act = _compiled_act(workload)

    def scores_of(state: State) -> Scores:
        consoles, start = _consoles(split.game, split.num_games)
        consoles.restore(start)
        network, key = (state.params, state.stats, state.mask), streams.key(split.seed, "test games")
        chance, time = streams.generator(split.seed, "test games"), 0
        points, is_played = np.zeros(split.num_games), np.ones(split.num_games, bool)
        while is_played.any():
            if interrupt():
                raise Interrupted
            actions = act(network, consoles.observations, key, np.int32(time))[0]
            turn = consoles.step(np.asarray(actions), chance.random((split.num_games, FRAME_SKIP)), played=is_played)
            points += turn.rewards
            is_played, time = is_played & ~turn.is_over, time + 1
        scores: tuple[Any, ...] = (-points, np.ones_like(points), points)
        return Scores(*scores)

    return scores_of


@functools.lru_cache(maxsize=4)
def _consoles(emulator: Emulator, num_games: int) -> tuple[Consoles, PyTree]:
    """Switch on consoles, which takes a tenth of a second each, and save the start of their games."""
    consoles = Consoles(emulator, num_games)
    return consoles, consoles.save()


@functools.lru_cache(maxsize=64)
def _compiled_act(workload: Workload) -> Callable[..., tuple[Array, Array, Array]]:
    """Compile the network's part of a turn: its actions, their log probabilities, and the values it predicts."""

    def act(network: tuple[PyTree, PyTree, PyTree], observations: Array, key: Array, time: Array):
        logits, values = rollouts.policy_of(workload, *network)(observations)
        actions = jax.random.categorical(jax.random.fold_in(key, time), logits)
        return actions, rollouts.log_probability(logits, actions), values

    return jax.jit(act)


@functools.lru_cache(maxsize=64)
def _examples(discount: float, gae_lambda: float) -> Callable[..., Batch]:
    return jax.jit(functools.partial(rollouts.examples, discount=discount, gae_lambda=gae_lambda))
