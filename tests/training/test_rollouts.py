"""Rollouts of a small made game: advantages against loops, orders, and epochs cut at any step."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from flatwide import objectives, optimizers, sam, schedules
from flatwide.data.played import Game, Games, Played, Turn
from flatwide.training import rollouts
from flatwide.training.evaluate import compiled_scores, summarize
from flatwide.training.rollouts import Minibatches, WholeGames
from flatwide.training.segments import advance_to, resident_segment
from flatwide.training.state import State, Values
from flatwide.training.step import make_step
from flatwide.types import Model
from flatwide.workloads import Workload

GOAL, LONGEST = 3, 5
VALUES = Values(*map(jnp.float32, (0.05, 0.1, 0)), seed=jnp.uint32(3))


class Walk(NamedTuple):
    position: jax.Array
    time: jax.Array


def _seen(walk: Walk) -> jax.Array:
    return jnp.stack([walk.position, walk.time]).astype(jnp.uint8)


def reset(key):
    """Stand at 0 or 1."""
    walk = Walk(jax.random.bernoulli(key).astype(jnp.int32), jnp.int32(0))
    return walk, _seen(walk)


def step(key, walk, action):
    """Move one position with action 1, for a point; the goal ends the game, and so does the longest time."""
    after = Walk(walk.position + action.astype(jnp.int32), walk.time + 1)
    terminated = after.position >= GOAL
    truncated = (after.time >= LONGEST) & ~terminated
    again, seen_again = reset(key)
    ended = terminated | truncated
    nxt = jax.tree.map(lambda new, old: jnp.where(ended, new, old), again, after)
    turn = Turn(jnp.where(ended, seen_again, _seen(after)), _seen(after), action.astype(float), terminated, truncated)
    return nxt, turn


GAME = Game(reset, step, LONGEST)
SPLIT = Played(GAME, num_envs=3, unroll_length=8, update_epochs=2, discount=0.9, gae_lambda=0.8, num_test_games=6)


def linear_player() -> Model:
    def init(key):
        return {"kernel": 0.1 * jax.random.normal(key, (2, 3))}, {}

    def apply(params, stats, inputs, *, train, key):
        outputs = inputs @ params["kernel"]
        return {"logits": outputs[:, :2], "values": outputs[:, 2]}, stats

    return Model(init, apply)


def prepare(batch, key, *, train):
    return {**batch, "inputs": batch["inputs"].astype(float)}


WORKLOAD = Workload(prepare, linear_player(), objectives.ppo(2))
SCHEDULE = schedules.build("linear", num_steps=15)
OPTIMIZER = optimizers.build("adam", gradient_clip=0.5)
PLAN = Minibatches(WORKLOAD, SPLIT, 10, SCHEDULE)  # 48 examples: 5 steps, the last of them completed
STEP = make_step(WORKLOAD, optimizer=OPTIMIZER, variant=sam.normalized, schedule=SCHEDULE, one_pass=False)


def begun(seed: int = 3) -> State:
    params, stats = WORKLOAD.model.init(jax.random.key(seed))
    return State(jnp.int32(0), params, stats, OPTIMIZER.init(params), (), None, PLAN.start(jnp.uint32(seed)))


def trained(*stops: int) -> tuple[State, np.ndarray]:
    segment, state, losses = resident_segment(STEP, {}, plan=PLAN), begun(), []
    for stop in stops:
        state, segment_losses, _ = segment(VALUES, state, stop)
        losses.append(segment_losses)
    return state, np.concatenate(losses)


def by_hand(rewards, values, next_values, terminated, truncated, discount, gae_lambda):
    """Sum the surprises that follow each action, one by one, until its game or the rollout ends."""
    estimated = np.zeros_like(rewards)
    for time, game in np.ndindex(*rewards.shape):
        factor = 1.0
        for later in range(time, len(rewards)):
            expected = 0.0 if terminated[later, game] else next_values[later, game]
            surprise = rewards[later, game] + discount * expected - values[later, game]
            estimated[time, game] += factor * surprise
            if terminated[later, game] or truncated[later, game]:
                break
            factor *= discount * gae_lambda
    return estimated


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize(("discount", "gae_lambda"), [(0.99, 0.95), (0.9, 0.0), (1.0, 1.0)])
def test_advantages_agree_with_loops(discount, gae_lambda):
    random = np.random.default_rng(0)
    rewards, values, next_values = random.normal(size=(3, 12, 4))
    ends = random.integers(0, 4, (12, 4))
    terminated, truncated = ends == 0, ends == 1
    options = {"discount": discount, "gae_lambda": gae_lambda}
    after = Turn(None, None, *map(jnp.asarray, (rewards, terminated, truncated)))
    seen = rollouts.Seen(None, None, None, jnp.asarray(values), after)
    estimated = rollouts.advantages(seen, jnp.asarray(next_values), **options)
    assert_allclose(estimated, by_hand(rewards, values, next_values, terminated, truncated, **options), rtol=1e-12)


def test_what_is_played_follows_the_rules_of_the_game_and_the_policy():
    state = PLAN.play(VALUES, begun())
    shape = (SPLIT.unroll_length, SPLIT.num_envs)
    batch = state.source["examples"]
    seen, targets = np.asarray(batch["inputs"]).reshape(*shape, 2), jax.tree.map(np.asarray, batch["targets"])
    actions = targets["action"].reshape(shape)
    position, time = seen[..., 0], seen[..., 1]
    after = position[:-1] + actions[:-1]
    goes_on = (after < GOAL) & (time[:-1] + 1 < LONGEST)
    assert_array_equal(position[1:][goes_on], after[goes_on])
    assert_array_equal(time[1:], np.where(goes_on, time[:-1] + 1, 0))
    assert (~goes_on).any()
    kernel = np.asarray(begun().params["kernel"], np.float64)
    logits = seen.reshape(-1, 2).astype(np.float64) @ kernel
    expected = logits[:, :2] - np.log(np.exp(logits[:, :2]).sum(axis=1, keepdims=True))
    chosen = np.take_along_axis(expected, targets["action"][:, None], axis=1)[:, 0]
    assert_allclose(targets["log_probability"], chosen, rtol=1e-5, atol=1e-6)

    def value(*at):
        return np.stack(at, -1).astype(np.float64) @ kernel[:, 2]

    # From the rules of the game alone, the predicted values of successors included.
    reached = position + actions
    ends = {"terminated": reached >= GOAL, "truncated": (reached < GOAL) & (time + 1 >= LONGEST)}
    estimated = by_hand(
        actions.astype(float), value(position, time), value(reached, time + 1), **ends, discount=0.9, gae_lambda=0.8
    )
    assert_allclose(targets["advantage"].reshape(shape), estimated, rtol=1e-4, atol=1e-5)
    assert_allclose(targets["return"].reshape(shape), estimated + value(position, time), rtol=1e-4, atol=1e-5)
    assert_array_equal(targets["clip_factor"], 1)


def test_a_pass_uses_each_action_once_and_minibatches_are_normalized():
    state = PLAN.play(VALUES, begun())
    played, order = PLAN.material(VALUES.seed, state)
    assert len(order) == 50
    for start in (0, 24):
        assert_array_equal(np.sort(order[start : start + 24]), np.arange(24))
    assert (np.asarray(order[:24]) != np.asarray(order[24:48])).any()
    assert_array_equal(order[48:], order[:2])
    batch = PLAN.batch((played, order), {}, jnp.int32(1))
    rows = np.asarray(order[10:20])
    assert_array_equal(batch["targets"]["action"], played["targets"]["action"][rows])
    raw = np.asarray(played["targets"]["advantage"], np.float64)[rows]
    assert_allclose(batch["targets"]["advantage"], (raw - raw.mean()) / raw.std(), rtol=1e-3, atol=1e-5)


def test_the_clip_ratio_falls_with_the_learning_rate_and_each_epoch_plays_on():
    first, second = trained(5)[0], trained(5, 10)[0]
    assert_array_equal(first.source["examples"]["targets"]["clip_factor"], 1)
    assert_allclose(second.source["examples"]["targets"]["clip_factor"], 1 - 5 / 15, rtol=1e-6)
    # The second epoch's first observations are those after the first one's last actions.
    assert_array_equal(second.source["examples"]["inputs"][:3], first.source["playing"].observations)


def test_a_run_cut_anywhere_goes_on_with_the_same_bits():
    whole, losses = trained(5, 10, 15)
    cut, again = trained(1, 3, 5, 9, 10, 12, 15)
    assert_array_equal(losses, again)
    jax.tree.map(assert_array_equal, whole, cut)
    assert not np.array_equal(whole.params["kernel"], begun().params["kernel"])


def test_other_seeds_play_other_games():
    first, second = (PLAN.play(VALUES._replace(seed=np.uint32(seed)), begun()).source["examples"] for seed in (3, 4))
    assert not np.array_equal(first["targets"]["action"], second["targets"]["action"])


def test_other_seeds_begin_other_games():
    first, second = (PLAN.start(jnp.uint32(seed))["playing"].observations for seed in (3, 4))
    assert not np.array_equal(first, second)


def test_actions_are_drawn_anew_in_each_epoch():
    first, second = (PLAN.play(VALUES, begun()._replace(step=jnp.int32(step))) for step in (0, PLAN.steps_per_epoch))
    actions = [np.asarray(state.source["examples"]["targets"]["action"]) for state in (first, second)]
    assert not np.array_equal(*actions)


def certain(favourite: int) -> Workload:
    """Build a network that always takes one action."""
    model = Model(
        lambda key: ({}, {}), lambda params, stats, inputs, *, train, key: (_certain(inputs, favourite), stats)
    )
    return Workload(prepare, model, objectives.ppo(2))


def _certain(inputs, favourite):
    logits = jnp.broadcast_to(jnp.where(jnp.arange(2) == favourite, 0.0, -1e9)[None], (len(inputs), 2))
    return {"logits": logits, "values": jnp.zeros(len(inputs))}


def test_whole_games_are_counted_once_to_their_ends():
    state = State(jnp.int32(0), {}, {}, (), (), None)
    stays, goes = (compiled_scores(certain(favourite), WholeGames(Games(GAME, 40)))(state, {}) for favourite in (0, 1))
    assert_array_equal(stays.predictions, 0)
    # From 0 three points, from 1 two: nothing of the game that begins after the goal.
    assert set(np.asarray(goes.predictions).tolist()) == {2.0, 3.0}
    assert_array_equal(goes.losses, -goes.predictions)
    evaluation = summarize(certain(1), goes)
    assert evaluation.metric == np.mean(goes.predictions) == -evaluation.loss


def test_test_games_are_the_same_for_all_seeds_and_not_those_of_the_training_split():
    state = begun()
    test, again = (
        WholeGames(Games(GAME, 30))(WORKLOAD, begun(seed)._replace(params=state.params), {}) for seed in (3, 4)
    )
    assert_array_equal(test.predictions, again.predictions)
    train = WholeGames(SPLIT.games)(WORKLOAD, state, {})
    assert len(train.predictions) == SPLIT.num_test_games
    assert not np.array_equal(train.predictions, test.predictions[:6])


def test_runs_of_several_seeds_and_radii_in_one_program():
    def run(rho, seed):
        values, state = VALUES._replace(rho=rho, seed=seed), begun()._replace(source=PLAN.start(seed))
        for stop in (5, 10):
            state, _, _ = advance_to(jnp.int32(stop), STEP, PLAN, values, state, {})
        return state.params["kernel"]

    rhos, seeds = jnp.array([0.0, VALUES.rho, 0.1]), jnp.array([0, VALUES.seed, VALUES.seed], jnp.uint32)
    together = np.asarray(jax.jit(jax.vmap(run))(rhos, seeds))
    assert_allclose(together[1], trained(5, 10)[0].params["kernel"], atol=1e-6)
    assert len({kernel.tobytes() for kernel in together}) == 3


def test_a_network_that_cannot_play_is_refused():
    model = Model(lambda key: ({}, {}), lambda params, stats, inputs, *, train, key: (inputs, stats))
    policy = rollouts.policy_of(WORKLOAD._replace(model=model), {}, {}, None)
    with pytest.raises(ValueError, match=r"outputs are 'logits' and 'values'; choose config\.model=ActorCritic"):
        policy(jnp.zeros((3, 2), jnp.uint8))
