"""Lazy training: models linearized at their initial weights w0, or scaled so that training stays near w0.

`stats` of such a model is {"network": stats of the model inside, "start": w0, ...}, so that checkpoints hold w0.
"""

import jax
import jax.numpy as jnp

from flatwide import trees
from flatwide.types import Array, Model, PyTree


def linearize(model: Model, *, scale: float | None = None) -> Model:
    """Replace a network by its first-order expansion in the weights around the initial ones.

    The network inside runs in evaluation mode with the model state it starts with, in training too: dropout is off,
    and batch norm takes its initial averages, mean 0 and variance 1. So the outputs are linear in w, exactly.

    Args:
      scale: alpha; None for the expansion itself.
    Returns: Model of the same parameters. `restart` moves w0, so that pruned weights are zero there too. Its
      `preactivations` are those of the network at w, which the outputs do not use.
    Equation: F(w0) + J(w0) (w - w0), or alpha J(w0) (w - w0) with a scale, J the derivative of the outputs F by w.
    Cost: a gradient costs some twice that of the network; the memory of one more set of parameters.
    """

    def init(key: Array) -> tuple[PyTree, PyTree]:
        params, network = model.init(key)
        return params, {"network": network, "start": params}

    def apply(params: PyTree, stats: PyTree, inputs: PyTree, *, train: bool, key: Array | None = None):
        del train, key

        def outputs(params: PyTree) -> PyTree:
            return model.apply(params, stats["network"], inputs, train=False, key=None)[0]

        start = stats["start"]
        there, change = jax.jvp(outputs, (start,), (trees.subtract(params, start),))
        if scale is not None:
            return jax.tree.map(lambda leaf: scale * leaf, change), stats
        return jax.tree.map(jnp.add, there, change), stats

    return Model(init, apply, _restart, _preactivations(model))


def centre(model: Model, *, scale: float) -> Model:
    """Subtract a network's initial outputs, and multiply the rest by a scale: the larger, the lazier training is.

    The copy at w0 runs as the network does: in the same mode, with the same dropout key, and with batch-norm averages
    of its own. So the outputs are exactly 0 as long as w = w0.

    Args:
      scale: alpha > 0. In float32 the difference has an error of some 1e-7 F, which alpha multiplies.
    Returns: Model of the same parameters; `restart` moves w0, so that pruned weights are zero there too.
    Equation: alpha (F(w) - F(w0)).
    Cost: one forward pass more, of the copy; the memory of one more set of parameters.
    Source: Chizat et al. (2019), On lazy training in differentiable programming.
    """

    def init(key: Array) -> tuple[PyTree, PyTree]:
        params, network = model.init(key)
        return params, {"network": network, "start": params, "start_network": network}

    def apply(params: PyTree, stats: PyTree, inputs: PyTree, *, train: bool, key: Array | None = None):
        now, network = model.apply(params, stats["network"], inputs, train=train, key=key)
        before, copy = model.apply(stats["start"], stats["start_network"], inputs, train=train, key=key)
        outputs = jax.tree.map(lambda a, b: scale * (a - b), now, before)
        return outputs, {"network": network, "start": stats["start"], "start_network": copy}

    return Model(init, apply, _restart, _preactivations(model))


def _restart(params: PyTree, stats: PyTree) -> PyTree:
    return {**stats, "start": params}


def _preactivations(model: Model):
    inside = model.preactivations
    return None if inside is None else lambda params, stats, inputs: inside(params, stats["network"], inputs)
