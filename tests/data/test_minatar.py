"""Breakout-MinAtar against gymnax's own play, and what a split without examples refuses."""

import importlib.util
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_array_equal

from flatwide import config as configs
from flatwide import data
from flatwide.data import minatar
from flatwide.data.played import Game, Games, Played

needs_gymnax = pytest.mark.skipif(importlib.util.find_spec("gymnax") is None, reason="gymnax is not installed")
GAME = Game(lambda key: (key, key), lambda *at: at, 3)
PLAYED = Played(GAME, 4, 5, 6, discount=0.9, gae_lambda=0.8, num_test_games=7)


@needs_gymnax
def test_it_is_the_game_of_gymnax_until_its_end_and_then_a_new_one():
    from gymnax.environments.minatar.breakout import EnvParams, MinBreakout

    peer, game = MinBreakout(), minatar.game()
    reset, step, peer_step = jax.jit(game.reset), jax.jit(game.step), jax.jit(peer.step_env)
    state, _ = reset(jax.random.key(0))
    peer_state, score = state, 0.0
    for time in range(20):  # standing still loses the ball
        key = jax.random.key(time)
        expected, peer_state, reward, is_over, _ = peer_step(key, peer_state, 0, EnvParams())
        before, (state, turn) = state, step(key, state, jnp.int32(0))
        assert_array_equal(turn.successor, expected.astype(bool))
        assert turn.terminated == is_over
        assert not turn.truncated
        assert turn.reward == reward
        assert jax.tree.map(jnp.shape, before) == jax.tree.map(jnp.shape, state)
        assert [leaf.dtype for leaf in jax.tree.leaves(before)] == [leaf.dtype for leaf in jax.tree.leaves(state)]
        score += float(reward)
        if is_over:
            break
        assert_array_equal(turn.observation, turn.successor)
    assert is_over
    assert int(state.time) == 0
    assert not np.array_equal(turn.observation, turn.successor)
    assert_array_equal(turn.observation[1:4, :, 3], True)  # all bricks are there again


@needs_gymnax
def test_a_game_that_lasts_too_long_is_stopped_and_not_over():
    game = minatar.game()
    state, _ = game.reset(jax.random.key(0))
    state = state.replace(time=jnp.int32(minatar.LONGEST - 1))
    _, turn = game.step(jax.random.key(0), state, jnp.int32(0))
    assert turn.truncated
    assert not turn.terminated


@needs_gymnax
def test_the_data_set():
    dataset = minatar.minatar_breakout(num_envs=4, unroll_length=5, update_epochs=6, num_test_games=7)
    assert (dataset.train.num_examples, dataset.test.num_examples, dataset.num_outputs) == (4 * 5 * 6, 7, 3)
    assert not dataset.has_real_targets
    assert data.is_compiled(dataset.train)
    assert data.is_compiled(dataset.test)
    board = jnp.array([[True, False]])
    assert_array_equal(dataset.prepare({"inputs": board, "targets": 3}, None, train=True)["inputs"], [[1.0, 0.0]])
    again = minatar.minatar_breakout(num_envs=4, unroll_length=5, update_epochs=6, num_test_games=7)
    assert again.train == dataset.train  # so that programs are shared


def test_gymnax_is_missing(monkeypatch):
    monkeypatch.setitem(sys.modules, "gymnax.environments.minatar.breakout", None)
    minatar.game.cache_clear()
    with pytest.raises(data.DataError, match=r"install it by pip install 'flatwide\[games\]'"):
        minatar.minatar_breakout()


@pytest.mark.parametrize("split", [PLAYED, Games(PLAYED.game, 7)])
def test_there_are_no_examples_to_select_or_to_corrupt(split):
    order = np.arange(2)
    with pytest.raises(ValueError, match=r"no examples to select or to change.* config.validation_fraction=0"):
        split.take(order)
    with pytest.raises(ValueError, match="no examples to select or to change"):
        split.with_targets(order)
    with pytest.raises(ValueError, match="no batches before a network has played"):
        split.batches(2, order=order, seed=0, epoch=0, train=True)
    assert len(split.targets) == 0


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"validation_fraction": 0.1}, "config.validation_fraction=0.1 .* nothing to hold out; set .*=0.0"),
        ({"train_examples": 10}, "config.train_examples=10 .* nothing to draw a subset of; set .*=None"),
        ({"label_noise": 0.5}, "config.label_noise=0.5 .* nothing to corrupt"),
        ({"steps_per_eval": 2}, "config.steps_per_eval=2 .* nothing to score a part of"),
        (
            {"loss": "cross_entropy"},
            "'cross_entropy' with config.dataset='minatar_breakout': the loss 'ppo' is for games",
        ),
        ({"dataset": "digits"}, "config.loss='ppo' with config.dataset='digits'"),
    ],
)
def test_a_config_that_does_not_fit_a_game_is_refused_at_once(fields, message):
    with pytest.raises(configs.ConfigError, match=message):
        configs.resolve({"dataset": "minatar_breakout", "loss": "ppo", "model": "ActorCritic"} | fields)
