"""The rate at which a run's training loss fell, beside the one that the paper's theorem 6.6 promises."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np

from flatwide import measure, trees
from flatwide.measurements import steps
from flatwide.measurements.subject import Measured, NotApplicableError, Subject

_FEWEST = 8  # evaluations that a rate can be fitted to
_SIDE_BY_SIDE = 2**26  # parameters of all examples whose curvature is iterated at once


def convergence(subject: Subject, *, key: jax.Array, batch_size: int = 1000) -> Measured:
    """Fit a linear rate to the running training loss, and compute the theorem's from constants at the network.

    `running_train_loss` is the mean loss of the batches since the evaluation before, each before its step and in
    training mode; a full pass over the training examples is made at the end only. Both fall at the same linear rate.

    Where the parameterization gives leaves rates of their own, the constants are those in the coordinates in which they
    have one (`steps.in_plain_coordinates`).

    Args:
      batch_size: examples in memory at once.
    Returns: of the fit: rate, rate_low, rate_high (95 %), 1 / step; rate_per_epoch; bend, 1 / step^2, positive where
      the decay slows down; is_linear, 1 or 0; num_evaluations that were used: below 8 there is no fit.
      Of the theorem: smoothness, the largest of a single example; pl_constant, on the way of the next training step;
      loss_smoothness, the top eigenvalue, all in loss per squared parameter unit; effective_rho, that of the
      unnormalized rule; largest_rho; best_learning_rate and best_rate, that the theorem would choose; bound_rate,
      1 / step, at the run's learning rate. What it does not promise is left out, and all of it where a constant is not
      positive, for another variant of SAM than normalized and unnormalized, or a base optimizer but SGD. pl_constant is
      left out too where the loss is so well minimized that a step moves nothing.
    Cost: some hundred Hessian-vector products.
    """
    smooth_key, top_key = jax.random.split(key)
    plain = steps.in_plain_coordinates(subject)
    pl_constant, num_points = _pl_constant(subject, plain, plain.options(batch_size))
    smoothness, _ = measure.largest_example_smoothness(
        plain.loss_fn,
        plain.params,
        plain.examples,
        key=smooth_key,
        mask=subject.mask,
        extra=subject.stats,
        batch_size=int(np.clip(_SIDE_BY_SIDE // trees.size(subject.params), 1, min(64, subject.num_examples))),
    )
    top = measure.top_eigenvalues(plain.hessian(batch_size), 1, key=top_key, which="largest")
    constants = {"pl_constant": pl_constant, "loss_smoothness": float(top.values[0]), "smoothness": smoothness}
    values = _fit(subject) | constants | _bound(subject, constants)
    cost = top.cost + num_points / 2 + 21  # the steps of the power iteration
    return Measured({name: value for name, value in values.items() if math.isfinite(value)}, cost=cost)


def _pl_constant(subject: Subject, plain: Subject, options: Mapping[str, Any]) -> tuple[float, int]:
    """Give the PL constant on the way of the next training step, and at how many points: nan where it moves nothing."""
    after = steps.next_params(subject)
    if not steps.moves(subject, after):
        return math.nan, 0
    after = steps.to_plain_coordinates(subject, after)
    along = measure.smoothness_and_pl(plain.loss_fn, plain.params, after, plain.examples, **options)
    return along.pl_constant, len(along.losses)


def _fit(subject: Subject) -> dict[str, float]:
    at, losses = positive_losses(subject.history)
    found: dict[str, float] = {"num_evaluations": len(losses)}
    if len(losses) < _FEWEST:
        return found
    fit = measure.linear_rate(losses, at, steps_per_epoch=subject.built.steps_per_epoch)
    rates = {"rate": fit.rate, "rate_low": fit.low, "rate_high": fit.high, "rate_per_epoch": fit.rate_per_epoch}
    return found | rates | {"bend": fit.bend, "is_linear": int(fit.is_linear)}


def positive_losses(rows: Sequence[Mapping[str, Any]]) -> tuple[np.ndarray, np.ndarray]:
    """Pick steps and running losses until the first that is 0 to the last bit: it has no logarithm."""
    found = [(row["step"], row["running_train_loss"]) for row in rows if row["running_train_loss"] is not None]
    at, losses = np.array(found, np.float64).reshape(-1, 2).T
    first = int(np.argmin(np.append(losses > 0, False)))
    return at[:first], losses[:first]


def _bound(subject: Subject, constants: Mapping[str, float]) -> dict[str, float]:
    try:
        rho, rate = steps.unnormalized_rho(subject), steps.learning_rate(subject)
    except NotApplicableError:
        return {}
    if not math.isfinite(rho) or not all(value > 0 for value in (*constants.values(), rate)):
        return {}
    options: dict[str, Any] = {"rho": rho, "batch_size": subject.built.config["batch_size"], **constants}
    best = measure.convergence_bound(**options)
    here = measure.convergence_bound(**options, learning_rate=rate)
    found = {"effective_rho": rho, "largest_rho": best.largest_rho, "best_learning_rate": best.best_learning_rate}
    found |= {"best_rate": best.rate} if best.is_admissible else {}
    return found | ({"bound_rate": here.rate} if here.is_admissible else {})
