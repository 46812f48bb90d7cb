"""A training step against the same arithmetic written out in NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from flatwide import experiment

FIELDS = {
    "model": "MLP",
    "dataset": "digits",
    "num_neurons": (7, 5),
    "batch_size": 32,
    "num_epochs": 2,
    "rho": 0.3,
    "momentum": 0.9,
    "weight_decay": 1e-2,
    "learning_rate": 0.2,
    "lr_scheduler": "constant",
}
LAYERS = ("hidden_0", "hidden_1", "output")


def numpy_gradient(params, inputs, labels):
    """Differentiate the mean cross-entropy of the ReLU network by hand; loss and gradient."""
    activations = [inputs.reshape(len(inputs), -1)]
    for layer in LAYERS[:-1]:
        activations.append(np.maximum(activations[-1] @ params[layer]["kernel"] + params[layer]["bias"], 0))
    logits = activations[-1] @ params["output"]["kernel"] + params["output"]["bias"]
    shifted = logits - logits.max(axis=1, keepdims=True)
    probabilities = np.exp(shifted) / np.exp(shifted).sum(axis=1, keepdims=True)
    loss = -np.mean(np.log(probabilities[np.arange(len(labels)), labels]))
    delta = (probabilities - np.eye(10)[labels]) / len(labels)
    gradient = {}
    for index in reversed(range(len(LAYERS))):
        layer = LAYERS[index]
        gradient[layer] = {"kernel": activations[index].T @ delta, "bias": delta.sum(axis=0)}
        delta = (delta @ params[layer]["kernel"].T) * (activations[index] > 0)
    return loss, gradient


def combine(function, *trees):
    return jax.tree.map(function, *trees)


def numpy_sam_steps(params, batches, *, rho, momentum, weight_decay, learning_rate, mask):
    """Take SAM steps with momentum and L2 decay; the losses of the clean pass, and the parameters."""
    velocity, losses = combine(np.zeros_like, params), []
    for batch in batches:
        inputs, labels = np.asarray(batch["inputs"], np.float64) / 16, np.asarray(batch["targets"])
        loss, gradient = numpy_gradient(params, inputs, labels)
        gradient = combine(np.multiply, gradient, mask)
        norm = np.sqrt(sum(np.sum(leaf**2) for leaf in jax.tree.leaves(gradient)))
        perturbed = combine(lambda w, g, norm=norm: w + rho * g / norm, params, gradient)
        gradient = combine(np.multiply, numpy_gradient(perturbed, inputs, labels)[1], mask)
        velocity = combine(lambda v, g, w: momentum * v + g + weight_decay * w, velocity, gradient, params)
        params = combine(lambda w, v: w - learning_rate * v, params, velocity)
        losses.append(loss)
    return losses, params


@pytest.mark.parametrize("rho", [0.0, 0.3])
@pytest.mark.parametrize("sparsity", [0.0, 0.6])
def test_three_steps_agree_with_numpy(float64, rho, sparsity):
    built = experiment.build(FIELDS | {"rho": rho, "pruner": "random", "sparsity": sparsity})
    state = built.init()
    mask = state.mask
    mask = jax.tree.map(lambda leaf: np.ones(leaf.shape), state.params) if mask is None else mask
    params = jax.tree.map(
        lambda leaf, is_kept: np.asarray(leaf * jnp.broadcast_to(is_kept, leaf.shape)), state.params, mask
    )
    mask = jax.tree.map(lambda leaf, is_kept: np.broadcast_to(np.asarray(is_kept, float), leaf.shape), params, mask)
    batches = [built.batch(step) for step in range(3)]
    keys = ("momentum", "weight_decay", "learning_rate")
    losses, expected = numpy_sam_steps(params, batches, rho=rho, mask=mask, **{key: FIELDS[key] for key in keys})

    step_losses = []
    for batch in batches:
        state, metrics = built.train_step(state, batch)
        step_losses.append(float(metrics["loss"]))
    assert_allclose(step_losses, losses, rtol=1e-12)
    for a, b in zip(jax.tree.leaves(state.params), jax.tree.leaves(expected), strict=True):
        assert_allclose(a, b, rtol=1e-10, atol=1e-13)


def test_batch_statistics_come_from_the_clean_pass():
    """A tiny ResNet: SAM's running averages after a step are those of SGD, whose loss was at the same weights."""
    fields = FIELDS | {"model": "ResNet18", "num_filters": 2, "num_blocks": (1,), "batch_size": 8}
    sam, sgd = experiment.build(fields), experiment.build(fields | {"rho": 0.0})
    batch = sam.batch(0)
    after_sam, _ = sam.train_step(sam.init(), batch)
    after_sgd, _ = sgd.train_step(sgd.init(), batch)
    assert jax.tree.leaves(after_sam.stats)
    for a, b in zip(jax.tree.leaves(after_sam.stats), jax.tree.leaves(after_sgd.stats), strict=True):
        assert_allclose(a, b, rtol=1e-6)
    assert not np.array_equal(after_sam.params["stem"]["kernel"], after_sgd.params["stem"]["kernel"])


def test_own_initial_weights_are_used_and_kept():
    built = experiment.build(FIELDS)
    initial = jax.tree.map(lambda leaf: np.full(leaf.shape, 0.01, np.float32), built.init().params)
    state = built.init(params=initial)
    built.train_step(state, built.batch(0))
    assert_array_equal(initial["output"]["kernel"], np.float32(0.01))
    assert_array_equal(built.init(params=initial).params["hidden_0"]["kernel"], np.float32(0.01))
