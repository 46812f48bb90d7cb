"""Loss and gradient norm over the examples, which show how close the network is to a minimum."""

import functools

import jax

from flatwide import trees
from flatwide.measurements.subject import Measured, Subject


def gradient(subject: Subject, *, key: jax.Array) -> Measured:
    """Measure the mean loss and the norm of its gradient, without weight decay.

    Returns: train_loss, in units of the loss; gradient_norm, over the kept weights, in loss per unit of parameter.
    Cost: one gradient.
    """
    del key  # nothing is random
    loss, norm = _loss_and_norm(subject.loss_fn, subject.params, subject.examples, subject.stats, subject.mask)
    return Measured({"train_loss": float(loss), "gradient_norm": float(norm)})


@functools.partial(jax.jit, static_argnames="loss_fn")
def _loss_and_norm(loss_fn, params, batch, stats, mask):
    loss, slope = jax.value_and_grad(loss_fn)(params, batch, stats)
    return loss, trees.norm(trees.apply_mask(slope, mask))
