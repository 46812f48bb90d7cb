"""Measurements of runs whose steps and perturbations have different factors for each leaf."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

from flatwide import measure, trees
from flatwide.measurements import steps
from flatwide.measurements.edge import edge
from flatwide.measurements.errors import NotApplicableError
from flatwide.measurements.layers import layers
from flatwide.measurements.stability import stability

MUP = {"parameterization": "mup", "base_width": (1,), "perturbation_scaling": "layerwise"}
PRUNED = {"pruner": "random", "sparsity": 0.5, "rho": 0.1, "momentum": 0.0, "batch_size": 1}


def by_hand(subject, of_kernel, of_bias):
    """Return a pytree of numbers for the leaves of a network of one hidden layer, twice as wide as the base."""
    numbers = {
        "hidden_0": {"kernel": of_kernel[0], "bias": of_bias[0]},
        "output": {"kernel": of_kernel[1], "bias": of_bias[1]},
    }
    return jax.tree.map(lambda number, leaf: jnp.full(leaf.shape, number), numbers, subject.params)


@pytest.fixture(scope="module")
def subject(small):
    return small(**PRUNED, **MUP)


@pytest.mark.slow
def test_stability_is_that_of_the_hessians_in_the_coordinates_with_one_rate(subject, with_hessians):
    network = with_hessians(subject)
    rates = np.asarray(ravel_pytree(by_hand(subject, (2.0, 0.5), (2.0, 1.0)))[0], np.float64)[network.kept] ** 0.5
    rho = np.mean(0.1 * 2**0.5 / np.linalg.norm(network.gradients, axis=1))
    values = stability(subject, key=jax.random.key(0)).values
    assert values["rho"] == pytest.approx(rho, rel=1e-5)
    rate = subject.built.config["learning_rate"]
    scaled = rates[None, :, None] * network.hessians * rates[None, None, :]
    truth = measure.stability_of_matrices(scaled, learning_rate=rate, rho=rho, batch_size=1)
    assert values["growth_factor"] == pytest.approx(truth.curved_growth, rel=1e-4)
    assert values["condition_value"] == pytest.approx(truth.condition.value, rel=1e-4)
    assert values["top_eigenvalue"] == pytest.approx(np.linalg.eigvalsh(scaled.mean(axis=0))[-1], rel=1e-4)
    edge, edge_rho = values["edge_of_stability"], 0.1 * 2**0.5 / np.linalg.norm(network.gradient)
    assert rate * (edge + edge_rho * edge**2) == pytest.approx(2, rel=1e-4)


@pytest.mark.slow
def test_the_edge_is_that_of_the_same_coordinates(subject, small):
    values, expected = (measured(subject, key=jax.random.key(0)).values for measured in (edge, stability))
    assert values["top_eigenvalue"] == pytest.approx(expected["top_eigenvalue"], rel=0.01)
    assert values["edge_of_stability"] == pytest.approx(expected["edge_of_stability"], rel=1e-5)
    with pytest.raises(NotApplicableError, match=r"config\.base_optimizer='adam': expected 'sgd', or the base width"):
        edge(small(**MUP, base_optimizer="adam", rho=0.0), key=jax.random.key(0))


def test_a_step_is_one_at_the_common_rate_in_those_coordinates(small):
    here = small(rho=0.0, momentum=0.0, parameterization="mup", base_width=(1,))
    plain = steps.in_plain_coordinates(here)
    batch = here.built.workload.prepare(here.built.batch(0), None, train=False)
    slope = jax.grad(plain.loss_fn)(plain.params, batch, plain.stats)
    rate = steps.learning_rate(here)
    expected = jax.tree.map(lambda v, g: v - rate * g, plain.params, slope)
    after = steps.to_plain_coordinates(here, steps.next_params(here))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), after, expected)


def test_layers_perturbed_in_other_proportions_than_their_steps_have_no_one_rho(small):
    naive = small(**PRUNED, **MUP | {"perturbation_scaling": "none"})
    with pytest.raises(NotApplicableError, match=r"config\.perturbation_scaling='none'.*expected 'layerwise'"):
        stability(naive, key=jax.random.key(0))
    assert steps.unnormalized_rho(small(**PRUNED | {"rho": 0.0}, **MUP)) == 0


def test_standard_runs_and_adam_are_measured_as_they_are(small, subject):
    for other in (small(), small(**MUP, base_optimizer="adam")):
        assert steps.in_plain_coordinates(other) is other


@pytest.mark.slow
def test_the_share_of_the_perturbation_is_that_of_the_scaled_one(subject):
    values = layers(subject, key=jax.random.key(0)).values
    slope = jax.grad(subject.loss_fn)(subject.params, subject.examples, subject.stats)
    numbers = by_hand(subject, (2**1.5, 2**-0.5), (2**1.5, 2**0.5))
    scaled = jax.tree.map(lambda g, n: float(jnp.sum((n * g) ** 2)), trees.apply_mask(slope, subject.mask), numbers)
    squares = {layer: sum(leaves.values()) for layer, leaves in scaled.items()}
    for layer, square in squares.items():
        assert values[f"ascent_share_{layer}"] == pytest.approx(square / sum(squares.values()), rel=1e-5)
