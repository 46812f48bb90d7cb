"""SAM in time: the factor of rho by its definition, what steps at rho 0 compute and cost, and runs across a switch."""

from types import SimpleNamespace
from typing import Any, cast

import jax
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from trained_runs import without_times

from flatwide import config as configs
from flatwide import experiment, rho_schedules, runner, sam
from flatwide.measurements import steps as measured_steps
from flatwide.runs import checkpoints, driver, preview
from flatwide.runs.directory import run_directories
from flatwide.training.step import make_step

FIELDS = {"num_neurons": (8,), "batch_size": 144, "num_train_steps": 20, "learning_rate": 0.3, "rho": 0.3}
LATE, EARLY = ({"rho_schedule": kind, "rho_switch": 0.65} for kind in ("late", "early"))
EVERY, WITH_RATE = {"rho_schedule": "every", "rho_every": 3}, {"rho_schedule": "with_learning_rate"}


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        (LATE, [0] * 13 + [1] * 7),
        (EARLY, [1] * 13 + [0] * 7),
        (EVERY, [1, 0, 0] * 6 + [1, 0]),
        (WITH_RATE | {"lr_scheduler": "step"}, [1] * 10 + [0.1] * 5 + [0.01] * 5),
        (WITH_RATE | {"lr_scheduler": "linear", "warmup_steps": 2}, [0, 0.5, *(n / 18 for n in range(18, 0, -1))]),
    ],
)
def test_rho_of_each_step_is_that_of_the_definition(fields, expected):
    built = experiment.build(FIELDS | fields)
    assert_allclose([built.rho(step) for step in range(20)], 0.3 * np.array(expected), rtol=1e-6)
    assert built.num_gradients(20) == 20 + np.count_nonzero(expected)
    assert built.num_gradients(2) == 2 + np.count_nonzero(expected[:2])  # as where a run diverges at its second step


def test_rounding_moves_no_switch():
    """0.55 * 100 is 55.00000000000001 in floating point."""
    factor = rho_schedules.build("late", switch=0.55, every=2, num_steps=100, schedule=lambda step: step)
    assert factor is not None
    assert [float(factor(step)) for step in (54, 55, 99)] == [0, 1, 1]
    assert rho_schedules.num_ascents(factor, 100) == 45


def test_switch_that_leaves_nothing_to_switch_is_refused():
    for kind, switch in (("late", 0.99), ("early", 0.99)):
        fields = FIELDS | {"rho_schedule": kind, "rho_switch": switch}
        with pytest.raises(configs.ConfigError, match=r"is step 20 of 20.*every step or at none"):
            experiment.build(fields)
        assert experiment.build(fields | {"rho": 0.0}).rho_schedule is None  # a base run has nothing to switch
    with pytest.raises(configs.ConfigError, match="expected constant, late, early, every, decay or with_learning_rate"):
        experiment.build(FIELDS | {"rho_schedule": "sometimes"})
    with pytest.raises(configs.ConfigError, match=r"rho_every=1: expected an integer >= 2"):
        experiment.build(FIELDS | EVERY | {"rho_every": 1})


@pytest.mark.parametrize("fields", [{}, LATE, EVERY, LATE | {"sam_variant": "momentum"}, {"rho": 0.0}])
def test_recorded_number_of_gradients_is_how_often_steps_evaluate_the_loss(fields):
    built, count = experiment.build(FIELDS | fields), []

    def losses(outputs, batch):
        jax.debug.callback(lambda: count.append(1))
        return built.workload.objective.losses(outputs, batch)

    counted = built.workload._replace(objective=built.workload.objective._replace(losses=losses))
    step = jax.jit(
        make_step(
            counted,
            optimizer=built.optimizer,
            variant=sam.momentum_sam if fields.get("sam_variant") else sam.normalized,
            schedule=built.schedule,
            one_pass=built.config["rho"] == 0,
            rho_schedule=built.rho_schedule,
        )
    )
    state = built.init()
    for index in range(built.num_steps):
        state, _ = step(built.values, state, built.batch(index))
    jax.effects_barrier()
    assert len(count) == built.num_gradients(built.num_steps) >= 20


