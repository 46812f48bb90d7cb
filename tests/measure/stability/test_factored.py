"""Which kernels are factored; the numbers are checked with the moments."""

import jax
import jax.numpy as jnp
import numpy as np

from flatwide.measure.stability.factored import Factors, Network


def factored(function, params, example, is_whole=None):
    leaves = len(jax.tree.leaves(params))
    return set(Network(function, params, example, is_whole or (True,) * leaves).sites)


def test_dense_kernels_are_factored():
    params = [jnp.ones((20, 30)), jnp.ones((30,)), jnp.ones((5, 30))]

    def loss(params, example):
        hidden = jax.jit(lambda kernel, x: jnp.tanh(x @ kernel))(params[0], example) + params[1]
        return jnp.sum(params[2] @ hidden)

    assert factored(loss, params, jnp.ones(20)) == {0, 2}
    assert factored(loss, params, jnp.ones(20), (False, True, True)) == {2}


def test_what_is_not_factored():
    kernel = jnp.ones((8, 8))
    assert factored(lambda kernel, x: x @ kernel, kernel, jnp.ones((1, 8))) == {0}
    assert factored(lambda kernel, x: x @ kernel @ kernel, kernel, jnp.ones(8)) == set()
    assert factored(lambda kernel, x: jnp.sum(x @ kernel) + jnp.sum(kernel), kernel, jnp.ones(8)) == set()
    # Factors with this many rows would be larger than the kernel.
    assert factored(lambda kernel, x: x @ kernel, kernel, jnp.ones((4, 8))) == set()


def test_gradient_of_rows():
    kernel, rows = jnp.asarray(np.random.default_rng(0).normal(size=(40, 50)), float), jnp.arange(80.0).reshape(2, 40)

    def loss(kernel, rows):
        return jnp.sum(jnp.sin(rows @ kernel))

    network = Network(loss, kernel, rows, (True,))
    (gradient,) = network.gradient(kernel, rows)
    assert isinstance(gradient, Factors)
    assert gradient.left.shape == (2, 50)
    written_out = network.mean([jax.tree.map(lambda part: part[None], gradient)])
    np.testing.assert_allclose(written_out, jax.grad(loss)(kernel, rows), rtol=1e-4, atol=1e-3)
