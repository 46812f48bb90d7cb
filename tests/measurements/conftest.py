"""Small networks to measure, with their dense matrices."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

from flatwide import experiment
from flatwide.measurements.subject import Subject, examples_of


class Small(NamedTuple):
    """A network at its initial weights, and for each example the gradient, 0 at pruned weights, and the Hessian."""

    subject: Subject
    kept: np.ndarray
    gradients: np.ndarray
    hessians: np.ndarray

    @property
    def mean(self) -> np.ndarray:
        return self.hessians.mean(axis=0)

    @property
    def flat(self) -> np.ndarray:
        return np.asarray(ravel_pytree(self.subject.params)[0], np.float64)

    @property
    def gradient(self) -> np.ndarray:
        """Return the gradient of the loss over all examples, 0 at pruned weights."""
        return self.gradients.mean(axis=0)

    def loss(self, flat) -> np.ndarray:
        """Compute the loss of each example at flat params."""
        subject = self.subject
        params = ravel_pytree(subject.params)[1](jnp.asarray(flat, jnp.float32))
        return np.asarray(_losses(subject.per_example_loss, params, subject.examples, subject.stats), np.float64)


@jax.jit(static_argnums=0)
def _losses(loss, params, examples, stats):
    return jax.vmap(lambda example: loss(params, example, stats))(examples)


def make(**fields) -> Subject:
    built = experiment.build({"num_neurons": (2,), "batch_size": 8} | fields)
    state = built.init()
    return Subject(built, state.params, state.stats, state.mask, 0.0, examples_of(built, 20)(None))


def dense(subject: Subject) -> Small:
    """Compute the Hessians of a small network."""
    flat, unravel = ravel_pytree(subject.params)
    kept = np.ones(len(flat), bool)
    if subject.mask is not None:
        whole = jax.tree.map(lambda leaf, mask: np.broadcast_to(mask, leaf.shape), subject.params, subject.mask)
        kept = np.asarray(ravel_pytree(whole)[0], bool)
        assert 0 < kept.sum() < len(kept)

    def loss(flat, example):
        return subject.per_example_loss(unravel(flat), example, subject.stats)

    gradients, hessians = (
        np.asarray(jax.jit(jax.vmap(derivative(loss), (None, 0)))(flat, subject.examples), np.float64)
        for derivative in (jax.grad, jax.hessian)
    )
    return Small(subject, kept, gradients * kept, hessians[:, kept][:, :, kept])


@pytest.fixture(scope="session")
def small() -> Callable[..., Subject]:
    """Return a function (**fields) -> a network of two hidden neurons, with 20 examples."""
    return make


@pytest.fixture(scope="session")
def with_hessians() -> Callable[[Subject], Small]:
    """Return the function that computes the Hessians of a small network."""
    return dense


@pytest.fixture(scope="session")
def masked() -> Small:
    """Return a network with half of its weights pruned."""
    return dense(make(pruner="random", sparsity=0.5))
