"""The page of costs: what it counts, and what it says fits into a day of a GPU."""

import re

import pytest

from flatwide import config as configs
from flatwide.runs import preview

RESNET = {"model": "ResNet18", "num_filters": 16, "num_blocks": (1, 1, 1, 1), "batch_size": 64}


@pytest.fixture(scope="module")
def costs(load_script):
    """Import the command's file."""
    return load_script("docs/build/costs.py")


def test_a_dense_network_is_counted_as_its_products(costs):
    """A gradient of an MLP is three products a layer, without the first layer's gradient to the images."""
    shapes = costs.shapes(next(study for study in costs.studies() if study.name == "mnist_width"))
    smallest = min(shapes, key=lambda shape: shape.num_gradients)
    (first, second, third) = (784 * 75, 75 * 25, 25 * 10)
    products = 2 * 128 * (2 * first + 3 * second + 3 * third)
    assert smallest.num_params == first + second + third + 75 + 25 + 10
    assert products < smallest.operations < 1.1 * products
    assert sum(shape.num_runs for shape in shapes) == 5 * 8 * 3
    page = costs.PAGE.read_text()
    gradients = sum(shape.num_runs * shape.num_gradients for shape in shapes)
    assert re.search(rf"\[mnist_width\]\S+ \| 120 \| {gradients / 1e6:.1f} \|", page)


def test_the_arithmetic_of_a_gradient_is_that_of_its_products(costs):
    config = configs.resolve({"num_neurons": (300, 100), "dataset": "mnist", "batch_size": 128})
    weights = 784 * 300 + 300 * 100 + 100 * 10
    # Forward, and backward to weights and to hidden units; the inputs need no gradient.
    expected = 128 * (2 * weights + 2 * weights + 2 * (weights - 784 * 300))
    assert costs.operations(preview.assemble(config)) == pytest.approx(expected, rel=0.05)


def test_the_arithmetic_of_convolutions_has_every_pixel_of_the_backward_pass(costs):
    config = configs.resolve(RESNET | {"dataset": "cifar10"})
    stem, positions, previous = 32**2 * 9 * 3 * 16, 32**2, 16
    products = 0
    for stage in range(4):
        filters, positions = 16 * 2**stage, 32**2 // 4**stage
        shortcut = previous * filters if stage else 0
        products += positions * (9 * previous * filters + 9 * filters**2 + shortcut)
        previous = filters
    # Forward, and backward to filters and, after the stem, to images; at the edges filters meet fewer pixels.
    expected = 64 * (6 * products + 4 * stem)
    assert costs.operations(preview.assemble(config)) == pytest.approx(0.9 * expected, rel=0.1)


def test_hours_are_limited_by_arithmetic_or_by_the_overhead(costs):
    shape = costs.Shape(num_params=1, num_runs=2, num_gradients=3600, operations=1e12)
    assert shape.hours(teraflops=1.0, overhead=1e-4) == pytest.approx(2.0)
    assert shape.hours(teraflops=1e6, overhead=0.5) == pytest.approx(1.0)


@pytest.mark.parametrize(("budget", "bound"), [(0.9, 0.0), (1.0, 0.5), (3.9, 2.0), (100.0, 5.0)])
def test_a_budget_takes_the_cheapest_groups(costs, budget, bound):
    assert costs.most_hours([5.0, 2.0, 0.5, 0.5], budget) == bound
