"""The page of costs: what it counts, and what it says fits into a day of a GPU."""

import re

import pytest


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


def test_hours_are_limited_by_arithmetic_or_by_the_overhead(costs):
    shape = costs.Shape(num_params=1, num_runs=2, num_gradients=3600, operations=1e12)
    assert shape.hours(teraflops=1.0, overhead=1e-4) == pytest.approx(2.0)
    assert shape.hours(teraflops=1e6, overhead=0.5) == pytest.approx(1.0)


@pytest.mark.parametrize(("budget", "bound"), [(0.9, 0.0), (1.0, 0.5), (3.9, 2.0), (100.0, 5.0)])
def test_a_budget_takes_the_cheapest_groups(costs, budget, bound):
    assert costs.most_hours([5.0, 2.0, 0.5, 0.5], budget) == bound
