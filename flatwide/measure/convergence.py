"""The linear rate that theory promises to stochastic SAM where it can fit all examples."""

import math
from typing import NamedTuple


class ConvergenceBound(NamedTuple):
    """What the theorem says of E f(x_t) <= factor^t f(x_0), in steps t.

    largest_rho: the theorem holds up to it; in units of parameter per gradient.
    kappa: the condition number that the batch size leaves.
    best_learning_rate: the one with the least factor; NaN where none is promised to converge.
    best_factor: with it.
    learning_rate: as given, else the best.
    factor: with it; 1 or more promises nothing.
    rate: -log(factor), 1 / step: what the observed `LinearRate.rate` should be at least.
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
      loss_smoothness: lambda, of the mean loss (its top eigenvalue); None for beta, which is never less.
      rho: of the unnormalized rule eps = rho grad, >= 0; 0 is SGD. For the normalized rule it is rho / |grad|.
      batch_size: B >= 1, examples of a step.
      learning_rate: eta > 0; None for the best.
    Returns: ConvergenceBound. The constants must hold wherever training goes: with estimates from a path this is what
      the theorem would say if they did.
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
    if batch_size < 1:
        raise ValueError(f"batch_size={batch_size}: expected at least 1.")
    ratio = smoothness / pl_constant
    kappa = ((batch_size - 1) / 2 + ratio) / batch_size
    largest_rho = 1 / ((ratio + 0.5) * smoothness)
    gain = 1 - (kappa + 0.5) * smoothness * rho
    cost = loss_smoothness * kappa * (smoothness * rho + 1) ** 2

    def factor_at(rate: float) -> float:
        return 1 - rate * pl_constant * gain + rate**2 * pl_constant * cost

    # The factor is a parabola in eta: it falls at first where gain > 0, and is least at the vertex.
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
