"""The share of hidden units whose activity training leaves unchanged."""

from typing import NamedTuple

import jax.numpy as jnp

from flatwide.types import Array, Model, PyTree


class Stability(NamedTuple):
    """Shares of the ReLU units that are on (input above 0) at both weights, or off at both, of each example."""

    units: Array  # [B], over all units
    layers: dict[str, Array]  # [B] each, over the units of one layer


def stability(model: Model, before: tuple[PyTree, PyTree], after: tuple[PyTree, PyTree], inputs: PyTree) -> Stability:
    """Compare which hidden ReLUs are on before and after training.

    Args:
      model: one whose `preactivations` are known: MLP, VGG11, OneHiddenLayer, TwoLayerFrozenHead.
      before, after: (params, stats), such as those of `Experiment.init` and of a trained run.
      inputs: [B, ...], prepared.
    Returns: shares in [0, 1] of each example; their mean over examples is that of the data, whatever the batches.
    Raises: ValueError if the model has no ReLU that is known.
    Cost: two forward passes.
    Source: Chizat et al. (2019), "stability of activations", whose code takes each layer by itself; the paper's figure
      19 does not say how it averages.
    """
    if model.preactivations is None:
        raise ValueError("The model does not report its ReLUs: expected one with `preactivations`, such as an MLP.")
    was, now = (model.preactivations(*weights, inputs) for weights in (before, after))
    if not was:
        raise ValueError("The model reports no ReLU: expected an MLP with a hidden layer, VGG11 or another such.")
    same = {name: ((was[name] > 0) == (now[name] > 0)).reshape(was[name].shape[0], -1) for name in was}
    layers = {name: jnp.mean(is_same, axis=1, dtype=float) for name, is_same in same.items()}
    return Stability(jnp.mean(jnp.concatenate(list(same.values()), axis=1), axis=1, dtype=float), layers)
