"""PPO and its evaluation for games that are part of the compiled program.

An epoch is one iteration of PPO: play, estimate advantages, then several passes over the transitions, in minibatches.
All functions are deterministic: equal arguments give equal games.
"""

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from flatwide import objectives, streams, trees
from flatwide.data.played import Game, Games, Played, Turn
from flatwide.training.state import State, Values
from flatwide.types import Array, Batch, PyTree
from flatwide.workloads import Scores, Workload

_SMALLEST_DEVIATION = 1e-8  # of the advantages of a batch, as in Flax's PPO example


class Playing(NamedTuple):
    """Games under way; leaves [N, ...], one a game."""

    states: PyTree
    observations: Array


class Seen(NamedTuple):
    """One action of each game, or several, one after the other; leaves [N, ...] or [T, N, ...].

    values: predicted for the observations. after: what the actions led to.
    """

    observations: Array
    actions: Array
    log_probabilities: Array
    values: Array
    after: Turn


# policy(observations [N, ...]) -> (logits [N, A], values [N])
Policy = Callable[[Array], tuple[Array, Array]]


def policy_of(workload: Workload, params: PyTree, stats: PyTree, mask: PyTree | None) -> Policy:
    """Build the policy of a network in evaluation mode."""
    params = trees.apply_mask(params, mask)

    def policy(observations: Array) -> tuple[Array, Array]:
        inputs = workload.prepare({"inputs": observations}, None, train=False)["inputs"]
        outputs, _ = workload.model.apply(params, stats, inputs, train=False, key=None)
        return objectives.policy_and_values(outputs)

    return policy


def new_games(game: Game, key: Array, num_games: int) -> Playing:
    """Begin N games."""
    return Playing(*jax.vmap(game.reset)(jax.random.split(key, num_games)))


def take_turn(game: Game, policy: Policy, playing: Playing, key: Array) -> tuple[Playing, Seen]:
    """Play one action of each game."""
    draw, chance = jax.random.split(key)
    logits, values = policy(playing.observations)
    actions = jax.random.categorical(draw, logits)
    states, after = jax.vmap(game.step)(jax.random.split(chance, len(actions)), playing.states, actions)
    seen = Seen(
        observations=playing.observations,
        actions=actions,
        log_probabilities=log_probability(logits, actions),
        values=values,
        after=after,
    )
    return Playing(states, after.observation), seen


def next_values(policy: Policy, seen: Seen) -> Array:
    """Predict the value of what each action led to, [T, N].

    No action answers the last observation of a game that was stopped, so the network sees it only here.
    """
    successors = seen.after.successor
    return policy(successors.reshape(-1, *successors.shape[2:]))[1].reshape(seen.values.shape)


def log_probability(logits: Array, actions: Array) -> Array:
    """Compute the log probability of each action, [...] for logits [..., A]."""
    return jnp.take_along_axis(jax.nn.log_softmax(logits), actions[..., None], axis=-1)[..., 0]


def advantages(seen: Seen, next_values: Array, *, discount: float, gae_lambda: float) -> Array:
    """Estimate the advantage of each action over the average action of the policy.

    Args:
      seen: [T, N], in the order of play; its values and outcomes are read.
      next_values: [T, N], of the observation that the action led to, before any new game.
    Returns: [T, N]. After the last action, and after a game that was stopped, the return is the predicted value; after
      a game that is over it is 0.
    Equation: A_t = d_t + gamma lambda [game goes on] A_{t+1}, with d_t = r_t + gamma [not over] V(s'_t) - V(s_t).
    Source: Schulman et al. (2016), High-dimensional continuous control using generalized advantage estimation.
    """
    values, after = seen.values, seen.after
    surprises = after.reward.astype(values.dtype) + discount * jnp.where(after.terminated, 0, next_values) - values

    def back(later: Array, at: tuple[Array, Array]):
        surprise, ended = at
        advantage = surprise + discount * gae_lambda * jnp.where(ended, 0, later)
        return advantage, advantage

    start = jnp.zeros_like(surprises[0])
    return jax.lax.scan(back, start, (surprises, after.terminated | after.truncated), reverse=True)[1]


def examples(
    seen: Seen, next_values: Array, *, discount: float, gae_lambda: float, clip_factor: Array | float
) -> Batch:
    """Turn what was played into a raw batch of T N examples for the objective `ppo`, first actions of all games first.

    Args:
      clip_factor: multiplies the objective's clip ratio.
    Returns: inputs, the observations; targets: action, log_probability, advantage, return, clip_factor.
    """
    estimated = advantages(seen, next_values, discount=discount, gae_lambda=gae_lambda)
    targets = {
        "action": seen.actions,
        "log_probability": seen.log_probabilities,
        "advantage": estimated,
        "return": estimated + seen.values,
        "clip_factor": jnp.full_like(estimated, clip_factor),
    }
    batch = {"inputs": seen.observations, "targets": targets}
    return jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:]), batch)


def no_targets(num_examples: int) -> dict[str, Array]:
    """Return targets of the shapes that `examples` returns, all 0."""
    numbers = dict.fromkeys(("log_probability", "advantage", "return", "clip_factor"), float)
    return {name: jnp.zeros(num_examples, dtype) for name, dtype in ({"action": int} | numbers).items()}


