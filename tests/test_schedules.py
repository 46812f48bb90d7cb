"""Schedules at every step, against tables written without JAX."""

import math

import jax
import numpy as np
import optax
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from flatwide import schedules

# With 8 steps: half is step 4, three quarters step 6, and the boundary step has the new rate.
TABLES = {
    "constant": [1.0] * 8,
    "step": [1.0, 1.0, 1.0, 1.0, 0.1, 0.1, 0.01, 0.01],
    "step_half": [1.0, 1.0, 1.0, 1.0, 0.1, 0.1, 0.1, 0.1],
    "step_mnist": [1.0, 1.0, 0.1, 0.1, 0.01, 0.01, 0.001, 0.001],
    "linear": [1.0, 7 / 8, 6 / 8, 5 / 8, 4 / 8, 3 / 8, 2 / 8, 1 / 8],
    "cosine": [(1 + math.cos(math.pi * t / 8)) / 2 for t in range(8)],
    "wsd": [1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 0.5],  # 1.6 steps are 2
    "inverse_sqrt": [1.0, 1.0, *(1 / math.sqrt(t) for t in range(2, 8))],
}
# With a warmup of 4: rises over steps 0 to 3; milestones stay where they are, the others run over what remains.
WARM_TABLES = {
    "constant": [0.0, 0.25, 0.5, 0.75, 1.0, 1.0, 1.0, 1.0],
    "step": [0.0, 0.25, 0.5, 0.75, 0.1, 0.1, 0.01, 0.01],
    "step_half": [0.0, 0.25, 0.5, 0.75, 0.1, 0.1, 0.1, 0.1],
    "step_mnist": [0.0, 0.25, 0.5 * 0.1, 0.75 * 0.1, 0.01, 0.01, 0.001, 0.001],
    "linear": [0.0, 0.25, 0.5, 0.75, 1.0, 0.75, 0.5, 0.25],
    "cosine": [0.0, 0.25, 0.5, 0.75, *((1 + math.cos(math.pi * t / 4)) / 2 for t in range(4))],
    "wsd": [0.0, 0.25, 0.5, 0.75, 1.0, 1.0, 1.0, 0.5],
    "inverse_sqrt": [0.0, 0.125, 0.25, 0.375, 0.5, 1 / math.sqrt(5), 1 / math.sqrt(6), 1 / math.sqrt(7)],
}


def table(name, num_steps, warmup_steps=0, steps=None):
    """Ask for one traced step after the other, as training does."""
    factor = jax.jit(schedules.build(name, num_steps=num_steps, warmup_steps=warmup_steps))
    return np.array([factor(step) for step in (range(num_steps) if steps is None else steps)])


@pytest.mark.parametrize("is_float64", [False, True])
@pytest.mark.parametrize("name", schedules.SCHEDULES)
def test_every_step_is_as_in_the_table(name, is_float64):
    with jax.enable_x64(is_float64):
        dtype = np.float64 if is_float64 else np.float32
        for warmup_steps, tables in ((0, TABLES), (4, WARM_TABLES)):
            factors = table(name, 8, warmup_steps)
            assert factors.dtype == dtype
            assert_allclose(factors, tables[name], rtol=8 * np.finfo(dtype).eps)  # the zeros of the tables are exact


@pytest.mark.parametrize("is_float64", [False, True])
@pytest.mark.parametrize(("name", "quarters"), [("step", (2, 3)), ("step_mnist", (1, 2, 3))])
@pytest.mark.parametrize("num_steps", [1, 2, 3, 5, 7, 46, 101])
def test_milestones_are_exact_for_lengths_that_do_not_divide(name, quarters, num_steps, is_float64):
    expected = [10.0 ** -sum(4 * t >= q * num_steps for q in quarters) for t in range(num_steps)]
    with jax.enable_x64(is_float64):
        factors = table(name, num_steps)
        assert_array_equal(factors, np.array(expected).astype(factors.dtype))  # correctly rounded, no error at all


@pytest.mark.parametrize(("name", "num_steps"), [("step", 46_900), ("step_mnist", 46_900), ("step", 10_000_000)])
def test_milestones_are_exact_in_long_runs(name, num_steps):
    boundaries = {"step": (2, 3), "step_mnist": (1, 2, 3)}[name]
    steps = [max(q * num_steps // 4 + d, 0) for q in boundaries for d in (-1, 0)]
    expected = [10.0 ** -sum(4 * t >= q * num_steps for q in boundaries) for t in steps]
    factors = table(name, num_steps, steps=steps)
    assert_array_equal(factors, np.array(expected).astype(factors.dtype))


@pytest.mark.parametrize(("num_steps", "warmup_steps"), [(46_900, 0), (225_180, 5000), (2**31 - 1, 7)])
@pytest.mark.parametrize("name", ["cosine", "linear"])
def test_decay_is_exact_to_its_last_steps(name, num_steps, warmup_steps):
    first, last = warmup_steps + np.arange(50_000), num_steps - np.arange(1, 50_000)
    steps = np.unique(np.concatenate([first[first < num_steps], last[last >= warmup_steps]]))
    left = (num_steps - steps) / (num_steps - warmup_steps)
    expected = left if name == "linear" else np.sin(np.pi / 2 * left) ** 2
    factors = jax.vmap(schedules.build(name, num_steps=num_steps, warmup_steps=warmup_steps))(steps.astype(np.int32))
    assert_allclose(factors, expected, rtol=1e-6)


@pytest.mark.parametrize("name", ["cosine", "linear"])
def test_decay_ends_at_zero_and_stays_there(name):
    assert_array_equal(table(name, 8, steps=[8, 9, 100]), 0)


@pytest.mark.parametrize("name", ["cosine", "linear", "wsd"])
def test_decay_may_end_above_zero(name):
    options = {"num_steps": 100, "warmup_steps": 10, "decay_fraction": 0.5}
    plain, raised = (jax.vmap(schedules.build(name, **options, final_factor=c)) for c in (0.0, 0.1))
    steps = np.arange(101)
    rise = np.minimum(1, steps / 10)
    assert_allclose(raised(steps), 0.1 * rise + 0.9 * plain(steps), rtol=1e-6)
    assert raised(steps)[-1] == np.float32(0.1)
    if name == "wsd":
        assert_allclose(plain(steps[50:]), (100 - steps[50:]) / 50, rtol=1e-6)


def test_imagenets_schedule_is_the_papers(float64):
    """225,180 steps, of which 5,000 warm up: built from two optax schedules as in Flax's ImageNet example."""
    joined = optax.join_schedules(
        [optax.linear_schedule(0.0, 1.0, 5000), optax.cosine_decay_schedule(1.0, 220_180)], boundaries=[5000]
    )
    steps = np.array([0, 1, 2500, 4999, 5000, 5001, 115_090, 225_179])
    factors = jax.vmap(schedules.build("imagenet_cosine", num_steps=225_180, warmup_steps=5000))(steps)
    assert_allclose(factors, jax.vmap(joined)(steps), rtol=1e-10, atol=1e-15)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("cosin", 8, 0), r"lr_scheduler='cosin' is not known\. Did you mean 'cosine'\? Known: constant, cosine, "),
        (("step", 0, 0), r"num_steps=0: expected at least 1"),
        (("step", 8, -1), r"warmup_steps=-1: expected a number >= 0"),
    ],
)
def test_unknown_names_and_impossible_lengths_are_refused(arguments, message):
    name, num_steps, warmup_steps = arguments
    with pytest.raises(ValueError, match=message):
        schedules.build(name, num_steps=num_steps, warmup_steps=warmup_steps)
