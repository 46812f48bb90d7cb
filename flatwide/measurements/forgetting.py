"""What fine-tuning cost of what a network had learned before."""

import dataclasses

import jax
import numpy as np

from flatwide import trees
from flatwide.measurements.errors import NotApplicableError
from flatwide.measurements.robustness import bootstrap, change, scores_of, summary
from flatwide.measurements.subject import Measured, Saved, Subject, examples_of
from flatwide.runs import pretrained
from flatwide.runs.load import rebuild


def forgetting(subject: Subject, *, key: jax.Array, num_resamples: int = 200, batch_size: int = 1000) -> Measured:
    """Score a network on test examples of the run whose weights it started from.

    Args:
      num_resamples: of the examples, for the errors of the changes. batch_size: examples in memory at once.
    Returns: loss and metric on these examples, and loss_rise and metric_change since the start, with bootstrap standard
      errors over the examples; tuned_loss and tuned_metric on as many of its own test examples; distance |d| of the
      weights from their start; directional_sharpness d' H d / |d|^2, with the Hessian H of the loss on the earlier
      examples at the start, whose half times |d|^2 is the rise of the loss to second order, the gradient aside.
    Raises: NotApplicableError for a run that drew its weights, or whose shapes are others.
    Cost: three passes and a Hessian-vector product over the examples.
    """
    config = subject.built.config
    if config["initialize_from"] is None:
        raise NotApplicableError("config.initialize_from=None: the network learned nothing before.")
    directory = pretrained.source(config)
    built = rebuild(directory)
    saved = Saved(directory, built, examples_of(built, subject.num_examples), subject.num_examples)
    before = saved.subject(None).on_test_examples(subject.num_examples)
    shapes, source_shapes = (jax.tree.map(np.shape, network.params) for network in (subject, before))
    if shapes != source_shapes:
        raise NotApplicableError(f"{directory.path}: its network has other shapes, so it cannot be scored on its data.")
    after = dataclasses.replace(before, params=subject.params, stats=subject.stats)
    own = subject.on_test_examples(subject.num_examples)
    objective = built.workload.objective
    clean, tuned, own_scores = (scores_of(network, batch_size, network.params) for network in (before, after, own))
    random = np.random.default_rng(np.asarray(jax.random.bits(key, (4,), "uint32")))
    changed = change(objective, clean, tuned)
    values = summary(objective, tuned) | changed
    values |= {f"tuned_{name}": value for name, value in summary(own.built.workload.objective, own_scores).items()}
    moved = trees.subtract(subject.params, before.params)
    values["distance"] = float(trees.norm(moved))
    if values["distance"] > 0:
        direction = trees.scale(1 / values["distance"], moved)
        product = before.hessian(batch_size)(direction)
        values["directional_sharpness"] = float(sum(map(trees.inner, *map(jax.tree.leaves, (direction, product)))))
    return Measured(values, bootstrap(objective, clean, tuned, random, num_resamples), cost=1.75)
