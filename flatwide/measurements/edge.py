"""How near the steps of training are to the edge of stability: the top eigenvalue against where they begin to grow."""

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

from flatwide import config as configs
from flatwide import measure, optimizers
from flatwide.measurements import steps
from flatwide.measurements.gradient import gradient
from flatwide.measurements.subject import Measured, NotApplicableError, Subject
from flatwide.types import PyTree

# Times the eigenvector before, of a random vector. Where another eigenvector has become the top one, less of it ends at
# the old one: from the second eigenvector of 39 networks on digits, an equal part found a value up to 28 % too low, and
# three parts 7 %; it costs two or three products of ten.
_RANDOM = 3.0
_VECTOR = "eigenvector"  # in the arrays: where the search at the next network begins


def edge(subject: Subject, *, key: jax.Array, tolerance: float = 3e-3, batch_size: int = 1000) -> Measured:
    """Measure the top eigenvalue beside the one at which full-batch steps of the run's own rule begin to grow.

    At the first network that was kept and at the end of the run the search begins from a random vector, and goes on
    until a larger eigenvalue is ruled out. In between it begins from the eigenvector of the network before and three
    times as much of a random vector, and ends at a small residual: about half of the products, and nothing is ruled
    out, since what is to be ruled out decides how many products that takes, wherever the search begins.

    Args:
      tolerance: of the eigenvalue's residual and of top_hidden_gap, relative to the eigenvalue.
      batch_size: examples in memory at once.
    Returns: under SGD top_eigenvalue, of the Hessian, and edge_of_stability, in loss per squared parameter unit; under
      Adam and AdamW preconditioned_eigenvalue, of P^-1/2 (H + rho' H^2 + lambda I) P^-1/2, and preconditioned_edge, in
      1 / learning rate, with lambda the decay of Adam and 0 for AdamW, whose decay moves the edge; edge_ratio, the
      first over the second; learning_rate of the step that follows; gradient_norm over the examples, where the edge is
      that of normalized SAM; top_residual; is_warm, 1 where the search began from the eigenvector before, 0 where from
      a random vector; top_hidden_gap, by how much at most a larger eigenvalue was left out, at a certainty of 1 - 1e-4,
      which is left out where is_warm is 1. Arrays: eigenvector [P], of the matrix that was measured. What is not finite
      is left out. Under SGD, where the parameterization gives leaves rates of their own, all is in the coordinates in
      which they have one (`steps.in_plain_coordinates`). Microbatches and clipping are not accounted for, and batches
      only in that the edge is that of full-batch steps.
    Raises: NotApplicableError for another variant of SAM than normalized and unnormalized, or as
      `steps.ascent_factor`; and under Adam before its first step, where the snapshot does not hold its average of
      squared gradients, or where leaves have rates of their own.
    Cost: ten to thirty Hessian-vector products from a random vector, five to fifteen from the eigenvector before; two
      times as many for SAM around Adam.
    Source: `measure.edge_of_stability`, `measure.preconditioned_edge`.
    """
    config, rate = subject.built.config, steps.learning_rate(subject)
    norm, cost = _gradient_norm(subject, key)
    hessian = steps.in_plain_coordinates(subject).hessian(batch_size)
    if configs.base_optimizer(config) == "sgd":
        matrix, names, edge = hessian, ("top_eigenvalue", "edge_of_stability"), _edge(subject, rate, norm)
    else:
        matrix, names = _preconditioned(subject, hessian, norm), ("preconditioned_eigenvalue", "preconditioned_edge")
        edge = _adam_edge(config, rate)
    # A key for each network: the vector before is independent of the random part that it is given here.
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
    """Return the norm of the gradient where the radius of SAM depends on it, and what it cost."""
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
    if rate == 0:  # as in the first step of a warmup
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


def _adam_edge(config: Any, rate: float) -> float:
    if rate == 0:
        return math.inf
    decay = config["weight_decay"] if configs.base_optimizer(config) == "adamw" else 0.0
    return measure.preconditioned_edge(learning_rate=rate, beta=config["adam_betas"][0], decoupled_decay=decay)


def _preconditioned(subject: Subject, hessian: measure.Operator, norm: float | None) -> measure.Operator:
    config, moments = subject.built.config, None if subject.saved is None else subject.second_moments()
    if subject.built.factors is not None and any(number != 1 for number in jax.tree.leaves(subject.built.factors)):
        raise NotApplicableError(
            f"config.parameterization={config['parameterization']!r} with config.base_optimizer="
            f"{configs.base_optimizer(config)!r}: expected 'sgd', or the base width; the edge of Adam is known where "
            "all leaves have one rate and one perturbation."
        )
    if moments is None or int(moments["num_updates"]) == 0:
        raise NotApplicableError(
            f"config.base_optimizer={configs.base_optimizer(config)!r}: expected a network with Adam's average of "
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
        weight_decay=config["weight_decay"] if configs.base_optimizer(config) == "adam" else 0.0,
    )


def _start(subject: Subject, key: jax.Array) -> PyTree | None:
    """Return the eigenvector at the network before, disturbed, like params; None where there is none of this shape."""
    arrays = None if subject.saved is None else subject.before("edge")
    flat, unflatten = ravel_pytree(subject.params)
    found = None if arrays is None else arrays.get(_VECTOR)
    if found is None or found.shape != flat.shape or not np.all(np.isfinite(found)) or not np.any(found):
        return None
    noise = jax.random.normal(key, flat.shape, flat.dtype)
    return unflatten(found / np.linalg.norm(found) + _RANDOM * noise / jnp.linalg.norm(noise))
