"""The sign of the smallest eigenvalue, of known spectra."""

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
        found = sign_of(np.r_[20.0, 5.0, 1e-4 * BULK, lowest], dtype, seed)
        assert found.verdict == "saddle" or found.depth >= -lowest
        assert found.value <= 0
        if lowest <= -2e-2:
            assert found.verdict == "saddle"
            assert found.value == pytest.approx(lowest, abs=found.error)
            assert abs(found.direction[-1]) == pytest.approx(1, abs=1e-3)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_minimum_is_zero_within_its_error(dtype):
    for seed in range(3):
        found = sign_of(np.r_[20.0, 5.0, 1e-7 * BULK, 0.0], dtype, seed)
        assert found.verdict == "no negative eigenvalue below -depth"
        assert found.value == 0
        assert 0 < found.error <= 20 * 1e-4
        assert 0 <= found.depth <= 20 * 1.01e-4


def test_rounding_is_no_saddle(of_spectrum):
    operator = of_spectrum(np.r_[20.0, 5.0, np.zeros(58)], np.float32)
    found = [measure.negative_curvature(operator, key=jax.random.key(seed)) for seed in range(6)]
    assert {one.verdict for one in found} == {"no negative eigenvalue below -depth"}
    assert {one.value for one in found} == {0.0}
    assert all(one.depth == one.hidden_gap <= one.error for one in found)  # the gap is that below the value, 0
    operator_top = measure.top_eigenvalues(operator, key=jax.random.key(0), which="smallest")
    assert operator_top.values[0] != 0  # the quotient itself is not 0
    assert found[0].depth == operator_top.hidden_gap - operator_top.values[0]


def test_a_positive_definite_matrix_has_no_depth():
    found = sign_of(np.r_[20.0, 5.0, 1 + BULK], tolerance=1e-3)
    assert found.verdict == "no negative eigenvalue below -depth"
    assert found.value == pytest.approx(1, abs=0.02)
    assert found.depth == 0
    assert found.scale == pytest.approx(20)


def test_too_few_products_cannot_tell():
    found = sign_of(np.r_[20.0, 5.0, 10 * BULK], max_products=4)
    assert found.verdict == "cannot tell"
    assert found.cost <= 4
