"""The estimate of a run's duration before it starts, against the run itself and against counted arithmetic."""

import jax
import pytest

from flatwide import config as configs
from flatwide import runner
from flatwide.runs import memory, preview, timing

DIGITS = {"num_neurons": (32,), "batch_size": 32, "learning_rate": 0.05}
LSTM = {"model": "LSTM", "dataset": "made_sentiment", "hidden_size": 32, "base_optimizer": "adam", "batch_size": 64}
RESNET = {"model": "ResNet18", "num_filters": 4, "num_blocks": (1, 1, 1, 1), "batch_size": 64}


def resolve(**fields):
    return configs.resolve(DIGITS | fields)


def test_scored_batches_are_those_of_every_evaluation_and_of_averaged_weights():
    """Of 46 batches of training and 12 of test examples: evaluations of at most 4, and the last one of all of them."""
    short = preview.assemble(resolve(num_train_steps=10, eval_every_steps=3, steps_per_eval=4))
    assert timing.num_scored(short) == 3 * 4 + 12 + 46
    whole = resolve(num_epochs=2, validation_fraction=0.2, weight_average="ema", train_eval_examples=100)
    assert timing.num_scored(preview.assemble(whole)) == 2 * 2 * (12 + 9) + 4


@pytest.mark.parametrize("rho", [0.0, 0.1])
def test_large_steps_are_timed_and_evaluations_follow_from_them(monkeypatch, rho):
    built = preview.assemble(resolve(num_neurons=(1000, 1000), rho=rho, num_epochs=100, eval_every_steps=7))
    monkeypatch.setattr(timing, "_step_seconds", lambda built: 2.0)
    each = 2.0 / (1 if rho == 0 else 2) / 3
    assert timing.estimate(built).seconds == pytest.approx(2.0 * built.num_steps + each * timing.num_scored(built))


def test_a_program_that_does_not_fit_is_told_before_it_is_timed(monkeypatch):
    built = preview.assemble(resolve(num_neurons=(64,), batch_size=256))
    needed = memory.of_program(built)
    monkeypatch.setattr(memory, "available", lambda: needed - 1)
    with pytest.raises(memory.OutOfMemoryError, match=r"the program of the steps needs 0.0 GB of 0.0 GB; make"):
        timing.estimate(built)
    monkeypatch.setattr(memory, "available", lambda: needed)
    assert timing.estimate(built).num_bytes == needed


@pytest.mark.slow
@pytest.mark.optimized
@pytest.mark.timeout(900)
@pytest.mark.parametrize("fields", [{"num_epochs": 300}, LSTM | {"num_epochs": 12}, RESNET | {"num_epochs": 4}])
def test_it_is_within_a_factor_of_three_of_the_run(tmp_path, fields):
    config = resolve(**fields)
    estimate = timing.estimate(preview.assemble(config))
    jax.clear_caches()
    seconds = runner.run(config, tmp_path, quiet=True)["seconds"]
    assert seconds / 3 < estimate.seconds < 3 * seconds
