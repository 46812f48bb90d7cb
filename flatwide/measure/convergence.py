"""The linear convergence rate that theory guarantees for stochastic SAM under interpolation."""

import math
from typing import NamedTuple

from flatwide.measure import inputs


class ConvergenceBound(NamedTuple):
    """The bound E f(x_t) <= factor^t f(x_0) after t steps.

    largest_rho: the largest rho that the theorem covers, in units of parameter per gradient.
    kappa: the condition number at this batch size.
    best_learning_rate: the learning rate with the smallest factor; NaN if none is guaranteed to converge.
    best_factor: the factor at best_learning_rate.
    learning_rate: as given, else the best.
    factor: the factor at learning_rate; 1 or more guarantees nothing.
    rate: -log(factor), 1 / step: a lower bound of the observed `LinearRate.rate`.
    is_admissible: rho is at most largest_rho, and the factor lies in [0, 1).
    """

    largest_rho: float
    kappa: float
    best_learning_rate: float
    best_factor: float
    learning_rate: float
    factor: float
    rate: float
    is_admissible: bool


def convergence_bound(
    *,
    smoothness: float,
    pl_constant: float,
    loss_smoothness: float | None = None,
    rho: float = 0.0,
    batch_size: int = 1,
    learning_rate: float | None = None,
) -> ConvergenceBound:
    """Compute the linear rate of stochastic, unnormalized SAM on a loss that interpolates and satisfies PL.

    Args:
      smoothness: beta, of every example's loss (`largest_example_smoothness`), > 0.
      pl_constant: alpha in |grad f|^2 >= alpha (f - f*), > 0; `smoothness_and_pl` estimates it.
      loss_smoothness: lambda, of the mean loss (its top eigenvalue); None for beta, which is never smaller.
      rho: of the unnormalized rule eps = rho grad, >= 0; 0 is SGD. For the normalized rule it is rho / |grad|.
      batch_size: B >= 1, examples of a step.
      learning_rate: eta > 0; None for the best.
    Returns: ConvergenceBound. The constants must hold everywhere that training goes; with constants estimated along a
      path, this is what the theorem would imply if they did.
    Raises: ValueError for a number out of range.
    Equation: kappa = ((B - 1) / 2 + beta / alpha) / B; largest_rho = 1 / ((beta / alpha + 1/2) beta);
      factor = 1 - eta alpha (1 - (kappa + 1/2) beta rho) + eta^2 alpha lambda (beta rho + 1)^2 kappa;
      best_learning_rate = (1 - (kappa + 1/2) beta rho) / (2 lambda kappa (beta rho + 1)^2).
    Source: Shin et al. (2025), theorems 6.6 and H.3.
    """
    smoothness, pl_constant = float(smoothness), float(pl_constant)
    loss_smoothness = smoothness if loss_smoothness is None else float(loss_smoothness)
    numbers = {"smoothness": smoothness, "pl_constant": pl_constant, "loss_smoothness": loss_smoothness}
    for name, value in {**numbers, **({} if learning_rate is None else {"learning_rate": learning_rate})}.items():
        if not 0 < value < math.inf:
            raise ValueError(f"{name}={value}: expected a finite number > 0.")
    if not 0 <= rho < math.inf:
        raise ValueError(f"rho={rho}: expected a finite number >= 0 (0 is SGD).")
    inputs.check_at_least(1, batch_size=batch_size)
    ratio = smoothness / pl_constant
    kappa = ((batch_size - 1) / 2 + ratio) / batch_size
    largest_rho = 1 / ((ratio + 0.5) * smoothness)
    gain = 1 - (kappa + 0.5) * smoothness * rho
    cost = loss_smoothness * kappa * (smoothness * rho + 1) ** 2

    def factor_at(rate: float) -> float:
        return 1 - rate * pl_constant * gain + rate**2 * pl_constant * cost

    # The factor is a parabola in eta: if gain > 0 it decreases at first, and its minimum is at the vertex.
    best = gain / (2 * cost) if gain > 0 else math.nan
    eta = best if learning_rate is None else learning_rate
    factor = factor_at(eta)
    rate = -math.log(factor) if factor > 0 else math.nan
    is_admissible = rho <= largest_rho and 0 <= factor < 1
    return ConvergenceBound(
        largest_rho=largest_rho,
        kappa=kappa,
        best_learning_rate=best,
        best_factor=factor_at(best),
        learning_rate=eta,
        factor=factor,
        rate=rate,
        is_admissible=is_admissible,
    )
