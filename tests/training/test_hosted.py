import importlib.util

import jax
import numpy as np
import pytest

from flatwide import objectives, optimizers, sam, schedules
from flatwide.data.atari import BREAKOUT, atari_breakout
from flatwide.data.emulator import Consoles, Turn
from flatwide.runs import checkpoints
from flatwide.training import hosted
from flatwide.training.evaluate import Interrupted
from flatwide.training.hosted import HostMinibatches, whole_games
from flatwide.training.sources import Playing
from flatwide.training.state import State, Values
from flatwide.training.step import make_step
from flatwide.types import Model
from flatwide.workloads import Workload

pytestmark = pytest.mark.skipif(importlib.util.find_spec("ale_py") is None, reason="ale-py is not installed")

GAMES, TURNS, BATCH = 2, 12, 16
VALUES = Values(np.float32(0.05), np.float32(0.1), np.float32(0), np.uint32(3))


def linear_player(example, num_outputs) -> Model:
    """Read a screen of 7 x 7 means, so that nothing takes long to compile."""

    def init(key):
        kernel = 0.1 * jax.random.normal(key, (49 * example.shape[-1], num_outputs + 1))
        return {"kernel": kernel}, {}

    def apply(params, stats, inputs, *, train, key):
        small = inputs.reshape(len(inputs), 7, 12, 7, 12, -1).mean(axis=(2, 4)).reshape(len(inputs), -1)
        outputs = small @ params["kernel"]
        return {"logits": outputs[:, :-1], "values": outputs[:, -1]}, stats

    return Model(init, apply)


DATA = atari_breakout(num_envs=GAMES, unroll_length=TURNS, update_epochs=2, num_test_games=2)
WORKLOAD = Workload(DATA.prepare, linear_player(DATA.example, DATA.num_outputs), objectives.ppo(DATA.num_outputs))
SCHEDULE = schedules.build("linear", num_steps=12)
OPTIMIZER = optimizers.build(
    "adam", momentum=0.0, nesterov=False, adam_betas=(0.9, 0.999), adam_epsilon=1e-8, gradient_clip=0.5
)
PLAN = HostMinibatches(WORKLOAD, DATA.train, BATCH, SCHEDULE)
STEP = make_step(WORKLOAD, optimizer=OPTIMIZER, variant=sam.normalized, schedule=SCHEDULE, one_pass=False)


def begun(seed: int = 0) -> State:
    params, stats = WORKLOAD.model.init(jax.random.key(seed))
    return State(np.int32(0), params, stats, OPTIMIZER.init(params), (), None, PLAN.start(VALUES.seed))


def trained(state: State, *stops: int, after=lambda state: state) -> tuple[State, list[float]]:
    segment, losses = Playing(PLAN).segment(STEP, None), []
    for stop in stops:
        state, taken, _ = segment(VALUES, state, stop)
        losses += taken.tolist()
        state = after(state)
    return state, losses


def assert_equal(first, second) -> None:
    jax.tree.map(np.testing.assert_array_equal, jax.device_get(first), jax.device_get(second))


def test_a_run_that_is_cut_and_saved_anywhere_ends_with_the_same_numbers(tmp_path):
    assert PLAN.steps_per_epoch == 3
    whole, losses = trained(begun(), 3, 6, 9)
    assert len(set(losses)) == 9

    def through_a_file(state: State) -> State:
        checkpoints.save(tmp_path, int(state.step), state, extra={})
        Consoles(BREAKOUT, GAMES)  # other consoles do not affect the result
        return checkpoints.load_newest(tmp_path, jax.eval_shape(begun)).tree

    cut, same_losses = trained(begun(), 1, 3, 5, 6, 9, after=through_a_file)
    assert losses == same_losses
    assert_equal(whole, cut)
    again, _ = trained(begun(), 3, 6, 9)
    assert_equal(whole, again)


def test_what_was_played_is_what_the_network_did():
    state, at_once = begun(), np.float64
    first = PLAN.play(VALUES, state)
    second = PLAN.play(VALUES, first._replace(step=np.int32(PLAN.steps_per_epoch)))  # by the same network
    played = [
        jax.tree.map(lambda leaf: leaf.reshape(TURNS, GAMES, *leaf.shape[1:]), s.source["examples"])
        for s in (first, second)
    ]
    start = Consoles(BREAKOUT, GAMES)
    np.testing.assert_array_equal(played[0]["inputs"][0], start.observations)
    np.testing.assert_array_equal(played[1]["inputs"][0], first.source["playing"]["observations"])

    inputs = np.concatenate([played[0]["inputs"], played[1]["inputs"][:1]])
    kernel = np.asarray(state.params["kernel"], at_once)
    small = (inputs.astype(at_once) / 255).reshape(TURNS + 1, GAMES, 7, 12, 7, 12, 4).mean(axis=(3, 5))
    outputs = small.reshape(TURNS + 1, GAMES, -1) @ kernel
    logits, values = outputs[:-1, ..., :-1], outputs[..., -1]
    targets = {name: np.asarray(leaf) for name, leaf in played[0]["targets"].items()}
    normalizer = np.log(np.exp(logits).sum(axis=-1))
    chosen = np.take_along_axis(logits, targets["action"][..., None], axis=-1)[..., 0]
    np.testing.assert_allclose(targets["log_probability"], chosen - normalizer, atol=1e-5)
    np.testing.assert_allclose(targets["return"] - targets["advantage"], values[:-1], atol=1e-5)
    np.testing.assert_array_equal(targets["clip_factor"], 1)
    # No brick falls and no game ends in so few turns, so all advantages are changes of the predicted value.
    expected = np.zeros((TURNS + 1, GAMES))
    for turn in reversed(range(TURNS)):
        expected[turn] = 0.99 * values[turn + 1] - values[turn] + 0.99 * 0.95 * expected[turn + 1]
    np.testing.assert_allclose(targets["advantage"], expected[:-1], atol=1e-5)


def test_a_lost_game_cuts_what_follows_and_points_count_by_their_sign(monkeypatch):
    start = begun()

    class Rigged:
        observations = np.zeros((GAMES, 84, 84, 4), np.uint8)
        turns = 0

        def restore(self, saved):
            pass

        def save(self):
            return start.source["playing"]

        def step(self, actions, chances):
            self.turns += 1
            is_third = np.full(GAMES, self.turns == 3)
            return Turn(np.where(is_third, np.float32(7), np.float32(0)), is_third)

    monkeypatch.setattr(hosted, "_consoles", lambda emulator, num_games: (Rigged(), None))
    returns = PLAN.play(VALUES, start).source["examples"]["targets"]["return"].reshape(TURNS, GAMES)
    # A black screen is worth nothing to a linear network: all returns are discounted points of this game.
    np.testing.assert_allclose(returns[:4, 0], [(0.99 * 0.95) ** 2, 0.99 * 0.95, 1, 0], atol=1e-6)


def test_whole_games_are_scored_by_the_game_itself():
    state, seen = begun(), []
    scores = whole_games(WORKLOAD, DATA.test)(state)
    assert scores.predictions.shape == (2,)
    np.testing.assert_array_equal(scores.losses, -scores.predictions)
    np.testing.assert_array_equal(scores.weights, 1)
    assert_equal(scores, whole_games(WORKLOAD, DATA.test)(state))

    def impatient() -> bool:
        seen.append(1)
        return len(seen) > 5

    with pytest.raises(Interrupted):
        whole_games(WORKLOAD, DATA.test, interrupt=impatient)(state)