def test_number_of_gradients_says_what_groups_and_rules_of_their_own_compute(tmp_path):
    assert experiment.build(FIELDS | LATE | {"group_size": 2}).num_gradients(20) == 40  # vmap computes both branches
    (tmp_path / "due.py").write_text(
        "from flatwide import sam\ndef due(rho):\n    return sam.normalized(rho)._replace(is_due=lambda state: True)\n"
    )
    assert experiment.build(FIELDS | {"sam_variant": f"{tmp_path}/due.py:due"}).num_gradients(20) is None
    described = preview.describe(preview.assemble(configs.resolve(FIELDS | LATE)))
    assert "gradients per step: 1.35 (SAM)" in described


def networks(fields, num_steps=20):
    """Return the parameters after each step."""
    built = experiment.build(FIELDS | fields)
    state, history = built.init(), []
    for step in range(num_steps):
        state, _ = built.train_step(state, built.batch(step))
        history.append(jax.device_get(state.params))
    return history


@pytest.mark.optimized
def test_steps_before_the_switch_are_those_of_sgd_to_the_last_bit():
    late, plain = networks(LATE), networks({"rho": 0.0})
    for late_params, expected in zip(late[:13], plain[:13], strict=True):
        jax.tree.map(assert_array_equal, late_params, expected)
    assert np.abs(late[13]["output"]["kernel"] - plain[13]["output"]["kernel"]).max() > 1e-4


def test_steps_of_a_schedule_are_those_of_sam_at_the_rho_of_the_step():
    """Each step from the network before it, by a run whose rho is constant."""
    scheduled = experiment.build(FIELDS | WITH_RATE | {"lr_scheduler": "linear", "warmup_steps": 3})
    constant = experiment.build(FIELDS | {"lr_scheduler": "linear", "warmup_steps": 3})
    state, step = scheduled.init(), jax.jit(constant.step)
    for index in range(6):
        batch = scheduled.batch(index)
        values = constant.values._replace(rho=np.float32(scheduled.rho(index)))
        expected = step(values, state, batch)[0].params
        state, _ = scheduled.train_step(state, batch)
        jax.tree.map(lambda a, b: assert_allclose(a, b, rtol=1e-5, atol=1e-6), state.params, expected)


class StopAfter:
    """A `should_stop` that is true after a number of segments."""

    def __init__(self, segments):
        self.left = segments

    def __call__(self):
        self.left -= 1
        return self.left < 0


def test_run_that_is_stopped_goes_on_across_the_switch_to_the_last_bit(tmp_path):
    """Evaluations every five steps make segments of five, and the switch falls on step 13; the rule has a memory."""
    fields = FIELDS | LATE | {"sam_variant": "friendly", "eval_every_steps": 5, "checkpoint_every_seconds": 0.0}
    results = []
    for name, stops in (("whole", ()), ("cut", (1, 0))):
        for segments in stops:
            with pytest.raises(driver.Stopped):
                runner.run(fields, tmp_path / name, should_stop=StopAfter(segments), quiet=True)
        result = runner.run(fields, tmp_path / name, quiet=True)
        (directory,) = run_directories(tmp_path / name)
        state = checkpoints.load(directory.checkpoints / checkpoints.FINAL, experiment.build(fields).init())[0]
        results.append((without_times(result), state))
    assert results[0][0] == results[1][0]
    assert results[0][0]["num_gradients"] == 27
    jax.tree.map(assert_array_equal, results[0][1], results[1][1])


def test_measurements_know_the_rho_of_the_step_that_they_are_at():
    built = experiment.build(FIELDS | LATE)
    rhos = []
    for step in (0, 12, 13, 20):
        subject = cast(Any, SimpleNamespace(built=built, epoch=step / built.steps_per_epoch))
        rhos.append(measured_steps.sam_rho(subject))
    assert rhos == [0, 0, 0.3, 0.3]
