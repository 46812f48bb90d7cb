"""The curvature above which full-batch steps of an optimizer are unstable, and the matrix that Adam's edge is about."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np

from flatwide.measure import inputs
from flatwide.measure.operators import Operator
from flatwide.types import Array, PyTree


def edge_of_stability(
    gradient_norm: float | np.ndarray | None,
    *,
    learning_rate: float | np.ndarray,
    rho: float | np.ndarray,
    momentum: float = 0.0,
    is_nesterov: bool = False,
    weight_decay: float = 0.0,
) -> np.ndarray:
    """Compute the top Hessian eigenvalue at which full-batch gradient descent or SAM is at the edge of stability.

    Args:
      gradient_norm: |g| >= 0 of the full gradient, for normalized SAM; None for unnormalized SAM. Arrays broadcast.
      learning_rate: eta > 0.
      rho: rho >= 0; 0 gives 2 / eta, that of gradient descent.
      momentum: beta of heavy-ball momentum, 0 <= beta < 1. is_nesterov: whether it is Nesterov's, as in PyTorch.
      weight_decay: lambda >= 0 of an L2 term lambda w, which is added to the gradient after the ascent.
    Returns: the eigenvalue, in loss per squared unit of parameter, float64; 0 at a zero gradient norm with rho > 0, and
      if the decay alone is at its edge.
    Raises: ValueError for a learning rate, rho, momentum or decay out of range, or a norm that is negative or not
      finite.
    Equation: on a quadratic SAM's gradient along an eigenvector is (a + rho' a^2) x, with rho' = rho / |g| (normalized)
      or rho (unnormalized). Steps with momentum are unstable above a + rho' a^2 + lambda = c, with
      c = 2 (1 + beta) / eta of the heavy ball, 2 (1 + beta) / (eta (1 + 2 beta)) of Nesterov's; so
      a = 2 (c - lambda) / (1 + sqrt(1 + 4 rho' (c - lambda))).
    Source: Long and Bartlett (2024), Sharpness-aware minimization and the edge of stability, without momentum and
      decay; Cohen et al. (2021), Gradient descent on neural networks typically occurs at the edge of stability, for
      momentum without SAM; for SAM with either, flatwide.
    """
    check_steps(learning_rate, rho)
    _check_momentum(momentum, weight_decay)
    scaled = np.asarray(rho, np.float64) if gradient_norm is None else effective_rho(rho, gradient_norm)
    limit = 2 * (1 + momentum) / np.asarray(learning_rate, np.float64)
    limit = limit / (1 + 2 * momentum) if is_nesterov else limit
    left = np.maximum(limit - weight_decay, 0.0)
    # The equivalent (sqrt(1 + 4 rho' c) - 1) / 2 rho' is 0 / 0 at rho = 0 and loses all digits near it.
    with np.errstate(invalid="ignore"):
        return np.where(left > 0, 2 * left / (1 + np.sqrt(1 + 4 * scaled * left)), 0.0)[()]


def preconditioned_edge(*, learning_rate: float, beta: float = 0.9, decoupled_decay: float = 0.0) -> float:
    """Compute the top eigenvalue of Adam's preconditioned Hessian at which its full-batch steps are at their edge.

    The preconditioner is treated as constant; Adam's changes slowly, and training can continue above the edge by
    increasing it.

    Args:
      learning_rate: eta > 0.
      beta: decay rate beta_1 of the average of gradients, 0 <= beta < 1.
      decoupled_decay: lambda >= 0 of AdamW, whose steps also subtract eta lambda w. The L2 term of Adam belongs to the
        matrix instead.
    Returns: the eigenvalue of P^-1/2 H P^-1/2, in units of 1 / learning rate; 0 if the decay alone is at its edge.
    Raises: ValueError for a number out of range.
    Equation: (1 + beta) (2 - eta lambda) / ((1 - beta) eta), which is 38 / eta at beta = 0.9 without decay, with
      P = (1 - beta^t) diag(sqrt(v / (1 - beta_2^t)) + epsilon) after t steps.
    Source: Cohen et al. (2022), Adaptive gradient methods at the edge of stability, arXiv 2207.14484; for decoupled
      decay, flatwide.
    """
    check_steps(learning_rate, 0.0)
    _check_momentum(beta, decoupled_decay)
    left = max(2 - learning_rate * decoupled_decay, 0.0)
    return (1 + beta) * left / ((1 - beta) * learning_rate)


def preconditioned_operator(
    hessian: Operator, preconditioner: PyTree, *, rho: float = 0.0, weight_decay: float = 0.0
) -> Operator:
    """Return the matrix whose top eigenvalue decides whether full-batch steps of a preconditioned optimizer are stable.

    Args:
      hessian: H, of the loss without decay.
      preconditioner: diagonal of P, like params, > 0 where a weight is kept: steps are along P^-1 times the gradient.
      rho: of unnormalized SAM around the optimizer, >= 0; of the normalized rule `effective_rho`.
      weight_decay: lambda >= 0 of an L2 term lambda w in the gradient that is preconditioned.
    Returns: an operator, in units of 1 / learning rate; compare its top eigenvalue with `preconditioned_edge`.
    Raises: ValueError if the preconditioner has other shapes than params.
    Equation: P^-1/2 (H + rho H^2 + lambda I) P^-1/2, which has the eigenvalues of P^-1 (H + rho H^2 + lambda I).
    Cost: each product costs one of H, or two with SAM.
    Source: Cohen et al. (2022), Adaptive gradient methods at the edge of stability, arXiv 2207.14484; SAM: flatwide.
    """
    inputs.check_like(preconditioner, hessian.params, "the preconditioner")
    scales = jax.tree.map(lambda leaf: 1 / jnp.sqrt(leaf), preconditioner)
    return replace(
        hessian,
        arrays=(hessian, scales, jnp.asarray(rho) if rho > 0 else None, jnp.asarray(weight_decay)),
        open_product=_open,
        cost=hessian.cost * (2 if rho > 0 else 1),
    )


def _open(arrays: tuple) -> jax.tree_util.Partial:
    hessian, *numbers = arrays
    return jax.tree_util.Partial(_multiply, hessian.open(), *numbers)


def _multiply(product, scales: PyTree, rho: Array | None, decay: Array, vector: PyTree) -> PyTree:
    scaled = jax.tree.map(jnp.multiply, scales, vector)
    once = product(scaled)
    bent = once if rho is None else jax.tree.map(lambda h, hh: h + rho.astype(h.dtype) * hh, once, product(once))
    return jax.tree.map(lambda scale, h, v: scale * (h + decay.astype(v.dtype) * v), scales, bent, scaled)


def effective_rho(rho: float | np.ndarray, gradient_norm: float | np.ndarray) -> np.ndarray:
    """Compute the rho of unnormalized SAM that takes the same step as normalized SAM at a given gradient norm.

    Linear stability is about unnormalized SAM. For normalized SAM it holds at this rho only while the norm is constant:
    at interpolation the norm goes to 0 and the effective rho to infinity.

    Args:
      rho: of normalized SAM, >= 0.
      gradient_norm: |g| >= 0 of the batch's gradient.
    Returns: rho / |g|, float64, in units of parameter per gradient; infinite at a zero gradient, but 0 for rho = 0.
    Raises: ValueError if rho is negative, or a norm is negative or not finite.
    Equation: w + rho g / |g| = w + rho' g with rho' = rho / |g|.
    """
    rho, norm = np.asarray(rho, np.float64), np.asarray(gradient_norm, np.float64)
    check_steps(1.0, rho)
    if not np.all((norm >= 0) & np.isfinite(norm)):
        raise ValueError(f"gradient_norm={gradient_norm}: expected finite norms >= 0.")
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        return np.where(rho > 0, rho / norm, 0.0)[()]


def check_steps(learning_rate: float | np.ndarray, rho: float | np.ndarray) -> None:
    """Raise an error for an invalid learning rate or rho.

    Raises: ValueError unless learning rates are finite and > 0, and rhos finite and >= 0.
    """
    if not np.all((np.asarray(learning_rate) > 0) & np.isfinite(learning_rate)):
        raise ValueError(f"learning_rate={learning_rate}: expected a finite number > 0.")
    if not np.all((np.asarray(rho) >= 0) & np.isfinite(rho)):
        raise ValueError(f"rho={rho}: expected a finite number >= 0 (0 is plain SGD).")


def _check_momentum(momentum: float, weight_decay: float) -> None:
    """Raise an error for an invalid momentum or decay."""
    if not 0 <= momentum < 1:
        raise ValueError(f"momentum={momentum}: expected a number in [0, 1).")
    if not 0 <= weight_decay < np.inf:
        raise ValueError(f"weight_decay={weight_decay}: expected a finite number >= 0.")
