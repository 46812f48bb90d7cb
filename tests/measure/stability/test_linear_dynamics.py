import jax
import jax.numpy as jnp
import numpy as np
import pytest

from flatwide.measure.inputs import example_problem
from flatwide.measure.stability.linear_dynamics import simulated_growth
from flatwide.measure.stability.mean_square import MatrixBatches, growth, largest_learning_rate

VECTORS = np.random.default_rng(0).normal(size=(8, 6))
KEPT = np.array([True, True, False, True, True, False])
HESSIANS = VECTORS[:, KEPT, None] * VECTORS[:, None, KEPT]


def loss(params, example, scale=1.0):
    return scale * jnp.dot(params, example) ** 2 / 2


@pytest.mark.parametrize(("batch_size", "with_replacement"), [(1, False), (3, False), (3, True)])
def test_agrees_with_the_exact_growth_on_both_sides_of_the_threshold(batch_size, with_replacement):
    batches = MatrixBatches(2 * HESSIANS, batch_size, with_replacement=with_replacement)
    threshold = largest_learning_rate(batches, 0.1)
    for factor, is_stable in ((0.95, True), (1.05, False)):
        simulated = simulated_growth(
            example_problem(loss, jnp.ones(6), jnp.asarray(VECTORS, jnp.float32), mask=KEPT, extra=jnp.asarray(2.0)),
            with_replacement=with_replacement,
            learning_rate=factor * threshold,
            rho=0.1,
            batch_size=batch_size,
            num_particles=1000,
            key=jax.random.key(0),
        )
        exact = growth(batches, factor * threshold, 0.1)[0]
        assert abs(simulated.value - exact) < 5 * simulated.standard_error + 0.002
        assert (simulated.high < 1) if is_stable else (simulated.low > 1)
        assert simulated.num_draws == 1000 * 400 * batch_size


def test_rare_large_steps_that_plain_paths_would_miss():
    """E|x|^2 grows although almost every path shrinks: one example in ten has a curvature of 5 / eta."""
    curvatures = np.array([0.5] * 9 + [5.0])
    factors = (1 - curvatures) ** 2
    assert np.mean(factors) > 1 > np.exp(np.mean(np.log(factors)))
    simulated = simulated_growth(
        example_problem(
            lambda x, c: jnp.sum(c * x**2) / 2,
            jnp.zeros(1),
            jnp.asarray(curvatures, jnp.float32),
            mask=None,
            extra=None,
        ),
        learning_rate=1.0,
        rho=0.0,
        batch_size=1,
        key=jax.random.key(0),
        num_particles=1000,
        num_steps=100,
    )
    assert simulated.low < np.mean(factors) < simulated.high


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_particles": 1}, "num_particles=1: expected at least 2"),
        ({"num_steps": 39}, "num_steps=39: expected at least 40"),
    ],
)
def test_refuses(options, message):
    problem = example_problem(loss, jnp.zeros(6), VECTORS)
    with pytest.raises(ValueError, match=message):
        simulated_growth(problem, learning_rate=0.1, rho=0, batch_size=1, key=jax.random.key(0), **options)
