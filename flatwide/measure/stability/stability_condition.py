"""The paper's matrix condition for linear stability, and the bounds that the paper states as its consequences."""

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from flatwide.measure.stability.edge_of_stability import edge_of_stability
from flatwide.measure.stability.mean_square import MatrixBatches, last_stable


class Condition(NamedTuple):
    """A sufficient condition for linear stability: lambda_max(E J_B^2) <= 1.

    value: lambda_max(E J_B^2), on curved directions if they are known, else on all.
    margin: 1 - value.
    is_met: value <= 1 + tolerance.
    batch_size: batch size of the condition; for 1 it is the paper's.
    largest_learning_rate: at which it holds with this rho; infinite if for all, nan if for none.
    largest_rho: at which it holds with this learning rate, likewise.
    """

    value: float
    margin: float
    is_met: bool
    batch_size: int
    largest_learning_rate: float
    largest_rho: float


class Consequence(NamedTuple):
    """One of the bounds that the paper states as necessary for its condition.

    Of the four, that of the top eigenvalue is necessary for stability itself, at every batch size: E x follows
    I - eta E (H_B + rho H_B^2), and E H_B^2 - H^2 is semidefinite. A point may be stable and violate the others.

    name: `top_eigenvalue` (a), or `s_2`, `s_3`, `s_4`.
    value: measured, in loss per squared unit of parameter.
    bound: upper bound of the value; infinite if there is none, nan if it is undefined.
    is_met: value <= bound; None if the bound is undefined.
    is_implied: whether the condition implies the bound here: its other terms add up to a semidefinite matrix; None
      if that was not checked.
    note: caveat of the verdict; empty if there is none.
    """

    name: str
    value: float
    bound: float
    is_met: bool | None
    is_implied: bool | None
    note: str


class MeanPowers(NamedTuple):
    """E H_B^k of random batches, k = 1 to 4, [P, P] each."""

    first: np.ndarray
    second: np.ndarray
    third: np.ndarray
    fourth: np.ndarray


def mean_powers(batches: MatrixBatches) -> MeanPowers:
    """Compute the means of the powers of the batches' matrices."""
    parts = batches.moments(np.eye(batches.size))
    # At C = I the mixed term E[H C H^2 + H^2 C H] is 2 E H^3.
    return MeanPowers(first=batches.mean, second=batches.mean_square, third=parts.linear / 2, fourth=parts.quadratic)


def condition_of(
    powers: MeanPowers, learning_rate: float, rho: float, batch_size: int, *, tolerance: float
) -> Condition:
    """Evaluate the condition on matrices.

    Equation: E J_B^2 = I - 2 eta (E H_B + rho E H_B^2) + eta^2 (E H_B^2 + 2 rho E H_B^3 + rho^2 E H_B^4), which is for
      B = 1 the paper's (I - eta H - eta rho H^2)^2 + eta (eta - 2 rho) (M_2 - H^2) + 2 eta^2 rho (M_3 - H^3) +
      eta^2 rho^2 (M_4 - H^4). It suffices since the mean square grows at most by lambda_max(T(I)), and T(I) = E J_B^2.
    """

    def top(rate: float, rho: float) -> tuple[float, np.ndarray]:
        values, vectors = np.linalg.eigh(_condition_matrix(powers, rate, rho))
        return float(values[-1]), vectors[:, -1]

    def moments(vector: np.ndarray) -> tuple[float, ...]:
        return tuple(float(vector @ power @ vector) for power in powers)

    value = top(learning_rate, rho)[0]
    start = np.linalg.eigh(powers.second + 2 * rho * powers.third + rho**2 * powers.fourth)[1][:, -1]
    rate = largest_rate(start, lambda rate: top(rate, rho), moments, rho)
    start = np.linalg.eigh(powers.fourth)[1][:, -1]
    radius = largest_radius(start, lambda rho: top(learning_rate, rho), moments, learning_rate)
    return Condition(
        value=value,
        margin=1 - value,
        is_met=value <= 1 + tolerance,
        batch_size=batch_size,
        largest_learning_rate=rate,
        largest_rho=radius,
    )


def largest_rate(start: np.ndarray, top: Callable, moments: Callable, rho: float, *, tolerance: float = 1e-9) -> float:
    """Find the largest eta that meets the condition; nan if no eta > 0 does.

    Args:
      start: top eigenvector of E H_B^2 + 2 rho E H_B^3 + rho^2 E H_B^4.
      top: eta -> lambda_max(E J_B^2) and its eigenvector.
      moments: unit vector v -> v' E H_B^k v for k = 1 to 4.
    """

    def coefficients(vector: np.ndarray) -> tuple[float, float, float]:
        m1, m2, m3, m4 = moments(vector)
        return 1.0, -2 * (m1 + rho * m2), m2 + 2 * rho * m3 + rho**2 * m4

    largest = last_stable(start, top, coefficients, tolerance=tolerance)
    return largest if largest > 0 else math.nan


