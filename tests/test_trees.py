"""Algebra on pytrees."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from flatwide import trees


@pytest.mark.parametrize("value", [jnp.nan, jnp.inf, -jnp.inf])
def test_a_norm_does_not_hide_what_is_not_finite(value):
    assert not np.isfinite(trees.norm({"a": jnp.ones(2), "b": jnp.array([value])}))


def test_a_norm_and_its_gradient():
    vector = {"a": jnp.array([3.0, 0.0]), "b": jnp.array([4.0])}
    norm, gradient = jax.value_and_grad(trees.norm)(vector)
    assert norm == 5
    np.testing.assert_allclose(gradient["a"], [0.6, 0], rtol=1e-6)
    norm, gradient = jax.value_and_grad(trees.norm)(jax.tree.map(jnp.zeros_like, vector))
    assert norm == 0
    np.testing.assert_array_equal(gradient["a"], [0, 0])
