"""The distance of training from the edge of stability: the top eigenvalue over the one at which steps are unstable."""

import math

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

from flatwide import measure, optimizers
from flatwide.config import base_optimizer
from flatwide.measurements import steps
from flatwide.measurements.errors import NotApplicableError
from flatwide.measurements.gradient import gradient
from flatwide.measurements.subject import Measured, Subject
from flatwide.types import PyTree

# Norm of the random vector that is added to the previous eigenvector, which has norm 1. If another eigenvector has
# become the top one, a smaller random part ends at the old one: from the second eigenvector of 39 networks on digits,
# a norm of 1 found a value up to 28 % too low, and a norm of 3 up to 7 %; it costs two or three products of ten.
_RANDOM = 3.0
_VECTOR = "eigenvector"  # the array from which the search at the next network starts


def edge(subject: Subject, *, key: jax.Array, tolerance: float = 3e-3, batch_size: int = 1000) -> Measured:
    """Measure the top eigenvalue and the one at which full-batch steps of the run's rule become unstable.

    At the first snapshot and at the end of the run the search starts from a random vector, and continues until a larger
    eigenvalue is ruled out. In between it starts from the eigenvector of the previous snapshot plus three times as much
    of a random vector, and ends at a small residual: this takes about half of the products, but rules out nothing,
    since the number of products that this would take does not depend on the start.

    Args:
      tolerance: of the eigenvalue's residual and of top_hidden_gap, relative to the eigenvalue.
      batch_size: examples in memory at once.
    Returns: under SGD top_eigenvalue, of the Hessian, and edge_of_stability, in loss per squared parameter unit; under
      Adam and AdamW preconditioned_eigenvalue, of P^-1/2 (H + rho' H^2 + lambda I) P^-1/2, and preconditioned_edge, in
      1 / learning rate, with lambda the decay of Adam and 0 for AdamW, whose decay moves the edge; edge_ratio, the
      first over the second; learning_rate of the step that follows; gradient_norm over the examples, if the edge is
      that of normalized SAM; top_residual; is_warm, 1 if the search started from the previous eigenvector, 0 if from a
      random vector; top_hidden_gap, a bound of the amount by which a missed eigenvalue can be larger, at a certainty of
      1 - 1e-4, omitted if is_warm is 1. Arrays: eigenvector [P], of the matrix that was measured. Values that are not
      finite are omitted. Under SGD, if the parameterization gives leaves different learning rates, everything is in the
      coordinates in which all have the same one (`steps.in_plain_coordinates`). Microbatches and clipping are not
      accounted for, and batches only in that the edge is that of full-batch steps.
    Raises: NotApplicableError for another variant of SAM than normalized and unnormalized, or as
      `steps.ascent_factor`; and under Adam before its first step, if the snapshot does not hold its average of squared
      gradients, or if leaves have different learning rates.
    Cost: ten to thirty Hessian-vector products from a random vector, five to fifteen from the previous eigenvector;
      twice as many for SAM around Adam.
    Source: `measure.edge_of_stability`, `measure.preconditioned_edge`.
    """
    config, rate = subject.built.config, steps.learning_rate(subject)
    norm, cost = _gradient_norm(subject, key)
    hessian = steps.in_plain_coordinates(subject).hessian(batch_size)
    if base_optimizer(config) == "sgd":
        matrix, names, edge = hessian, ("top_eigenvalue", "edge_of_stability"), _edge(subject, rate, norm)
    else:
        matrix, names = _preconditioned(subject, hessian, norm), ("preconditioned_eigenvalue", "preconditioned_edge")
        decay = config["weight_decay"] if base_optimizer(config) == "adamw" else 0.0
        options = {"beta": config["adam_betas"][0], "decoupled_decay": decay}
        edge = measure.preconditioned_edge(learning_rate=rate, **options) if rate else math.inf
    # A separate key for each network, so that the previous vector is independent of the random part added here.
    start_key, search_key = jax.random.split(
        jax.random.fold_in(key, round(subject.epoch * subject.built.steps_per_epoch))
    )
    start = None if subject.snapshot is None else _start(subject, start_key)
    rule_out = "copies" if start is None else "nothing"
    top = measure.top_eigenvalues(
        matrix, 1, key=search_key, which="largest", tolerance=tolerance, rule_out=rule_out, start=start
    )
    value = float(top.values[0])
    values = {
        names[0]: value,
        names[1]: edge,
        "edge_ratio": value / edge if edge > 0 else math.nan,
        "learning_rate": rate,
        "gradient_norm": math.nan if norm is None else norm,
        "top_residual": float(top.residuals[0]),
        "top_hidden_gap": top.hidden_gap,
        "is_warm": float(start is not None),
    }
    vector = ravel_pytree(jax.tree.map(lambda leaf: leaf[0], top.vectors))[0]
    return Measured(
        {name: number for name, number in values.items() if math.isfinite(number)},
        arrays={_VECTOR: np.asarray(vector)},
        cost=cost + top.cost,
    )