def largest_radius(
    start: np.ndarray, top: Callable, moments: Callable, rate: float, *, tolerance: float = 1e-9
) -> float:
    """Find the largest rho >= 0 that meets the condition; start: top eigenvector of E H_B^4, the rest as above."""

    def coefficients(vector: np.ndarray) -> tuple[float, float, float]:
        m1, m2, m3, m4 = moments(vector)
        return 1 - 2 * rate * m1 + rate**2 * m2, 2 * rate * (rate * m3 - m2), rate**2 * m4

    return last_stable(start, top, coefficients, tolerance=tolerance)


def consequences_of(
    top_eigenvalue: float, moments: Sequence[float] | np.ndarray, *, learning_rate: float, rho: float
) -> tuple[Consequence, ...]:
    """Compare a top eigenvalue and s_2, s_3, s_4 with the paper's bounds for batches of one example.

    Args:
      top_eigenvalue: a = lambda_max(H).
      moments: s_k = sign(x) |x|^(1/k), x = lambda_max(M_k - H^k), for k = 2, 3, 4.
      learning_rate, rho: eta > 0, rho >= 0.
    Returns: four consequences, with `is_implied` None.
    Equation: a (1 + rho a) <= 2 / eta; s_2^2 <= 1 / (eta (eta - 2 rho)); s_3^3 <= 1 / (2 eta^2 rho);
      s_4^4 <= 1 / (eta^2 rho^2).
    Source: paper, theorem 6.3.
    """
    consequences = [
        Consequence(
            name="top_eigenvalue",
            value=top_eigenvalue,
            bound=float(edge_of_stability(None, learning_rate=learning_rate, rho=rho)),
            is_met=None,
            is_implied=None,
            note="",
        )
    ]
    limits = (learning_rate * (learning_rate - 2 * rho), 2 * learning_rate**2 * rho, learning_rate**2 * rho**2)
    for order, value, limit in zip((2, 3, 4), map(float, moments), limits, strict=True):
        bound = math.nan if limit < 0 else math.inf if limit == 0 else limit ** (-1 / order)
        consequences.append(
            Consequence(
                name=f"s_{order}",
                value=value,
                bound=bound,
                is_met=None,
                is_implied=None,
                note=_note(order, value, learning_rate, rho),
            )
        )
    return tuple(
        consequence._replace(is_met=None if math.isnan(consequence.bound) else consequence.value <= consequence.bound)
        for consequence in consequences
    )


def consequences_of_matrices(
    powers: MeanPowers, *, learning_rate: float, rho: float, tolerance: float
) -> tuple[Consequence, ...]:
    """Compare matrices with the paper's bounds, and check which of them its condition implies here.

    Args:
      powers: H, M_2, M_3, M_4, of single examples.
      learning_rate, rho: eta, rho.
      tolerance: smallest eigenvalues down to -tolerance count as semidefinite.
    Returns: four consequences.
    """
    mean, eye = powers.first, np.eye(len(powers.first))
    spreads = [power - np.linalg.matrix_power(mean, k) for k, power in zip((2, 3, 4), powers[1:], strict=True)]
    tops = [float(np.linalg.eigvalsh(spread)[-1]) for spread in spreads]
    consequences = consequences_of(
        float(np.linalg.eigvalsh(mean)[-1]),
        tuple(signed_root(top, k) for k, top in zip((2, 3, 4), tops, strict=True)),
        learning_rate=learning_rate,
        rho=rho,
    )
    factors = (learning_rate * (learning_rate - 2 * rho), 2 * learning_rate**2 * rho, learning_rate**2 * rho**2)
    step = eye - learning_rate * mean - learning_rate * rho * mean @ mean
    terms = [step @ step, *(factor * spread for factor, spread in zip(factors, spreads, strict=True))]
    total = sum(terms)

    def is_implied(term: np.ndarray) -> bool:
        return bool(np.linalg.eigvalsh(total - term)[0] >= -tolerance)

    return tuple(
        consequence._replace(is_implied=is_implied(term) and not math.isnan(consequence.bound))
        for consequence, term in zip(consequences, terms, strict=True)
    )


def signed_root(value: float, order: int) -> float:
    """Compute sign(x) |x|^(1/k), the s_k of x = lambda_max(M_k - H^k)."""
    return math.copysign(abs(value) ** (1 / order), value)


def _condition_matrix(powers: MeanPowers, rate: float, rho: float) -> np.ndarray:
    drift = powers.first + rho * powers.second
    noise = powers.second + 2 * rho * powers.third + rho**2 * powers.fourth
    return np.eye(len(drift)) - 2 * rate * drift + rate**2 * noise


def _note(order: int, value: float, rate: float, rho: float) -> str:
    if order == 2 and 2 * rho > rate:
        return "rho > learning_rate / 2: the term of s_2 is negative and gives no bound."
    if order == 2 and rho > 0:
        return "The bound on s_2 loosens as rho grows."
    if order > 2 and value < 0:
        return f"M_{order} - H^{order} has no positive eigenvalue: the bound holds trivially."
    return ""
