"""The paper's matrix condition for linear stability, and the bounds that it states as consequences."""

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from flatwide.measure.stability.edge_of_stability import edge_of_stability
from flatwide.measure.stability.mean_square import MatrixBatches, last_stable


class Condition(NamedTuple):
    """A condition that suffices for linear stability: lambda_max(E J_B^2) <= 1.

    value: lambda_max(E J_B^2), on curved directions where they are known, else on all.
    margin: 1 - value.
    is_met: value <= 1 + tolerance.
    batch_size: the batches that it is for; at 1 it is the paper's.
    largest_learning_rate: at this rho; infinite if it holds for all, nan if for none.
    largest_rho: at this learning rate, likewise.
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
    I - eta E (H_B + rho H_B^2), and E H_B^2 - H^2 is semidefinite. A point may be stable and break the others.

    name: `top_eigenvalue` (a), or `s_2`, `s_3`, `s_4`.
    value: measured, in loss per squared unit of parameter.
    bound: what it is to stay below; infinite where anything does, nan where the bound is undefined.
    is_met: value <= bound; None where the bound is undefined.
    is_implied: whether the condition implies the bound here: its other terms add up to a semidefinite matrix; None
      where that was not looked at.
    note: what the verdict does not say; empty if nothing.
    """

    name: str
    value: float
    bound: float
    is_met: bool | None
    is_implied: bool | None
    note: str


class MeanPowers(NamedTuple):
    """E H_B^k of random batches, k = 1 to 4, [P, P] each."""

    one: np.ndarray
    two: np.ndarray
    three: np.ndarray
    four: np.ndarray


def mean_powers(batches: MatrixBatches) -> MeanPowers:
    """Average the powers of the batches' matrices."""
    parts = batches.moments(np.eye(batches.size))
    # At C = I the mixed term E[H C H^2 + H^2 C H] is 2 E H^3.
    return MeanPowers(one=batches.mean, two=batches.mean_square, three=parts.two / 2, four=parts.four)


def condition_of(
    powers: MeanPowers, learning_rate: float, rho: float, batch_size: int, *, tolerance: float
) -> Condition:
    """Check the condition on matrices.

    Equation: E J_B^2 = I - 2 eta (E H_B + rho E H_B^2) + eta^2 (E H_B^2 + 2 rho E H_B^3 + rho^2 E H_B^4), which is for
      B = 1 the paper's (I - eta H - eta rho H^2)^2 + eta (eta - 2 rho) (M_2 - H^2) + 2 eta^2 rho (M_3 - H^3) +
      eta^2 rho^2 (M_4 - H^4). It suffices since the mean square grows by lambda_max(T(I)) at most, and T(I) = E J_B^2.
    """

    def top(rate: float, rho: float) -> tuple[float, np.ndarray]:
        values, vectors = np.linalg.eigh(_condition_matrix(powers, rate, rho))
        return float(values[-1]), vectors[:, -1]

    def moments(vector: np.ndarray) -> tuple[float, ...]:
        return tuple(float(vector @ power @ vector) for power in powers)

    value = top(learning_rate, rho)[0]
    start = np.linalg.eigh(powers.two + 2 * rho * powers.three + rho**2 * powers.four)[1][:, -1]
    rate = largest_rate(start, lambda rate: top(rate, rho), moments, rho)
    start = np.linalg.eigh(powers.four)[1][:, -1]
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
    """Find the last eta that meets the condition; nan if no eta > 0 does.

    Args:
      start: top eigenvector of E H_B^2 + 2 rho E H_B^3 + rho^2 E H_B^4.
      top: eta -> lambda_max(E J_B^2) and its eigenvector.
      moments: unit vector v -> v' E H_B^k v for k = 1 to 4.
    """

    def coefficients(vector: np.ndarray) -> tuple[float, float, float]:
        one, two, three, four = moments(vector)
        return 1.0, -2 * (one + rho * two), two + 2 * rho * three + rho**2 * four

    found = last_stable(start, top, coefficients, tolerance=tolerance)
    return found if found > 0 else math.nan


def largest_radius(
    start: np.ndarray, top: Callable, moments: Callable, rate: float, *, tolerance: float = 1e-9
) -> float:
    """Find the last rho >= 0 that meets the condition; start is the top eigenvector of E H_B^4, the rest as above."""

    def coefficients(vector: np.ndarray) -> tuple[float, float, float]:
        one, two, three, four = moments(vector)
        return 1 - 2 * rate * one + rate**2 * two, 2 * rate * (rate * three - two), rate**2 * four

    return last_stable(start, top, coefficients, tolerance=tolerance)


def consequences_of(
    top_eigenvalue: float, moments: Sequence[float] | np.ndarray, *, learning_rate: float, rho: float
) -> tuple[Consequence, ...]:
    """Compare a top eigenvalue and s_2, s_3, s_4 with the paper's bounds for batches of one example.

    Args:
      top_eigenvalue: a = lambda_max(H).
      moments: s_k = sign(x) |x|^(1/k), x = lambda_max(M_k - H^k), for k = 2, 3, 4.
      learning_rate, rho: eta > 0, rho >= 0.
    Returns: four consequences, `is_implied` None but where the bound is undefined.
    Equation: a (1 + rho a) <= 2 / eta; s_2^2 <= 1 / (eta (eta - 2 rho)); s_3^3 <= 1 / (2 eta^2 rho);
      s_4^4 <= 1 / (eta^2 rho^2).
    Source: paper, theorem 6.3.
    """
    found = [
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
        found.append(
            Consequence(
                name=f"s_{order}",
                value=value,
                bound=bound,
                is_met=None,
                is_implied=None,
                note=_note(order, value, learning_rate, rho),
            )
        )
    return tuple(one._replace(is_met=None if math.isnan(one.bound) else one.value <= one.bound) for one in found)


def consequences_of_matrices(
    powers: MeanPowers, *, learning_rate: float, rho: float, tolerance: float
) -> tuple[Consequence, ...]:
    """Compare matrices with the paper's bounds, and tell which of them its condition implies here.

    Args:
      powers: H, M_2, M_3, M_4, of single examples.
      learning_rate, rho: eta, rho.
      tolerance: of what counts as semidefinite.
    """
    mean, eye = powers.one, np.eye(len(powers.one))
    spreads = [power - np.linalg.matrix_power(mean, k) for k, power in zip((2, 3, 4), powers[1:], strict=True)]
    tops = [float(np.linalg.eigvalsh(spread)[-1]) for spread in spreads]
    found = consequences_of(
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
        one._replace(is_implied=is_implied(term) and not math.isnan(one.bound))
        for one, term in zip(found, terms, strict=True)
    )


def signed_root(value: float, order: int) -> float:
    """Compute sign(x) |x|^(1/k), the s_k of x = lambda_max(M_k - H^k)."""
    return math.copysign(abs(value) ** (1 / order), value)


def _condition_matrix(powers: MeanPowers, rate: float, rho: float) -> np.ndarray:
    drift = powers.one + rho * powers.two
    noise = powers.two + 2 * rho * powers.three + rho**2 * powers.four
    return np.eye(len(drift)) - 2 * rate * drift + rate**2 * noise


def _note(order: int, value: float, rate: float, rho: float) -> str:
    if order == 2 and 2 * rho > rate:
        return "rho > learning_rate / 2: the term of s_2 is negative and bounds nothing."
    if order == 2 and rho > 0:
        return "The bound on s_2 loosens as rho grows."
    if order > 2 and value < 0:
        return f"M_{order} - H^{order} has no positive eigenvalue: the bound holds by its sign alone."
    return ""
