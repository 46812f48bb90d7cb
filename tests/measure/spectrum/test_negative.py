"""The sign of the smallest eigenvalue of known spectra."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from flatwide import measure

BULK = np.random.default_rng(0).uniform(size=3997)


def scaled(vector, diagonal):
    return diagonal * vector


def sign_of(values, dtype=np.float32, seed=0, **options):
    with jax.enable_x64(dtype == np.float64):
        operator = measure.operator(scaled, jnp.zeros(len(values), dtype), jnp.asarray(values, dtype))
        return measure.negative_curvature(operator, key=jax.random.key(seed), **options)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("lowest", [-1.0, -2e-2, -2e-3])
def test_a_direction_of_negative_curvature_is_a_saddle(lowest, dtype):
    for seed in range(3):
        result = sign_of(np.r_[20.0, 5.0, 1e-4 * BULK, lowest], dtype, seed)
        assert result.verdict == "saddle" or result.depth >= -lowest
        assert result.value <= 0
        if lowest <= -2e-2:
            assert result.verdict == "saddle"
            assert result.value == pytest.approx(lowest, abs=result.error)
            assert abs(result.direction[-1]) == pytest.approx(1, abs=1e-3)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_minimum_is_zero_within_its_error(dtype):
    for seed in range(3):
        result = sign_of(np.r_[20.0, 5.0, 1e-7 * BULK, 0.0], dtype, seed)
        assert result.verdict == "no negative eigenvalue below -depth"
        assert result.value == 0
        assert 0 < result.error <= 20 * 1e-4
        assert 0 <= result.depth <= 20 * 1.01e-4


def test_rounding_is_no_saddle(of_spectrum):
    operator = of_spectrum(np.r_[20.0, 5.0, np.zeros(58)], np.float32)
    results = [measure.negative_curvature(operator, key=jax.random.key(seed)) for seed in range(6)]
    assert {result.verdict for result in results} == {"no negative eigenvalue below -depth"}
    assert {result.value for result in results} == {0.0}
    # The gap is that below the value, 0.
    assert all(result.depth == result.hidden_gap <= result.error for result in results)
    operator_top = measure.top_eigenvalues(operator, key=jax.random.key(0), which="smallest")
    assert operator_top.values[0] != 0  # the quotient itself is not 0
    assert results[0].depth == operator_top.hidden_gap - operator_top.values[0]


def test_a_positive_definite_matrix_has_no_depth():
    result = sign_of(np.r_[20.0, 5.0, 1 + BULK], tolerance=1e-3)
    assert result.verdict == "no negative eigenvalue below -depth"
    assert result.value == pytest.approx(1, abs=0.02)
    assert result.depth == 0
    assert result.scale == pytest.approx(20)


def test_too_few_products_cannot_tell():
    result = sign_of(np.r_[20.0, 5.0, 10 * BULK], max_products=4)
    assert result.verdict == "cannot tell"
    assert result.cost <= 4
