"""The sharpness at which full-batch SAM stops to descend."""

import numpy as np


def edge_of_stability(
    gradient_norm: float | np.ndarray | None,
    *,
    learning_rate: float | np.ndarray,
    rho: float | np.ndarray,
) -> np.ndarray:
    """Compute the top Hessian eigenvalue at which full-batch SAM is at the edge of stability.

    Args:
      gradient_norm: |g| >= 0 of the full gradient, for normalized SAM; None for unnormalized SAM. Arrays broadcast.
      learning_rate: eta > 0.
      rho: rho >= 0; 0 gives 2 / eta, that of gradient descent.
    Returns: lambda, in loss per squared unit of parameter, float64; 0 at a zero gradient norm with rho > 0.
    Raises: ValueError for a learning rate or rho out of range, or a norm that is negative or not finite.
    Equation: eta (lambda + rho' lambda^2) = 2 with rho' = rho / |g| (normalized) or rho (unnormalized), that is
      lambda = (1 / 2 rho') (sqrt(1 + 8 rho' / eta) - 1) = (4 / eta) / (1 + sqrt(1 + 8 rho' / eta)).
    Source: Long and Bartlett (2024), Sharpness-aware minimization and the edge of stability.
    """
    check_steps(learning_rate, rho)
    scaled = np.asarray(rho, np.float64) if gradient_norm is None else effective_rho(rho, gradient_norm)
    rate = np.asarray(learning_rate, np.float64)
    # The second form: the first is 0 / 0 at rho = 0 and loses all digits near it.
    return (4 / rate) / (1 + np.sqrt(1 + 8 * scaled / rate))


def effective_rho(rho: float | np.ndarray, gradient_norm: float | np.ndarray) -> np.ndarray:
    """Compute the rho of unnormalized SAM that takes the same step as normalized SAM where the gradient has some norm.

    Linear stability is about unnormalized SAM. With normalized SAM it holds at this rho only as long as the norm lasts:
    at interpolation the norm goes to 0 and the effective rho to infinity.

    Args:
      rho: of normalized SAM, >= 0.
      gradient_norm: |g| >= 0 of the batch's gradient.
    Returns: rho / |g|, float64; infinite at a zero gradient, but 0 for rho = 0.
    Raises: ValueError if rho is negative, or a norm is negative or not finite.
    """
    rho, norm = np.asarray(rho, np.float64), np.asarray(gradient_norm, np.float64)
    check_steps(1.0, rho)
    if not np.all((norm >= 0) & np.isfinite(norm)):
        raise ValueError(f"gradient_norm={gradient_norm}: expected finite norms >= 0.")
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        return np.where(rho > 0, rho / norm, 0.0)[()]


def check_steps(learning_rate: float | np.ndarray, rho: float | np.ndarray) -> None:
    """Refuse a learning rate or a rho that no step can be taken with.

    Raises: ValueError unless learning rates are finite and > 0, and rhos finite and >= 0.
    """
    if not np.all((np.asarray(learning_rate) > 0) & np.isfinite(learning_rate)):
        raise ValueError(f"learning_rate={learning_rate}: expected a finite number > 0.")
    if not np.all((np.asarray(rho) >= 0) & np.isfinite(rho)):
        raise ValueError(f"rho={rho}: expected a finite number >= 0 (0 is plain SGD).")