def normalized(batch: Batch) -> Batch:
    """Standardize the advantages of a batch to mean 0 and standard deviation 1."""
    advantage = batch["targets"]["advantage"]
    advantage = (advantage - jnp.mean(advantage)) / (jnp.std(advantage) + _SMALLEST_DEVIATION)
    return {**batch, "targets": {**batch["targets"], "advantage": advantage}}


class Minibatches(NamedTuple):
    """The plan of PPO: batches drawn from what the network played when the epoch began.

    schedule: step -> factor of the learning rate; that of an epoch's first step multiplies the clip ratio.
    """

    workload: Workload
    split: Played
    batch_size: int
    schedule: Callable[[Array], Array]

    @property
    def steps_per_epoch(self) -> int:
        """Steps of an epoch, whose last batch is completed from the start of its order."""
        return -(-self.split.num_examples // self.batch_size)

    def start(self, seed: Array) -> PyTree:
        """Begin the games, without examples until the first epoch begins."""
        split, key = self.split, streams.key(seed, "games")
        playing = new_games(split.game, key, split.num_envs)
        inputs = playing.observations
        nothing = jnp.zeros((split.num_transitions, *inputs.shape[1:]), inputs.dtype)
        return {"playing": playing, "examples": {"inputs": nothing, "targets": no_targets(split.num_transitions)}}

    def begin(self, values: Values, state: State, arrays: Batch) -> tuple[State, tuple[Batch, Array]]:
        """Play if this is the epoch's first step, and draw the order of each of its passes."""
        del arrays  # there are none
        is_first = state.step % self.steps_per_epoch == 0
        source = jax.lax.cond(is_first, self._play, lambda _, state: state.source, values, state)
        return state._replace(source=source), self.material(values.seed, state._replace(source=source))

    def material(self, seed: Array, state: State) -> tuple[Batch, Array]:
        """Return what the batches of an epoch are drawn from: its examples, and the orders of its passes."""
        return state.source["examples"], self._order(seed, state.step // self.steps_per_epoch)

    def play(self, values: Values, state: State) -> State:
        """Play the examples of the epoch that begins now."""
        return state._replace(source=_compiled_play(self)(values, state))

    def batch(self, material: tuple[Batch, Array], arrays: Batch, within: Array) -> Batch:
        """Gather the examples of a step, with normalized advantages."""
        del arrays
        played, order = material
        chosen = jax.lax.dynamic_slice(order, (within * self.batch_size,), (self.batch_size,))
        return normalized(jax.tree.map(lambda array: array[chosen], played))

    def _play(self, values: Values, state: State) -> PyTree:
        split = self.split
        key = jax.random.fold_in(streams.key(values.seed, "actions"), state.step // self.steps_per_epoch)
        policy = policy_of(self.workload, state.params, state.stats, state.mask)
        playing, keys = Playing(*state.source["playing"]), jax.random.split(key, split.unroll_length)
        playing, seen = jax.lax.scan(functools.partial(take_turn, split.game, policy), playing, keys)
        options = {"discount": split.discount, "gae_lambda": split.gae_lambda, "clip_factor": self.schedule(state.step)}
        batch = examples(seen, next_values(policy, seen), **options)
        return {"playing": playing, "examples": batch}

    def _order(self, seed: Array, epoch: Array) -> Array:
        """Draw a permutation for each pass, one after the other."""
        key = jax.random.fold_in(streams.key(seed, "order"), epoch)
        keys = jax.random.split(key, self.split.update_epochs)
        orders = jax.vmap(lambda key: streams.permutation(key, self.split.num_transitions))(keys)
        return jnp.resize(orders, (self.steps_per_epoch * self.batch_size,))


@functools.lru_cache(maxsize=64)
def _compiled_play(plan: Minibatches) -> Callable[[Values, State], PyTree]:
    return jax.jit(plan._play)


def whole(state: State) -> Batch:
    """Return all examples as one batch, with normalized advantages and the full clip ratio."""
    batch = normalized(state.source["examples"])
    factor = jnp.ones_like(batch["targets"]["clip_factor"])
    return {**batch, "targets": {**batch["targets"], "clip_factor": factor}}


class WholeGames(NamedTuple):
    """Score a network by whole games, each action drawn from its probabilities.

    The network was trained by drawing actions, not by taking the likeliest. And where a game is deterministic, as
    MinAtar's Breakout after its first position, always taking the likeliest action repeats a few games.
    """

    split: Games

    def __call__(self, workload: Workload, state: State, arrays: Batch) -> Scores:
        """Trace the scores: losses [G] are minus the sum of a game's rewards, which is its prediction."""
        del arrays  # there are none
        game, num_games = self.split.game, self.split.num_games
        policy = policy_of(workload, state.params, state.stats, state.mask)
        begin, draw = jax.random.split(streams.key(self.split.seed, "test games"))

        def unfinished(carry):
            time, _, _, is_over = carry
            return (time < game.longest) & ~jnp.all(is_over)

        def turn(carry):
            time, playing, returns, is_over = carry
            playing, seen = take_turn(game, policy, playing, jax.random.fold_in(draw, time))
            returns += jnp.where(is_over, 0, seen.after.reward.astype(returns.dtype))
            is_over |= seen.after.terminated | seen.after.truncated
            return time + 1, playing, returns, is_over

        returns = jnp.zeros(num_games, float)
        start = (jnp.int32(0), new_games(game, begin, num_games), returns, jnp.zeros(num_games, bool))
        _, _, returns, _ = jax.lax.while_loop(unfinished, turn, start)
        return Scores(-returns, jnp.ones_like(returns), returns)