def _gradient_norm(subject: Subject, key: jax.Array) -> tuple[float | None, float]:
    """Return the norm of the gradient if the radius of SAM depends on it, else None, and the cost."""
    rho, variant = steps.sam_rho(subject), subject.built.config["sam_variant"]
    if rho == 0 or variant == "unnormalized":
        return None, 0.0
    if variant != "normalized":
        raise NotApplicableError(
            f"config.sam_variant={variant!r}: expected 'normalized' or 'unnormalized'; the edge of stability is known "
            "for these."
        )
    return gradient(subject, key=key).values["gradient_norm"], 0.5


def _edge(subject: Subject, rate: float, norm: float | None) -> float:
    if rate == 0:  # such as in the first step of a warmup
        return math.inf
    config = subject.built.config
    return float(
        measure.edge_of_stability(
            norm,
            learning_rate=rate,
            rho=steps.sam_rho(subject) * steps.ascent_factor(subject),
            momentum=config["momentum"],
            is_nesterov=config["nesterov"],
            weight_decay=config["weight_decay"],
        )
    )


def _preconditioned(subject: Subject, hessian: measure.Operator, norm: float | None) -> measure.Operator:
    config, moments = subject.built.config, None if subject.saved is None else subject.second_moments()
    if subject.built.factors is not None and any(number != 1 for number in jax.tree.leaves(subject.built.factors)):
        raise NotApplicableError(
            f"config.parameterization={config['parameterization']!r} with config.base_optimizer="
            f"{base_optimizer(config)!r}: expected 'sgd', or the base width; the edge of Adam is known "
            "only if all leaves have the same learning rate and perturbation."
        )
    if moments is None or int(moments["num_updates"]) == 0:
        raise NotApplicableError(
            f"config.base_optimizer={base_optimizer(config)!r}: expected a network with Adam's average of "
            "squared gradients; there is none before the first step, nor in snapshots of earlier versions."
        )
    preconditioner = optimizers.preconditioner(
        moments, adam_betas=config["adam_betas"], adam_epsilon=config["adam_epsilon"]
    )
    rho = steps.sam_rho(subject)
    return measure.preconditioned_operator(
        hessian,
        preconditioner,
        rho=rho if norm is None else float(measure.effective_rho(rho, norm)),
        weight_decay=config["weight_decay"] if base_optimizer(config) == "adam" else 0.0,
    )


def _start(subject: Subject, key: jax.Array) -> PyTree | None:
    """Return the eigenvector at the previous network plus noise, like params; None if there is none of this shape."""
    arrays = None if subject.saved is None else subject.before("edge")
    flat, unflatten = ravel_pytree(subject.params)
    vector = None if arrays is None else arrays.get(_VECTOR)
    if vector is None or vector.shape != flat.shape or not np.all(np.isfinite(vector)) or not np.any(vector):
        return None
    noise = jax.random.normal(key, flat.shape, flat.dtype)
    return unflatten(vector / np.linalg.norm(vector) + _RANDOM * noise / jnp.linalg.norm(noise))
