import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree
from numpy.testing import assert_allclose

from flatwide import measure
from flatwide.measure.smoothness import FRACTIONS, largest_example_smoothness, smoothness_and_pl

pytestmark = pytest.mark.usefixtures("float64")


def network_loss(params, batch):
    hidden = jnp.tanh(batch["x"] @ params["first"])
    return jnp.mean(jnp.sum((hidden @ params["second"] - batch["y"]) ** 2, axis=1))


def example_loss(params, example):
    return jnp.sum((jnp.tanh(example["x"] @ params["first"]) @ params["second"] - example["y"]) ** 2)


def network():
    rng = np.random.default_rng(0)
    params = {"first": jnp.asarray(rng.normal(size=(3, 4))), "second": jnp.asarray(rng.normal(size=(4, 2)))}
    batch = {"x": rng.normal(size=(7, 3)), "y": rng.normal(size=(7, 2))}
    return params, batch


@pytest.mark.parametrize("is_masked", [False, True])
def test_the_constants_are_those_of_the_equations(is_masked):
    params, batch = network()
    mask = {"first": jnp.arange(12).reshape(3, 4) % 3 > 0, "second": jnp.array(True)} if is_masked else None
    rng = np.random.default_rng(1)
    other = jax.tree.map(lambda leaf: leaf + 0.3 * rng.normal(size=leaf.shape), params)
    constants = smoothness_and_pl(
        measure.problem(network_loss, params, batch, mask=mask, batch_size=3), other, minimum=0.1
    )

    kept = np.ones(20, bool) if mask is None else np.concatenate([np.ravel(mask["first"]), np.ones(8, bool)])
    flat, unravel = ravel_pytree(params)
    start, end = kept * np.asarray(flat), kept * np.asarray(ravel_pytree(other)[0])
    loss_fn = jax.jit(jax.value_and_grad(lambda w: network_loss(unravel(w), batch)))
    _, first = loss_fn(start)
    betas, alphas = [], []
    for gamma in np.linspace(0.1, 1.0, 10):
        loss, gradient = loss_fn(start + gamma * (end - start))
        betas.append(np.linalg.norm(kept * (gradient - first)) / np.linalg.norm(gamma * (end - start)))
        alphas.append(np.linalg.norm(kept * gradient) ** 2 / (loss - 0.1))
    assert_allclose(constants.smoothness_along, betas, rtol=1e-9)
    assert_allclose(constants.pl_constant_along, alphas, rtol=1e-9)
    assert constants.smoothness == constants.smoothness_along.max()
    assert constants.pl_constant == constants.pl_constant_along.min()
    assert_allclose(constants.distance, np.linalg.norm(end - start))
    assert_allclose(constants.losses[0], loss_fn(start)[0])
    assert tuple(constants.fractions) == FRACTIONS


def quadratic(params, batch, extra):
    return jnp.mean(batch) * jnp.sum((extra * params) ** 2) / 2


def test_at_the_minimum_there_is_no_pl_constant():
    constants = smoothness_and_pl(
        measure.problem(quadratic, jnp.zeros(3), np.ones((5, 3)), extra=jnp.array([1.0, 0.0, 1.0])),
        jnp.array([0.0, 1.0, 0.0]),
    )
    assert np.isnan(constants.pl_constant)
    assert constants.smoothness == 0


def test_the_largest_curvature_of_an_example_is_that_of_its_dense_hessian():
    params, batch = network()
    flat, unravel = ravel_pytree(params)
    hessian_of = jax.jit(jax.hessian(lambda w, x, y: network_loss(unravel(w), {"x": x[None], "y": y[None]})))
    dense = [np.linalg.norm(hessian_of(flat, x, y), 2) for x, y in zip(batch["x"], batch["y"], strict=True)]
    largest, each = largest_example_smoothness(
        measure.example_problem(example_loss, params, batch), key=jax.random.key(0), num_steps=200, batch_size=4
    )
    assert_allclose(each, dense, rtol=1e-3)
    assert np.all(each <= np.array(dense) * (1 + 1e-9))
    assert largest == each.max()


def test_invalid_segments_are_refused():
    at = jnp.ones(3)
    problem = measure.problem(quadratic, at, np.ones((5, 3)), extra=jnp.ones(3))
    with pytest.raises(ValueError, match="next_params: expected values different from params"):
        smoothness_and_pl(problem, at)
    with pytest.raises(ValueError, match=r"next_params has shapes \(2,\): expected those of params, \(3,\)"):
        smoothness_and_pl(problem, jnp.ones(2))
    with pytest.raises(ValueError, match=r"fractions=\(0.0, 1.0\): expected numbers in \(0, 1\]"):
        smoothness_and_pl(problem, 2 * at, fractions=(0.0, 1.0))
    with pytest.raises(ValueError, match="num_steps=0: expected at least 1"):
        largest_example_smoothness(problem, key=jax.random.key(0), num_steps=0)
    with pytest.raises(ValueError, match=r"a problem of batches: expected measure.example_problem"):
        largest_example_smoothness(problem, key=jax.random.key(0))
    with pytest.raises(ValueError, match=r"a problem of single examples: expected measure.problem"):
        smoothness_and_pl(measure.example_problem(quadratic, at, np.ones((5, 3)), extra=at), 2 * at)


def test_data_that_is_not_finite_is_refused():
    params, batch = network()
    damaged = jax.tree.map(lambda leaf: leaf * np.nan, batch)
    other = jax.tree.map(lambda leaf: leaf + 0.1, params)
    with pytest.raises(ValueError, match="not finite between params and next_params: expected finite numbers"):
        smoothness_and_pl(measure.problem(network_loss, params, damaged), other)
    with pytest.raises(ValueError, match="the product with a vector is not finite"):
        largest_example_smoothness(measure.example_problem(example_loss, params, damaged), key=jax.random.key(0))
