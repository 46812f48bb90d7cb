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


def test_the_arithmetic_of_convolutions_has_every_pixel_of_the_backward_pass():
    config = resolve(**RESNET | {"num_filters": 16, "dataset": "cifar10"})
    stem, positions, previous = 32**2 * 9 * 3 * 16, 32**2, 16
    products = 0
    for stage in range(4):
        filters, positions = 16 * 2**stage, 32**2 // 4**stage
        shortcut = previous * filters if stage else 0
        products += positions * (9 * previous * filters + 9 * filters**2 + shortcut)
        previous = filters
    # Forward, and backward to filters and, after the stem, to images; at the edges filters meet fewer pixels.
    expected = 64 * (6 * products + 4 * stem)
    assert preview.operations(config) == pytest.approx(0.9 * expected, rel=0.1)


def test_scored_batches_are_those_of_every_evaluation():
    """Of 10 batches: 3 evaluations of at most 4, and the last one of all of them."""
    fields = {"batch_size": 32, "steps_per_eval": 4}
    assert timing._num_scored(fields, 320, num_steps=10, eval_every_steps=3) == 3 * 4 + 10
    assert timing._num_scored(fields | {"steps_per_eval": None}, 319, num_steps=9, eval_every_steps=3) == 3 * 10
    assert timing._num_scored(fields | {"steps_per_eval": 40}, 320, num_steps=1, eval_every_steps=3) == 10
    assert timing._num_scored(fields, 0, num_steps=10, eval_every_steps=3) == 0


def test_validation_and_averaged_weights_are_scored_too():
    big = {"dataset": "cifar10", "num_neurons": (10_000, 10_000), "batch_size": 256, "num_epochs": 2}
    scored = timing._scored_batches(resolve(**big))
    assert scored == 196 + 2 * 40  # 50,000 examples at the end and 10,000 after each epoch
    both = timing._scored_batches(resolve(**big, validation_fraction=0.2, weight_average="ema"))
    assert both == 157 + 2 * (2 * 40 + 2 * 40)


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
