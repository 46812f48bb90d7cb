"""The linear rate of a run's training loss, and the rate that the paper's theorem 6.6 guarantees."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np

from flatwide import measure, trees
from flatwide.measurements import steps
from flatwide.measurements.errors import NotApplicableError
from flatwide.measurements.subject import Measured, Subject

_FEWEST = 8  # evaluations that `measure.linear_rate` needs
_SIDE_BY_SIDE = 2**26  # parameters of the examples iterated in parallel: 256 MiB for each vector in 32 bits


def convergence(subject: Subject, *, key: jax.Array, batch_size: int = 1000) -> Measured:
    """Fit a linear rate to the running training loss, and compute the theorem's rate from constants at the network.

    `running_train_loss` is the mean loss of the batches since the previous evaluation, each before its step and in
    training mode; only the end of training has a full pass over the training examples. Both fall at the same linear
    rate.

    If the parameterization gives leaves different learning rates, the constants are those in the coordinates in which
    all have the same one (`steps.in_plain_coordinates`).

    Args:
      batch_size: examples in memory at once.
    Returns: of the fit: rate, rate_low, rate_high (95 %), 1 / step; rate_per_epoch; bend, 1 / step^2, positive if
      the decay slows down; is_linear, 1 or 0; num_evaluations in the fit: below 8 there is no fit.
      Of the theorem: smoothness, the largest of a single example; pl_constant, on the segment of the next training
      step; loss_smoothness, the top eigenvalue, all in loss per squared parameter unit; effective_rho, of the
      unnormalized rule; largest_rho; best_learning_rate and best_rate, the theorem's optimum; bound_rate, 1 / step, at
      the run's learning rate. Rates that the theorem does not guarantee are omitted, and so is everything of the
      theorem if a constant is not positive, for SAM variants other than normalized and unnormalized, or a base
      optimizer other than SGD. pl_constant is also omitted if the loss is so well minimized that a step changes
      nothing.
    Cost: about a hundred Hessian-vector products.
    """
    smooth_key, top_key = jax.random.split(key)
    plain = steps.in_plain_coordinates(subject)
    pl_constant, num_points = _pl_constant(subject, plain.problem(batch_size))
    in_parallel = int(np.clip(_SIDE_BY_SIDE // trees.size(subject.params), 1, min(64, subject.num_examples)))
    smoothness, _ = measure.largest_example_smoothness(plain.example_problem(), key=smooth_key, batch_size=in_parallel)
    top = measure.top_eigenvalues(plain.hessian(batch_size), 1, key=top_key, which="largest")
    constants = {"pl_constant": pl_constant, "loss_smoothness": float(top.values[0]), "smoothness": smoothness}
    values = _fit(subject) | constants | _bound(subject, constants)
    cost = top.cost + num_points / 2 + 21  # the steps of the power iteration
    return Measured({name: value for name, value in values.items() if math.isfinite(value)}, cost=cost)


def _pl_constant(subject: Subject, plain: measure.Problem) -> tuple[float, int]:
    """Compute the PL constant on the segment of the next step, and the number of points; nan if it changes nothing."""
    after = steps.next_params(subject)
    if not steps.moves(subject, after):
        return math.nan, 0
    after = steps.to_plain_coordinates(subject, after)
    along = measure.smoothness_and_pl(plain, after)
    return along.pl_constant, len(along.losses)


def _fit(subject: Subject) -> dict[str, float]:
    at, losses = positive_losses(subject.history)
    values: dict[str, float] = {"num_evaluations": len(losses)}
    if len(losses) < _FEWEST:
        return values
    fit = measure.linear_rate(losses, at, steps_per_epoch=subject.built.steps_per_epoch)
    rates = {"rate": fit.rate, "rate_low": fit.low, "rate_high": fit.high, "rate_per_epoch": fit.rate_per_epoch}
    return values | rates | {"bend": fit.bend, "is_linear": int(fit.is_linear)}


def positive_losses(rows: Sequence[Mapping[str, Any]]) -> tuple[np.ndarray, np.ndarray]:
    """Return steps and running losses before the first loss of exactly 0, which has no logarithm."""
    pairs = [(row["step"], row["running_train_loss"]) for row in rows if row["running_train_loss"] is not None]
    steps_with_loss, losses = np.array(pairs, np.float64).reshape(-1, 2).T
    first = int(np.argmin(np.append(losses > 0, False)))
    return steps_with_loss[:first], losses[:first]


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
    values = {"effective_rho": rho, "largest_rho": best.largest_rho, "best_learning_rate": best.best_learning_rate}
    values |= {"best_rate": best.rate} if best.is_admissible else {}
    return values | ({"bound_rate": here.rate} if here.is_admissible else {})
