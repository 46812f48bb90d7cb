"""A small network in plain JAX with its dense Hessian, and matrices of known spectra, for the tests of curvature."""

import itertools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

from flatwide import measure


class Mlp(NamedTuple):
    """A network, its data, and its dense matrices."""

    params: Any
    batch: tuple
    loss_fn: Callable

    def flat_loss(self, flat):
        return self.loss_fn(ravel_pytree(self.params)[1](flat), self.batch)

    def problem(self, **options) -> measure.Problem:
        return measure.problem(self.loss_fn, self.params, self.batch, **options)

    def hessian(self) -> np.ndarray:
        return np.asarray(jax.jit(jax.hessian(self.flat_loss))(ravel_pytree(self.params)[0]))


def mlp_loss(params, batch):
    hidden = batch[0]
    for layer in params[:-1]:
        hidden = jnp.tanh(hidden @ layer["kernel"] + layer["bias"][None])
    outputs = hidden @ params[-1]["kernel"] + params[-1]["bias"][None]
    return -jnp.mean(jnp.take_along_axis(jax.nn.log_softmax(outputs), batch[1][:, None], axis=1))


@pytest.fixture
def mlp(float64) -> Mlp:
    """Return a network of 5-6-4-3 units (79 parameters) and 20 examples, in 64 bits."""
    random = np.random.default_rng(0)
    params = [
        {"kernel": jnp.asarray(random.normal(size=pair) / 2), "bias": jnp.asarray(random.normal(size=pair[1:]) / 4)}
        for pair in itertools.pairwise((5, 6, 4, 3))
    ]
    batch = jnp.asarray(random.normal(size=(20, 5))), jnp.asarray(random.integers(0, 3, 20))
    return Mlp(params, batch, mlp_loss)


def dense_product(vector, matrix):
    return matrix @ vector


@pytest.fixture
def of_spectrum() -> Callable:
    """Return a function (values, dtype) -> operator with given eigenvalues and random eigenvectors."""

    def of_spectrum(values, dtype=np.float64) -> measure.Operator:
        values = np.asarray(values, np.float64)
        basis, _ = np.linalg.qr(np.random.default_rng(len(values)).normal(size=(len(values), len(values))))
        matrix = jnp.asarray((basis * values) @ basis.T, dtype)
        return measure.operator(dense_product, jnp.zeros(len(values), dtype), matrix)

    return of_spectrum
