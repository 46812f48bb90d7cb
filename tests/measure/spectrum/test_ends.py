"""Both ends of known spectra."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from flatwide.measure.operators import operator
from flatwide.measure.spectrum.ends import ends


def multiply(vector, diagonal):
    return diagonal * vector


def test_ends_with_restarts():
    with jax.enable_x64(True):
        diagonal = jnp.asarray(np.r_[np.linspace(-1, 1, 200), -1.2, 3.0])
        matrix = operator(multiply, jnp.zeros(202), diagonal)
        extremes = ends(matrix, key=jax.random.key(0), tolerance=1e-8, smallest_tolerance=1e-8)
        np.testing.assert_allclose(extremes.values, [3.0, -1.2], rtol=1e-12)
        np.testing.assert_allclose(np.abs(extremes.vectors[:, [-1, -2]]), np.eye(2), atol=1e-7)
        assert extremes.is_converged.all()
        assert extremes.num_products > 12
        values, vectors = jnp.asarray(extremes.values), extremes.vectors
        lengths = jnp.linalg.norm(vectors * diagonal[None] - values[:, None] * vectors, axis=1)
        np.testing.assert_allclose(extremes.residuals, lengths, rtol=1e-4, atol=1e-13)


@pytest.mark.parametrize("size", [1e-25, 1e20])
def test_single_precision_at_any_size(size):
    diagonal = jnp.asarray(size * np.r_[np.linspace(-1, 1, 100), -1.2, 3.0], jnp.float32)
    extremes = ends(operator(multiply, jnp.zeros(102), diagonal), key=jax.random.key(0))
    np.testing.assert_allclose(extremes.values / size, [3.0, -1.2], rtol=1e-3)
    assert extremes.is_converged.all()
    assert np.all(extremes.residuals > 0)


def test_running_out_of_products_is_reported():
    matrix = operator(multiply, jnp.zeros(300), jnp.linspace(0, 1, 300))
    extremes = ends(matrix, key=jax.random.key(0), max_products=8)
    assert not extremes.is_converged[0]
    assert extremes.num_products == 8


def test_one_row():
    extremes = ends(operator(multiply, jnp.zeros(1), jnp.full(1, -2.0)), key=jax.random.key(0))
    np.testing.assert_allclose(extremes.values, [-2, -2])


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ({"max_products": 1}, "max_products=1: expected at least 3"),
        ({"smallest_tolerance": 0.0}, "smallest_tolerance=0.0: expected at least"),
    ],
)
def test_bad_options(option, message):
    with pytest.raises(ValueError, match=message):
        ends(operator(multiply, jnp.zeros(9), jnp.ones(9)), key=jax.random.key(0), **option)
