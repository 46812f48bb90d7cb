"""Eigenvalues of every model family's Hessian, whole and pruned, against the dense matrix in 64 bits."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree
from numpy.testing import assert_allclose

from flatwide import experiment, measure, trees
from flatwide.measurements.subject import MeanLoss

IMAGES = {"batch_size": 4, "momentum": 0.0}
FAMILIES = {
    "MLP": {"num_neurons": (3, 2)},
    "linearized": {"num_neurons": (3,), "linearized": True},
    "TwoLayerFrozenHead": {
        "model": "TwoLayerFrozenHead",
        "dataset": "two_layer_teacher",
        "loss": "squared",
        "num_neurons": (9,),
    },
    "ResNet18": {"model": "ResNet18", "num_filters": 1, "num_blocks": (1, 1)},
    "VGG11": {"model": "VGG11", "num_filters": 1},
}
SLOW = ("ResNet18", "VGG11")  # tens of seconds to compile
CASES = [("MLP", 0.5), ("linearized", 0.0), ("TwoLayerFrozenHead", 0.0)]
CASES += [pytest.param(name, sparsity, marks=pytest.mark.slow) for name in SLOW for sparsity in (0.0, 0.5)]


@pytest.mark.parametrize(("name", "sparsity"), CASES)
def test_eigenvalues_are_those_of_the_dense_hessian(name, sparsity, float64):
    pruned = {"pruner": "random", "sparsity": sparsity} if sparsity else {}
    built = experiment.build(IMAGES | FAMILIES[name] | pruned)
    state = built.init()
    if name == "ResNet18":  # averages of a training step, so that evaluation mode is not the identity
        state = built.train_step(state, built.batch(0))[0]
    batch = built.workload.prepare(built.batch(1), None, train=False)
    loss_fn, stats, mask = MeanLoss(built.workload), state.stats, state.mask

    flat, unravel = ravel_pytree(state.params)
    assert flat.dtype == jnp.float64
    ones = jax.tree.map(jnp.ones_like, state.params)
    kept = np.asarray(ravel_pytree(trees.apply_mask(ones, mask))[0], bool)
    dense = jax.jit(jax.hessian(lambda at: loss_fn(trees.apply_mask(unravel(at), mask), batch, stats)))(flat)
    values = np.linalg.eigvalsh(np.asarray(dense)[kept][:, kept])
    assert kept.sum() == len(kept) or sparsity > 0

    hessian = measure.hessian_operator(measure.problem(loss_fn, state.params, batch, mask=mask, extra=stats))
    assert hessian.size == kept.sum()
    pairs = {}
    for end in ("largest", "smallest"):
        pairs[end] = measure.top_eigenvalues(hessian, 3, key=jax.random.key(0), which=end, tolerance=1e-8)
        assert pairs[end].is_converged.all()
    size = np.abs(values).max()
    assert size > 0
    assert_allclose(pairs["largest"].values, values[:-4:-1], rtol=1e-5, atol=1e-9 * size)
    assert_allclose(pairs["smallest"].values, values[:3], rtol=1e-5, atol=1e-9 * size)
