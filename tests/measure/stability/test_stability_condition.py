import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose

from flatwide.measure.inputs import example_problem
from flatwide.measure.stability.mean_square import MatrixBatches, growth, largest_learning_rate
from flatwide.measure.stability.stability_condition import (
    condition_of,
    consequences_of,
    consequences_of_matrices,
    matrix_free_condition,
    mean_powers,
)


def gauss_newton(seed=0, num=5, size=3, rank=2):
    factors = np.random.default_rng(seed).normal(size=(num, size, rank))
    return factors @ factors.transpose(0, 2, 1)


def powers(hessians, batch_size=1):
    return mean_powers(MatrixBatches(hessians, batch_size))


def printed_condition(hessians, learning_rate, rho):
    """Compute the top eigenvalue of the paper's matrix, term by term."""
    eye, mean = np.eye(hessians.shape[1]), hessians.mean(axis=0)
    moment = {k: np.mean([np.linalg.matrix_power(h, k) for h in hessians], axis=0) for k in (2, 3, 4)}
    spread = {k: moment[k] - np.linalg.matrix_power(mean, k) for k in (2, 3, 4)}
    step = eye - learning_rate * mean - learning_rate * rho * mean @ mean
    matrix = (
        step @ step
        + learning_rate * (learning_rate - 2 * rho) * spread[2]
        + 2 * learning_rate**2 * rho * spread[3]
        + learning_rate**2 * rho**2 * spread[4]
    )
    return np.linalg.eigvalsh(matrix)[-1]


@pytest.mark.parametrize("rho", [0.0, 0.02, 0.3])
def test_condition_is_the_printed_one(rho):
    hessians = gauss_newton()
    condition = condition_of(powers(hessians), 0.07, rho, 1, tolerance=1e-8)
    assert_allclose(condition.value, printed_condition(hessians, 0.07, rho), rtol=1e-12)
    assert condition.margin == 1 - condition.value
    assert condition.is_met == (condition.value <= 1)


def test_largest_steps_are_where_the_printed_condition_ends():
    hessians = gauss_newton(seed=1)
    condition = condition_of(powers(hessians), 0.02, 0.1, 1, tolerance=1e-8)
    for factor, is_met in ((0.5, True), (1 - 1e-6, True), (1 + 1e-6, False), (3.0, False)):
        assert (printed_condition(hessians, factor * condition.largest_learning_rate, 0.1) <= 1) == is_met
        assert (printed_condition(hessians, 0.02, factor * condition.largest_rho) <= 1) == is_met


@pytest.mark.parametrize("batch_size", [1, 2, 5])
def test_condition_suffices(batch_size):
    for seed in range(8):
        batches = MatrixBatches(gauss_newton(seed), batch_size)
        for rho in (0.0, 0.2):
            condition = condition_of(mean_powers(batches), 0.05, rho, batch_size, tolerance=1e-8)
            assert growth(batches, 0.05, rho)[0] <= condition.value + 1e-12
            assert largest_learning_rate(batches, rho) >= condition.largest_learning_rate * (1 - 1e-8)
            assert growth(batches, condition.largest_learning_rate, rho)[0] <= 1 + 1e-8


def test_no_learning_rate_meets_the_condition_off_a_minimum():
    condition = condition_of(powers(np.full((2, 1, 1), -1.0)), 0.1, 0.0, 1, tolerance=1e-8)
    assert not condition.is_met
    assert math.isnan(condition.largest_learning_rate)


@pytest.mark.parametrize(
    ("rho", "bounds"),
    [
        (0.0, (20, 10, math.inf, math.inf)),
        (0.01, (17.1, 11.2, 17.1, 31.6)),
        (0.02, (15.3, 12.9, 13.6, 22.4)),
        (0.05, (12.4, math.inf, 10.0, 14.1)),
        (0.1, (10.0, math.nan, 7.9, 10.0)),
        (0.2, (7.8, math.nan, 6.3, 7.1)),
    ],
)
def test_bounds_at_the_paper_s_learning_rate(rho, bounds):
    consequences = consequences_of(9.0, (11.0, 8.0, -3.0), learning_rate=0.1, rho=rho)
    assert [consequence.name for consequence in consequences] == ["top_eigenvalue", "s_2", "s_3", "s_4"]
    assert_allclose([consequence.bound for consequence in consequences], bounds, atol=0.05)
    values = (9.0, 11.0, 8.0, -3.0)
    assert [consequence.is_met for consequence in consequences] == [
        None if math.isnan(bound) else value <= bound for value, bound in zip(values, bounds, strict=True)
    ]


def test_the_values_of_matrices_are_the_ends_of_their_spectra():
    hessians = gauss_newton(seed=2)
    consequences = consequences_of_matrices(powers(hessians), learning_rate=0.05, rho=0.1)
    mean = hessians.mean(axis=0)
    spread = np.mean(hessians @ hessians, axis=0) - mean @ mean
    assert_allclose(consequences[0].value, np.linalg.eigvalsh(mean)[-1])
    assert_allclose(consequences[1].value, np.sqrt(np.linalg.eigvalsh(spread)[-1]))


VECTORS = np.random.default_rng(0).normal(size=(9, 6))
HESSIANS = VECTORS[:, :, None] * VECTORS[:, None, :]


def loss(params, example, *extra):
    along = jnp.dot(params["a"], example[:4]) + jnp.dot(params["b"], example[4:])
    return along**2 / 2 + sum(jnp.sum(leaf) for leaf in extra)


def by_products(learning_rate, rho, dtype=np.float32, mask=None, extra=None, tolerance=1e-3):
    params = {"a": jnp.zeros(4, dtype), "b": jnp.zeros(2, dtype)}
    data = jnp.asarray(VECTORS, dtype)
    problem = example_problem(loss, params, data, mask=mask, extra=extra)
    options = {"learning_rate": learning_rate, "rho": rho, "key": jax.random.key(0), "tolerance": tolerance}
    return matrix_free_condition(problem, **options)[0]


def by_matrices(learning_rate, rho, hessians=HESSIANS):
    return condition_of(mean_powers(MatrixBatches(hessians, 1)), learning_rate, rho, 1, tolerance=1e-8)


def test_products_agree_with_matrices(float64):
    learning_rate, rho = 0.02, 0.2
    free, dense = by_products(learning_rate, rho, np.float64, tolerance=1e-8), by_matrices(learning_rate, rho)
    assert_allclose(free.value, dense.value, rtol=1e-8)
    assert_allclose(free.largest_learning_rate, dense.largest_learning_rate, rtol=1e-7)
    assert_allclose(free.largest_rho, dense.largest_rho, rtol=1e-7)
    assert (free.is_met, free.batch_size) == (dense.is_met, 1)


def test_flat_and_pruned_directions(monkeypatch):
    # Chunks of 4 and 1.
    monkeypatch.setattr("flatwide.measure.batching.CHUNK_BYTES", 8 * 6 * 4 * 4)
    mask = {"a": np.array([True, True, False, False]), "b": np.array(False)}
    free = by_products(0.02, 0.1, mask=mask, extra=jnp.ones(2))
    dense = by_matrices(0.02, 0.1, HESSIANS[:, :2, :2])
    assert_allclose(free.largest_learning_rate, dense.largest_learning_rate, rtol=2e-3)
    assert_allclose(free.value, dense.value, atol=1e-3)
