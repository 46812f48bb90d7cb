"""Segments: the same numbers wherever a run is cut, and on any number of devices."""

import json
import os
import subprocess
import sys

import jax
import numpy as np
import pytest
from numpy.testing import assert_array_equal

from flatwide import experiment
from flatwide.training.plans import Shuffled

FIELDS = {"num_neurons": (8,), "batch_size": 100, "num_epochs": 3, "rho": 0.1}


def leaves(state):
    return [np.asarray(leaf) for leaf in jax.tree.leaves(state)]


def run_in_cuts(built, stops):
    segment, state, losses = built.segment(), built.init(), []
    for stop in stops:
        state, taken, _ = segment(built.values, state, stop)
        losses.append(taken)
    return state, np.concatenate(losses)


@pytest.mark.optimized
def test_cutting_changes_no_bit():
    built = experiment.build(FIELDS)
    per_epoch = built.steps_per_epoch
    whole, losses = run_in_cuts(built, [per_epoch, 2 * per_epoch])
    cut, cut_losses = run_in_cuts(built, [1, 3, per_epoch, per_epoch + 5, 2 * per_epoch])
    assert_array_equal(losses, cut_losses)
    assert len(losses) == 2 * per_epoch
    for a, b in zip(leaves(whole), leaves(cut), strict=True):
        assert_array_equal(a, b)


def test_a_segment_is_the_steps_taken_by_hand():
    built = experiment.build(FIELDS)
    segmented, losses = run_in_cuts(built, [5])
    state, by_hand = built.init(), []
    for step in range(5):
        state, metrics = built.train_step(state, built.batch(step))
        by_hand.append(float(metrics["loss"]))
    np.testing.assert_allclose(losses, by_hand, rtol=1e-5)
    for a, b in zip(leaves(segmented), leaves(state), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)


def test_an_epoch_is_a_permutation_completed_from_its_start():
    plan = Shuffled(num_examples=10, batch_size=4)
    order = np.asarray(plan.order(np.uint32(0), np.int32(0)))
    assert plan.steps_per_epoch == 3
    assert sorted(order[:10]) == list(range(10))
    assert_array_equal(order[10:], order[:2])
    assert not np.array_equal(order, plan.order(np.uint32(0), np.int32(1)))
    assert not np.array_equal(order, plan.order(np.uint32(1), np.int32(0)))
    assert_array_equal(order, plan.order(np.uint32(0), np.int32(0)))


def test_a_segment_ends_at_a_loss_that_is_not_finite():
    built = experiment.build(FIELDS | {"learning_rate": 1e30, "rho": 0.0})
    _, losses = run_in_cuts(built, [built.steps_per_epoch])
    assert len(losses) < built.steps_per_epoch
    assert np.all(np.isfinite(losses[:-1]))
    assert not np.isfinite(losses[-1])


def test_runs_that_differ_in_values_share_one_program():
    first, second = experiment.build(FIELDS), experiment.build(FIELDS | {"rho": 0.2, "seed": 5, "learning_rate": 0.3})
    assert first.step is second.step
    assert experiment.build(FIELDS | {"rho": 0.0}).step is not first.step


_DEVICES = """
import json, sys
import jax, numpy as np
from flatwide import experiment
fields = json.loads(sys.argv[1])
built = experiment.build(fields)
state, losses, _ = built.segment()(built.values, built.init(), 3)
scores = built.evaluate(state, built.test)
flat = np.concatenate([np.asarray(leaf).ravel() for leaf in jax.tree.leaves((state.params, state.stats))])
print(json.dumps([len(jax.devices()), losses.tolist(), flat.tolist(), list(scores)]))
"""


def on_devices(count, fields):
    environment = os.environ | {"JAX_NUM_CPU_DEVICES": str(count), "JAX_ENABLE_X64": "1"}
    command = [sys.executable, "-c", _DEVICES, json.dumps(fields)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=250)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.parametrize(
    "fields",
    [
        pytest.param(FIELDS | {"num_neurons": [8]}, marks=pytest.mark.slow),  # the next has it and more
        pytest.param(FIELDS | {"num_neurons": [8], "microbatch": 20}, marks=pytest.mark.slow),  # likewise
        FIELDS | {"num_neurons": [8], "microbatch": 50},
        pytest.param(
            FIELDS | {"model": "ResNet18", "num_filters": 2, "num_blocks": [1], "batch_size": 20},
            marks=pytest.mark.slow,
        ),
    ],
    ids=["mlp", "microbatch", "microbatch that does not divide", "batch norm"],
)
def test_four_devices_give_the_numbers_of_one(fields):
    alone, results = on_devices(1, fields), on_devices(4, fields)
    assert (alone[0], results[0]) == (1, 4)
    for on_four, expected in zip(results[1:], alone[1:], strict=True):
        np.testing.assert_allclose(on_four, expected, rtol=1e-9, atol=1e-12)
