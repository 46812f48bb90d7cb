import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from flatwide import measure

KEY = jax.random.key(0)


def smoothed(grid, values, width):
    """Compute the smoothed density of a known spectrum."""
    shapes = np.exp(-(((grid[:, None] - values[None]) / width) ** 2) / 2) / (width * math.sqrt(2 * math.pi))
    return shapes.mean(axis=1)


def diagonal_product(vector, values):
    return values * vector


def of_values(values):
    """Return a diagonal operator: random starts are isotropic, so it represents any matrix with these eigenvalues."""
    return measure.operator(diagonal_product, jnp.zeros(len(values)), jnp.asarray(values))


def test_semicircle(float64):
    size, radius = 2000, 2.0
    # Quantiles of the semicircle: the integral of its density is inverted.
    positions = np.linspace(-radius, radius, 200_001)
    shares = np.cumsum(np.sqrt(radius**2 - positions**2))
    values = np.interp((np.arange(size) + 0.5) / size, shares / shares[-1], positions)
    result = measure.spectral_density(of_values(values), key=KEY, num_probes=12, num_steps=30)
    expected = np.sqrt(np.clip(radius**2 - result.grid**2, 0, None)) * 2 / (math.pi * radius**2)
    inside = np.abs(result.grid) < radius - 3 * result.width
    assert np.all(np.abs(result.density - expected)[inside] < 4 * result.standard_error[inside])
    assert np.max(result.standard_error) < 0.02
    assert_allclose(result.width, 4 / 30, rtol=0.01)
    assert_allclose(result.share_below(0).value, 0.5, atol=0.03)


def test_two_values(float64):
    values = np.r_[np.full(300, -1.0), np.full(700, 3.0)]
    result = measure.spectral_density(of_values(values), key=KEY, num_probes=10, num_steps=20, width=0.1)
    share = result.share_below(0)
    assert abs(share.value - 0.3) < 4 * share.standard_error
    # The variance of the share of a sum of n squared normal numbers is 2 p (1 - p) / n.
    assert 0.4 < share.standard_error / math.sqrt(2 * 0.3 * 0.7 / 1000 / 10) < 1.8
    low, high = (smoothed(result.grid, np.array([value]), 0.1) for value in (-1.0, 3.0))
    assert_allclose(result.density, share.value * low + (1 - share.value) * high, atol=1e-6)
    assert_array_equal(result.weights[:, 2:], 0)
    assert result.num_products == 20


def test_network_agrees_with_its_dense_hessian(mlp):
    operator = measure.hessian_operator(mlp.problem())
    values = np.linalg.eigvalsh(mlp.hessian())
    result = measure.spectral_density(operator, key=KEY, num_probes=40, num_steps=30)
    expected = smoothed(result.grid, values, result.width)
    # 4 standard errors everywhere, plus the truncation at 30 steps, which is 1e-3 of the maximum.
    assert np.all(np.abs(result.density - expected) < 4 * result.standard_error + 1e-3 * expected.max())
    assert np.mean(np.abs(result.density - expected) > 2.1 * result.standard_error + 1e-3 * expected.max()) < 0.2
    for order in (1, 2, 5):
        moment = result.moment(order)
        assert abs(moment.value - np.mean(values**order)) < 4 * moment.standard_error


def test_as_many_steps_as_rows_are_exact(of_spectrum, float64):
    values = np.array([3.0, 1, 0, -2])
    result = measure.spectral_density(of_spectrum(values), key=KEY, num_probes=2, num_steps=50)
    assert_allclose(result.nodes, [np.sort(values)] * 2, atol=1e-13)


@pytest.mark.parametrize("value", [0.0, 2.0, -1e-6])
def test_one_value(value, float64):
    result = measure.spectral_density(of_values(np.full(50, value)), key=KEY, num_probes=2, num_steps=5)
    assert_allclose(result.moment(1).value, value, rtol=1e-12)
    assert_allclose(np.trapezoid(result.density, result.grid), 1, atol=1e-5)
    assert np.max(result.standard_error) < 1e-9 * np.max(result.density)
    assert result.num_products == 2


def test_the_grid_and_the_width_are_the_ones_given(of_spectrum, float64):
    grid = np.array([-1.0, 0, 2])
    result = measure.spectral_density(of_spectrum([1.0, 2, 3]), key=KEY, grid=grid, width=0.5)
    assert_array_equal(result.grid, grid)
    assert result.density.shape == result.standard_error.shape == (3,)
    assert result.width == 0.5


def test_one_key_gives_one_result(of_spectrum, float64):
    operator = of_spectrum(np.linspace(0, 1, 60))
    first, same, other = (
        measure.spectral_density(operator, key=jax.random.key(seed), num_probes=2, num_steps=10) for seed in (0, 0, 1)
    )
    assert_array_equal(first.nodes, same.nodes)
    assert not np.array_equal(first.nodes, other.nodes)
    # Each probe is another vector.
    assert not np.array_equal(first.nodes[0], first.nodes[1])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_probes": 1}, "num_probes=1: expected at least 2; one probe has no standard error."),
        ({"num_steps": 0}, "num_steps=0: expected at least 1."),
        ({"width": 0.0}, "width=0.0: expected a positive number, or None"),
        ({"width": math.nan}, "width=nan: expected a positive number"),
    ],
)
def test_bad_options_are_refused(options, message):
    with pytest.raises(ValueError) as refused:
        measure.spectral_density(of_values(np.ones(3)), key=KEY, **options)
    assert message in str(refused.value)
