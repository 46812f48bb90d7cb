import jax
import jax.numpy as jnp
import numpy as np
from numpy.testing import assert_allclose

from flatwide.measure.stability.matrix_free_condition import matrix_free_condition
from flatwide.measure.stability.mean_square import MatrixBatches
from flatwide.measure.stability.stability_condition import condition_of, mean_powers

VECTORS = np.random.default_rng(0).normal(size=(9, 6))
HESSIANS = VECTORS[:, :, None] * VECTORS[:, None, :]


def loss(params, example, *extra):
    along = jnp.dot(params["a"], example[:4]) + jnp.dot(params["b"], example[4:])
    return along**2 / 2 + sum(jnp.sum(leaf) for leaf in extra)


def condition_and_cost(learning_rate, rho, dtype=np.float32, tolerance=1e-3, **options):
    params = {"a": jnp.zeros(4, dtype), "b": jnp.zeros(2, dtype)}
    data = jnp.asarray(VECTORS, dtype)
    options = {"key": jax.random.key(0), "tolerance": tolerance, **options}
    return matrix_free_condition(loss, params, data, learning_rate=learning_rate, rho=rho, **options)


def written(learning_rate, rho, hessians=HESSIANS):
    return condition_of(mean_powers(MatrixBatches(hessians, 1)), learning_rate, rho, 1, tolerance=1e-8)


def test_agrees_with_matrices(float64):
    learning_rate, rho = 0.02, 0.2
    free, dense = condition_and_cost(learning_rate, rho, np.float64, 1e-8).condition, written(learning_rate, rho)
    assert_allclose(free.value, dense.value, rtol=1e-8)
    assert_allclose(free.largest_learning_rate, dense.largest_learning_rate, rtol=1e-7)
    assert_allclose(free.largest_rho, dense.largest_rho, rtol=1e-7)
    assert (free.is_met, free.batch_size) == (dense.is_met, 1)


def test_flat_and_pruned_directions(monkeypatch):
    # Chunks of 4 and 1.
    monkeypatch.setattr("flatwide.measure.stability.matrix_free_condition._CHUNK_BYTES", 8 * 6 * 4 * 4)
    mask = {"a": np.array([True, True, False, False]), "b": np.array(False)}
    free = condition_and_cost(0.02, 0.1, mask=mask, extra=jnp.ones(2)).condition
    dense = written(0.02, 0.1, HESSIANS[:, :2, :2])
    assert_allclose(free.largest_learning_rate, dense.largest_learning_rate, rtol=2e-3)
    assert_allclose(free.value, dense.value, atol=1e-3)
