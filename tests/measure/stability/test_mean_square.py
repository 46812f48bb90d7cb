import itertools
import math

import numpy as np
import pytest
from numpy.testing import assert_allclose

from flatwide.measure.stability.mean_square import (
    MatrixBatches,
    coincidences,
    growth,
    largest_learning_rate,
    largest_rho,
)


def gauss_newton(seed=0, num=4, size=3, rank=2):
    factors = np.random.default_rng(seed).normal(size=(num, size, rank))
    return factors @ factors.transpose(0, 2, 1)


def indefinite(seed=1, num=4, size=3):
    matrices = np.random.default_rng(seed).normal(size=(num, size, size))
    return matrices + matrices.transpose(0, 2, 1)


def all_batches(num, batch_size, with_replacement):
    return (
        itertools.product(range(num), repeat=batch_size)
        if with_replacement
        else itertools.combinations(range(num), batch_size)
    )


def brute_force_growth(hessians, batch_size, with_replacement, learning_rate, rho):
    """Compute the spectral radius of E J x J over all possible batches."""
    eye, squares = np.eye(hessians.shape[1]), []
    for batch in all_batches(len(hessians), batch_size, with_replacement):
        mean = hessians[list(batch)].mean(axis=0)
        step = eye - learning_rate * (mean + rho * mean @ mean)
        squares.append(np.kron(step, step))
    return np.max(np.abs(np.linalg.eigvals(np.mean(squares, axis=0))))


@pytest.mark.parametrize("hessians", [gauss_newton(), indefinite()], ids=["gauss_newton", "indefinite"])
@pytest.mark.parametrize("with_replacement", [False, True])
@pytest.mark.parametrize("batch_size", [1, 2, 3, 4])
def test_growth_is_the_spectral_radius_over_all_batches(hessians, batch_size, with_replacement):
    batches = MatrixBatches(hessians, batch_size, with_replacement=with_replacement)
    for learning_rate, rho in ((0.05, 0.0), (0.1, 0.07), (0.4, 0.3)):
        expected = brute_force_growth(hessians, batch_size, with_replacement, learning_rate, rho)
        assert_allclose(growth(batches, learning_rate, rho)[0], expected, rtol=1e-12)


@pytest.mark.parametrize("table_rows", [0, 400])
@pytest.mark.parametrize("batch_size", [1, 2])
def test_growth_of_more_rows_than_are_written_out(monkeypatch, batch_size, table_rows):
    monkeypatch.setattr("flatwide.measure.stability.mean_square._TABLE_ROWS", table_rows)
    monkeypatch.setattr("flatwide.measure.stability.mean_square._PAIR_ENTRIES", table_rows)
    hessians = gauss_newton(num=5, size=9, rank=3)
    growth_and_matrix = growth(MatrixBatches(hessians, batch_size), 0.03, 0.05)
    assert_allclose(growth_and_matrix[0], brute_force_growth(hessians, batch_size, False, 0.03, 0.05), rtol=1e-9)
    assert np.all(
        np.linalg.eigvalsh(growth_and_matrix[1] * np.sign(np.trace(growth_and_matrix[1]))) > -1e-9
    )  # the eigenvector is a covariance


def test_full_batch_is_the_square_of_one_factor():
    hessians = gauss_newton()
    batches = MatrixBatches(hessians, len(hessians))
    eigenvalues = np.linalg.eigvalsh(hessians.mean(axis=0))
    factors = 1 - 0.2 * (eigenvalues + 0.3 * eigenvalues**2)
    assert_allclose(growth(batches, 0.2, 0.3)[0], np.max(factors**2), rtol=1e-12)
    top = eigenvalues[-1]
    assert_allclose(largest_learning_rate(batches, 0.3), 2 / (top + 0.3 * top**2), rtol=1e-9)
    assert_allclose(largest_rho(batches, 0.1), (2 / 0.1 - top) / top**2, rtol=1e-9)


@pytest.mark.parametrize("batch_size", [1, 2])
def test_thresholds_are_where_brute_force_crosses_one(batch_size):
    hessians = gauss_newton(seed=3)
    batches = MatrixBatches(hessians, batch_size)
    rate, radius = largest_learning_rate(batches, 0.1), largest_rho(batches, 0.05)
    for factor, is_stable in ((0.3, True), (1 - 1e-6, True), (1 + 1e-6, False), (2.0, False)):
        assert (brute_force_growth(hessians, batch_size, False, factor * rate, 0.1) <= 1) == is_stable
        assert (brute_force_growth(hessians, batch_size, False, 0.05, factor * radius) <= 1) == is_stable


def test_thresholds_where_there_is_none():
    nothing = MatrixBatches(np.zeros((2, 2, 2)), 1)
    assert largest_learning_rate(nothing, 0.1) == largest_rho(nothing, 0.1) == math.inf
    assert math.isnan(
        largest_rho(MatrixBatches(np.full((1, 1, 1), 10.0), 1), 0.5)
    )  # unstable without rho, and with any
    assert math.isnan(largest_learning_rate(MatrixBatches(np.full((1, 1, 1), -1.0), 1), 0.0))  # a maximum


def test_rho_can_stabilize_a_saddle():
    """At curvature -1 the step's factor is 1 + eta - eta rho: stable for rho from 1 to 1 + 2 / eta."""
    assert_allclose(largest_rho(MatrixBatches(np.full((1, 1, 1), -1.0), 1), 0.1), 21.0, rtol=1e-9)
    assert_allclose(largest_learning_rate(MatrixBatches(np.full((1, 1, 1), -1.0), 1), 3.0), 1.0, rtol=1e-9)


@pytest.mark.parametrize("with_replacement", [False, True])
def test_coincidences_average_products_of_batch_means(with_replacement):
    numbers = np.array([1.0, 2.0, 5.0, -3.0])
    batches = [numbers[list(batch)] for batch in all_batches(4, 3, with_replacement)]
    for power in (2, 3, 4):
        weights = coincidences(power, 4, 3, with_replacement)
        free = {
            pattern: math.prod(np.mean(numbers ** pattern.count(letter)) for letter in set(pattern))
            for pattern in weights
        }
        average = sum(weight * free[pattern] for pattern, weight in weights.items())
        assert_allclose(average, np.mean([batch.mean() ** power for batch in batches]), rtol=1e-12)
        assert_allclose(sum(weights.values()), 1, rtol=1e-12)
    assert coincidences(4, 7, 1, False) == {"0000": 1.0}
    assert coincidences(4, 7, 7, False) == {"0123": 1.0}
