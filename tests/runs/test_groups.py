"""Runs that advance together under vmap: agreement with the run alone, and neighbours that do not matter."""

import numpy as np
import pytest
from jax.flatten_util import ravel_pytree
from trained_runs import without_times

from flatwide import config, experiment, runner
from flatwide.runs import checkpoints, driver
from flatwide.runs.directory import run_directories
from flatwide.runs.identity import locate

FIELDS = {"num_neurons": (16,), "batch_size": 144, "num_epochs": 1, "learning_rate": 0.05, "group_size": 4}
TEN_STEPS = FIELDS | {"label_noise": 0.3, "batch_size": 150}
MEMBERS = [{"seed": 0, "rho": 0.1}, {"seed": 1, "rho": 0.2}, {"seed": 2, "rho": 0.05, "weight_decay": 1e-3}]
MUP = {"parameterization": "mup", "base_width": (4,), "perturbation_scaling": "layerwise"}


def files(workdir, fields):
    """Return the rows and the result of a run."""
    directory, _ = locate(config.resolve(fields), workdir)
    return directory.read_metrics(), without_times(directory.read_result() or {})


def final_params(workdir, fields):
    directory, _ = locate(config.resolve(fields), workdir)
    state = experiment.build(fields).init()
    params = checkpoints.load(directory.checkpoints / checkpoints.FINAL, state)[0].params
    return np.asarray(ravel_pytree(params)[0])


@pytest.mark.parametrize(
    "fields",
    [
        pytest.param({}, marks=pytest.mark.slow),  # the next has it and more
        {"pruner": "random", "sparsity": 0.5, **MUP},
        pytest.param({"model": "ResNet18", "num_filters": 2, "num_blocks": (1, 1)}, marks=pytest.mark.slow),
    ],
)
def test_ten_steps_agree_with_the_runs_alone(fields, tmp_path):
    group = [TEN_STEPS | fields | member for member in MEMBERS]
    assert experiment.build(group[0]).num_steps == 10
    outcomes = runner.run_together(group, tmp_path / "together")
    assert [outcome.status for outcome in outcomes] == ["finished"] * 3
    for member in group:
        alone = member | {"group_size": 1}
        runner.run(alone, tmp_path / "alone", quiet=True)
        expected, params = final_params(tmp_path / "alone", alone), final_params(tmp_path / "together", member)
        # float32 sums in another order, over ten steps
        np.testing.assert_allclose(params, expected, rtol=0, atol=1e-5 * np.abs(expected).max())


@pytest.mark.slow
def test_a_run_is_the_same_in_any_company(tmp_path):
    group = [FIELDS | {"num_epochs": 3} | member for member in MEMBERS]
    runner.run_together(group, tmp_path / "together")
    runner.run_together([group[2], group[0]], tmp_path / "others")
    runner.run(group[0], tmp_path / "alone", quiet=True)
    whole = files(tmp_path / "together", group[0])
    assert len(whole[0]) == 3
    assert whole == files(tmp_path / "others", group[0]) == files(tmp_path / "alone", group[0])


def test_a_stopped_group_ends_with_the_same_numbers(tmp_path):
    group = [FIELDS | MUP | {"num_epochs": 4, "checkpoint_every_seconds": 0.0} | member for member in MEMBERS]
    runner.run_together(group, tmp_path / "whole")
    with pytest.raises(driver.Stopped):
        runner.run_together(group, tmp_path / "cut", should_stop=lambda: True)
    runner.run(group[1], tmp_path / "cut", quiet=True)  # its neighbours are now at an earlier step
    outcomes = runner.run_together(group, tmp_path / "cut")
    assert [outcome.status for outcome in outcomes] == ["finished"] * 3
    for member in group:
        assert files(tmp_path / "cut", member) == files(tmp_path / "whole", member)


def test_diverged_busy_and_failing_members_leave_the_others_untouched(tmp_path):
    user_file = tmp_path / "own.py"
    user_file.write_text(
        "from flatwide.sam import normalized\n"
        "def touchy(rho, *, fault: float = 0.0):\n"
        "    if fault: raise RuntimeError('a fault of its own')\n"
        "    return normalized(rho)\n"
    )
    good, diverging, busy, failing = (
        FIELDS | {"num_epochs": 3, "sam_variant": f"{user_file}:touchy"} | fields
        for fields in ({"rho": 0.1}, {"rho": 0.1, "learning_rate": 1e30}, {"rho": 0.2}, {"rho": 0.1, "fault": 1.0})
    )
    runner.run(good, tmp_path / "alone", quiet=True)
    directory, _ = locate(config.resolve(busy), tmp_path / "together")
    with directory.lock():
        outcomes = runner.run_together([failing, diverging, good, busy], tmp_path / "together")
    assert [outcome.status for outcome in outcomes] == ["failed", "diverged", "finished", "busy"]
    assert "a fault of its own" in outcomes[0].problem
    failed, _ = locate(config.resolve(failing), tmp_path / "together")
    assert failed.status() == "failed"
    assert "a fault of its own" in (failed.path / "error.txt").read_text()
    assert files(tmp_path / "together", good) == files(tmp_path / "alone", good)
    assert files(tmp_path / "together", diverging)[1]["diverged_at_step"] is not None


def test_what_cannot_advance_together_says_why(tmp_path):
    with pytest.raises(config.ConfigError, match=r"group_size=4: expected 1 here.*whole number of epochs"):
        runner.run(FIELDS | {"eval_every_steps": 3}, tmp_path)
    assert run_directories(tmp_path) == []
