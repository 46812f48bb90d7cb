"""The training step of a run at a network: the next parameters, the learning rate and rho."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np

from flatwide import measure, trees
from flatwide.config import base_optimizer, effective_rho
from flatwide.measurements.errors import NotApplicableError
from flatwide.measurements.subject import MeanLoss, Subject
from flatwide.parameterization import multiply
from flatwide.types import Array, PyTree
from flatwide.workloads import Workload


def next_params(subject: Subject) -> PyTree:
    """Take the training step that follows a network, with a fresh optimizer state, as snapshots contain no momentum."""
    built, step = subject.built, _step(subject)
    params, stats = jax.tree.map(lambda leaf: jnp.array(leaf, copy=True), (subject.params, subject.stats))
    state = built.init()._replace(step=jnp.int32(step), params=params, stats=stats)
    return built.train_step(state, built.batch(step))[0].params


def moves(subject: Subject, after: PyTree) -> bool:
    """Whether a step changes the parameters, despite rounding."""
    return float(trees.norm(trees.subtract(after, subject.params))) > 0


def learning_rate(subject: Subject) -> float:
    """Return the learning rate of that step."""
    return subject.built.learning_rate(_step(subject))


def sam_rho(subject: Subject) -> float:
    """Return the rho of that step."""
    return subject.built.rho(_step(subject))


def in_plain_coordinates(subject: Subject) -> Subject:
    """Return a network of SGD in the coordinates in which all its parameters have the same learning rate.

    If the parameterization multiplies the rate of leaf l by r_l, SGD on w is SGD at the common rate on v, with
    w_l = r_l^(1/2) v_l, of the same loss. Theorems assume one rate, so their constants are those of v. Without such
    factors, and for optimizers other than SGD, return the subject itself.
    """
    numbers = _coordinates(subject)
    if numbers is None:
        return subject
    structure = jax.tree.structure(subject.params)
    workload = _in_coordinates(subject.built.workload, structure, tuple(jax.tree.leaves(numbers)))
    built = dataclasses.replace(subject.built, workload=workload)
    return dataclasses.replace(subject, built=built, params=to_plain_coordinates(subject, subject.params))


def to_plain_coordinates(subject: Subject, params: PyTree) -> PyTree:
    """Convert parameters of a subject's network to the coordinates of `in_plain_coordinates`."""
    numbers = _coordinates(subject)
    return params if numbers is None else multiply(jax.tree.map(lambda number: 1 / number, numbers), params)


def _coordinates(subject: Subject) -> PyTree | None:
    """Compute r_l^(1/2), or None if the coordinates are plain already."""
    factors = subject.built.factors
    if factors is None or base_optimizer(subject.built.config) != "sgd":
        return None
    return jax.tree.map(lambda rate: rate**0.5, factors.rate)


@functools.lru_cache(maxsize=64)
def _in_coordinates(workload: Workload, structure: PyTree, numbers: tuple[float, ...]) -> Workload:
    model = workload.model

    def apply(params: PyTree, *arguments, **keywords):
        return model.apply(multiply(jax.tree.unflatten(structure, numbers), params), *arguments, **keywords)

    return workload._replace(model=model._replace(apply=apply))


def ascent_factor(subject: Subject) -> float:
    """Compute the factor by which the parameterization scales the perturbation in the coordinates with one rate.

    Raises: NotApplicableError if it differs between leaves: theorems assume one rho.
    """
    factors = subject.built.factors
    if factors is None or effective_rho(subject.built.config) == 0:
        return 1.0
    pairs = zip(jax.tree.leaves(factors.perturbation), jax.tree.leaves(factors.rate), strict=True)
    ratios = [perturbation / rate for perturbation, rate in pairs]
    if not np.allclose(ratios, ratios[0], rtol=1e-9):  # powers of widths in 64 bits, whose rounding is 1e-16
        raise NotApplicableError(
            f"config.perturbation_scaling={subject.built.config['perturbation_scaling']!r} with "
            f"config.parameterization={subject.built.config['parameterization']!r}: expected 'layerwise'; otherwise "
            "perturbations and steps of the layers have different proportions, and the theory of stability and "
            "convergence has one rho and one rate."
        )
    return ratios[0]


def batch_size(subject: Subject) -> int:
    """Return the run's batch size, or the number of examples if that is smaller."""
    return min(subject.built.config["batch_size"], subject.num_examples)


def unnormalized_rho(subject: Subject) -> float:
    """Compute the rho of unnormalized SAM that takes the run's steps here: theorems cover only that rule.

    For normalized SAM it is the mean of rho / |g_B| over the examples in batches of the run's size; if the
    parameterization scales steps, in the coordinates of `in_plain_coordinates`.

    Returns: rho in parameter units per unit of gradient; infinity if a batch has no gradient.
    Raises: NotApplicableError for another variant of SAM, or a base optimizer other than SGD, or as `ascent_factor`.
    Cost: one gradient.
    """
    rho, variant = sam_rho(subject), subject.built.config["sam_variant"]
    if (base := base_optimizer(subject.built.config)) != "sgd":
        raise NotApplicableError(
            f"config.base_optimizer={base!r}: expected 'sgd'; the theory of stability and convergence covers only "
            "its steps, which are proportional to the gradient."
        )
    rho *= ascent_factor(subject)
    if rho == 0 or variant == "unnormalized":
        return rho
    if variant != "normalized":
        raise NotApplicableError(
            f"config.sam_variant={variant!r}: expected 'normalized' or 'unnormalized'; the theory of stability and "
            "convergence covers only these."
        )
    size = batch_size(subject)
    count = subject.num_examples // size
    batches = jax.tree.map(lambda leaf: leaf[: count * size].reshape(count, size, *leaf.shape[1:]), subject.examples)
    norms = _gradient_norms(subject.loss_fn, subject.params, batches, subject.stats, subject.mask)
    return float(np.mean(measure.effective_rho(rho, np.asarray(norms))))


@functools.partial(jax.jit, static_argnames="loss_fn")
def _gradient_norms(loss_fn: MeanLoss, params: PyTree, batches: PyTree, stats: PyTree, mask: PyTree | None) -> Array:
    def norm(batch: PyTree) -> Array:
        return trees.norm(trees.apply_mask(jax.grad(loss_fn)(params, batch, stats), mask))

    return jax.lax.map(norm, batches)


def _step(subject: Subject) -> int:
    """Return the index of that step; at the end of a run the last step is repeated, on its batch."""
    built = subject.built
    return min(round(subject.epoch * built.steps_per_epoch), built.num_steps - 1)
