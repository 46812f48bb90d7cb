"""The sparsity of a budget, against counting."""

import itertools

import jax
import numpy as np
import pytest

from flatwide.study.budget import solve


def network(*sizes):
    """Describe an MLP with biases."""
    layers = {}
    for number, (rows, columns) in enumerate(itertools.pairwise(sizes)):
        kernel, bias = (jax.ShapeDtypeStruct(shape, np.float32) for shape in ((rows, columns), (columns,)))
        layers[f"layer_{number}"] = {"kernel": kernel, "bias": bias}
    return layers


def dense(*sizes):
    return sum((rows + 1) * columns for rows, columns in itertools.pairwise(sizes))


@pytest.mark.parametrize("density", ["global", "erk"])
@pytest.mark.parametrize("budget", [61_035, 30_001, 1_000])
def test_one_total_is_met_exactly(density, budget):
    for sizes in [(784, 75, 25, 10), (784, 300, 100, 10), (784, 1200, 400, 10)]:
        solved = solve(
            network(*sizes), budget=min(budget + sum(sizes[1:]), dense(*sizes)), pruner="snip", layer_density=density
        )
        assert solved.num_nonzero_params == min(budget + sum(sizes[1:]), dense(*sizes))


def test_rounding_a_layer_at_a_time_comes_as_near_as_it_can():
    sizes, budget = (784, 150, 50, 10), 61_035
    solved = solve(network(*sizes), budget=budget, pruner="random", layer_density="uniform")
    kernels = [rows * columns for rows, columns in itertools.pairwise(sizes)]
    counts = [sum(round((1 - s) * n) for n in kernels) + sum(sizes[1:]) for s in np.linspace(0.4, 0.6, 20001)]
    nearest = min(abs(count - budget) for count in counts)
    assert abs(solved.num_nonzero_params - budget) <= nearest <= 2
    assert solved.num_nonzero_params == sum(round((1 - solved.sparsity) * n) for n in kernels) + sum(sizes[1:])


def test_the_dense_network_needs_no_pruner():
    assert solve(network(64, 8, 10), budget=dense(64, 8, 10), pruner="none", layer_density=None) == (0.0, 610)


@pytest.mark.parametrize(("budget", "message"), [(611, "has only 610"), (18, "never pruned"), (300, "needs a pruner")])
def test_what_cannot_be_met_is_said(budget, message):
    pruner = "none" if "pruner" in message and "never" not in message else "snip"
    with pytest.raises(ValueError, match=message):
        solve(network(64, 8, 10), budget=budget, pruner=pruner, layer_density="global")
