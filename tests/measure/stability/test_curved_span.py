import jax
import jax.numpy as jnp
import numpy as np
from numpy.testing import assert_allclose

from flatwide.measure.inputs import example_problem
from flatwide.measure.stability import curved_span as module


def curved_span(loss, params, data, *, mask=None, **options):
    return module.curved_span(example_problem(loss, params, data, mask=mask), **options)


RNG = np.random.default_rng(0)


def net_loss(params, example):
    hidden = jnp.tanh(params["first"] @ example["x"])
    return jnp.sum((params["last"] @ hidden - example["y"]) ** 2) / 2


def net(dtype=np.float32):
    params = {"first": RNG.normal(size=(3, 2)).astype(dtype), "last": RNG.normal(size=(1, 3)).astype(dtype)}
    data = {"x": RNG.normal(size=(5, 2)).astype(dtype), "y": RNG.normal(size=(5, 1)).astype(dtype)}
    return params, jax.tree.map(jnp.asarray, data)


def fitted_loss(params, example):
    """A loss with curvature only along the example's vector, as if each example is fitted."""
    return jnp.dot(params, example) ** 2


def test_small_problems_are_written_out_whole(float64):
    params, data = net(np.float64)
    mask = {"first": np.array([[True, False], [True, True], [False, True]]), "last": np.array(True)}
    span = curved_span(net_loss, params, data, key=jax.random.key(0), max_dimension=20, mask=mask)
    flat, unflatten = jax.flatten_util.ravel_pytree(
        jax.tree.map(lambda leaf, keep: jnp.where(keep, leaf, 0), params, mask)
    )
    kept = np.array([True, False, True, True, False, True, True, True, True])
    dense = jax.vmap(lambda example: jax.hessian(lambda x: net_loss(unflatten(x), example))(flat))
    assert_allclose(span.hessians, jax.jit(dense)(data)[:, kept][:, :, kept], atol=1e-12)


def test_few_examples_of_many_parameters_span_few_directions():
    vectors = RNG.normal(size=(7, 300)).astype(np.float32)
    span = curved_span(fitted_loss, jnp.zeros(300), jnp.asarray(vectors), key=jax.random.key(0), max_dimension=20)
    assert span.hessians.shape == (7, 7, 7)
    assert_allclose(np.linalg.eigvalsh(span.hessians)[:, -1], 2 * np.sum(vectors**2, axis=1), rtol=1e-4)
    traces = np.trace(span.hessians[0] @ span.hessians[1])
    assert_allclose(traces, 4 * (vectors[0] @ vectors[1]) ** 2, rtol=1e-3)


def test_a_span_that_is_too_large_is_not_written_out():
    vectors = jnp.asarray(RNG.normal(size=(30, 100)), jnp.float32)
    options = {"key": jax.random.key(0), "max_dimension": 29}
    assert curved_span(fitted_loss, jnp.zeros(100), vectors, **options) is None
    assert curved_span(fitted_loss, jnp.zeros(100), vectors[:29], **options).hessians.shape == (29, 29, 29)
    assert curved_span(fitted_loss, jnp.zeros(100), vectors, key=jax.random.key(0), max_dimension=0) is None


def test_no_curvature_spans_nothing():
    span = curved_span(
        lambda params, example: jnp.dot(params, example),
        jnp.zeros(100),
        jnp.ones((3, 100)),
        key=jax.random.key(0),
        max_dimension=20,
    )
    assert span.hessians.shape == (3, 0, 0)
