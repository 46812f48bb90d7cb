"""The estimate of a run's duration before it starts, against the run itself and against counted arithmetic."""

import jax
import pytest

from flatwide import config as configs
from flatwide import runner
from flatwide.runs import preview, timing

DIGITS = {"num_neurons": (32,), "batch_size": 32, "learning_rate": 0.05}
LSTM = {"model": "LSTM", "dataset": "made_sentiment", "hidden_size": 32, "base_optimizer": "adam", "batch_size": 64}
RESNET = {"model": "ResNet18", "num_filters": 4, "num_blocks": (1, 1, 1, 1), "batch_size": 64}


def resolve(**fields):
    return configs.resolve(DIGITS | fields)


def test_the_arithmetic_of_a_gradient_is_that_of_its_products():
    config = resolve(num_neurons=(300, 100), dataset="mnist", batch_size=128)
    weights = 784 * 300 + 300 * 100 + 100 * 10
    # Forward, and backward to weights and to hidden units; the inputs need no gradient.
    expected = 128 * (2 * weights + 2 * weights + 2 * (weights - 784 * 300))
    assert preview.operations(config) == pytest.approx(expected, rel=0.05)


def test_a_step_of_seconds_is_not_timed():
    config = resolve(dataset="cifar10", num_neurons=(10_000, 10_000), batch_size=256, num_epochs=2)
    estimate = timing.estimate(config)
    assert (estimate.is_timed, estimate.compile_seconds) == (False, 0.0)
    # 196 steps an epoch, two gradients each, 50,000 examples scored at the end and 10,000 after each epoch.
    total = preview.operations(config) * (2 * 2 * 195 + (50_000 + 20_000) / 256 / 3)
    assert 1e8 < total / estimate.seconds < 1e13  # operations per second of a device


@pytest.mark.slow
@pytest.mark.optimized
@pytest.mark.timeout(900)
@pytest.mark.parametrize("fields", [{"num_epochs": 300}, LSTM | {"num_epochs": 12}, RESNET | {"num_epochs": 4}])
def test_it_is_within_a_factor_of_three_of_the_run(tmp_path, fields):
    config = resolve(**fields)
    estimate = timing.estimate(config)
    jax.clear_caches()
    seconds = runner.run(config, tmp_path, quiet=True)["seconds"]
    assert seconds / 3 < estimate.seconds < 3 * seconds
