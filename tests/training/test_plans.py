"""Examples of unequal size: the order of an epoch, the cut of a batch, and scores that do not depend on padding."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_array_equal

from flatwide import objectives, workloads
from flatwide.training.evaluate import Pass, compiled_scores
from flatwide.training.plans import Shuffled
from flatwide.training.state import State
from flatwide.types import Model, Padding
from flatwide.workloads import Workload


def sizes(batch):
    return (batch["inputs"] > 0).sum(axis=1)


def cut(batch, level):
    return {**batch, "inputs": batch["inputs"][:, :level]}


PADDING = Padding(levels=(2, 4, 8), sizes=sizes, cut=cut, window=4)


@pytest.fixture
def arrays():
    random = np.random.default_rng(0)
    lengths = random.integers(1, 9, size=90)
    rows = np.where(np.arange(8) < lengths[:, None], random.integers(1, 5, size=(90, 8)), 0)
    return {"inputs": rows.astype(np.int32), "targets": random.integers(0, 3, size=90).astype(np.int32)}


def test_examples_of_like_size_share_a_batch_and_each_is_there_once(arrays):
    plan = Shuffled(90, 4, PADDING)
    order = np.asarray(plan.order(np.uint32(0), np.int32(0), arrays))
    assert len(order) == plan.steps_per_epoch * 4
    plain = np.asarray(Shuffled(90, 4).order(np.uint32(0), np.int32(0)))
    assert_array_equal(np.sort(order), np.sort(plain))

    def computed(order):
        return np.sum(4 * np.max(sizes(arrays)[order].reshape(-1, 4), axis=1))

    real = sizes(arrays).sum()
    assert computed(order) - real < 0.5 * (computed(plain) - real)
    largest = np.max(sizes(arrays)[order].reshape(-1, 4), axis=1)
    assert not np.array_equal(largest, np.sort(largest))  # the batches themselves are shuffled
    assert not np.array_equal(order, plan.order(np.uint32(0), np.int32(1), arrays))


def test_a_window_of_one_batch_is_a_uniform_draw(arrays):
    padding = Padding(PADDING.levels, sizes, cut, window=1)
    order = Shuffled(90, 4, padding).order(np.uint32(3), np.int32(2), arrays)
    assert_array_equal(order, Shuffled(90, 4).order(np.uint32(3), np.int32(2)))


@pytest.mark.parametrize(("longest", "width"), [(1, 2), (2, 2), (3, 4), (4, 4), (5, 8), (8, 8)])
def test_a_batch_is_cut_to_the_lowest_level_that_holds_it(longest, width):
    inputs = np.zeros((3, 8), np.int32)
    inputs[1, :longest] = 1
    num_columns = workloads.cut_to_fit(PADDING, {"inputs": inputs}, lambda batch: jnp.int32(batch["inputs"].shape[1]))
    assert num_columns == width


def test_scores_come_in_the_order_of_the_split(arrays):
    def apply(params, stats, inputs, *, train, key):
        return jnp.where(inputs[..., None] > 0, params[inputs], 0).sum(axis=1), stats

    params = jax.random.normal(jax.random.key(0), (5, 3))
    workload = Workload(
        lambda batch, key, *, train: batch,
        Model(lambda key: (params, {}), apply),
        objectives.cross_entropy(3),
        PADDING,
    )
    state = State(jnp.int32(0), params, {}, (), (), None)
    scores = compiled_scores(workload, Pass(90, 16))(state, arrays)
    whole = compiled_scores(workload._replace(padding=None), Pass(90, 16))(state, arrays)
    np.testing.assert_allclose(scores.losses, whole.losses, rtol=1e-6)
    assert_array_equal(scores.predictions, whole.predictions)
    assert len(set(np.round(np.asarray(whole.losses), 4))) > 40
