"""The paper's condition for linear stability, from matrices or products, and the bounds that it states with it."""

import functools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

from flatwide import trees
from flatwide.measure import batching, operators
from flatwide.measure.inputs import Problem
from flatwide.measure.spectrum.eigenvalues import top_eigenvalues
from flatwide.measure.stability.edge_of_stability import edge_of_stability
from flatwide.measure.stability.mean_square import MatrixBatches, last_stable
from flatwide.types import Array, PyTree


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
    I - eta E (H_B + rho H_B^2), and E H_B^2 - H^2 is semidefinite. A point may be stable and violate the others, and
    the condition implies each only where its other terms add up to a semidefinite matrix.

    name: `top_eigenvalue` (a), or `s_2`, `s_3`, `s_4`.
    value: measured, in loss per squared unit of parameter; a negative one satisfies its bound trivially.
    bound: upper bound of the value; infinite if there is none; nan if the term of s_2 is negative, at rho > eta / 2.
    is_met: value <= bound; None if the bound is undefined.
    """

    name: str
    value: float
    bound: float
    is_met: bool | None


Powers = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]  # E H_B^k of random batches, k = 1 to 4, [P, P] each


def mean_powers(batches: MatrixBatches) -> Powers:
    """Compute the means of the powers of the batches' matrices."""
    parts = batches.moments(np.eye(batches.size))
    # At C = I the mixed term E[H C H^2 + H^2 C H] is 2 E H^3.
    return batches.mean, batches.mean_square, parts.linear / 2, parts.quadratic


def condition_of(powers: Powers, learning_rate: float, rho: float, batch_size: int, *, tolerance: float) -> Condition:
    """Evaluate the condition on matrices.

    Equation: E J_B^2 = I - 2 eta (E H_B + rho E H_B^2) + eta^2 (E H_B^2 + 2 rho E H_B^3 + rho^2 E H_B^4), which is for
      B = 1 the paper's (I - eta H - eta rho H^2)^2 + eta (eta - 2 rho) (M_2 - H^2) + 2 eta^2 rho (M_3 - H^3) +
      eta^2 rho^2 (M_4 - H^4). It suffices since the mean square grows at most by lambda_max(T(I)), and T(I) = E J_B^2.
    """

    def top(matrix: np.ndarray) -> tuple[float, np.ndarray]:
        values, vectors = np.linalg.eigh(matrix)
        return float(values[-1]), vectors[:, -1]

    first, second, third, fourth = powers

    def growth(rate: float, rho: float) -> tuple[float, np.ndarray]:
        drift = first + rho * second
        noise = second + 2 * rho * third + rho**2 * fourth
        return top(np.eye(len(drift)) - 2 * rate * drift + rate**2 * noise)

    found = _condition(
        growth,
        lambda weights: top(sum((w * power for w, power in zip(weights, powers, strict=True)), 0 * first))[1],
        lambda vector: tuple(float(vector @ power @ vector) for power in powers),
        learning_rate,
        rho,
        tolerance=1e-9,  # ten times the tolerance of the eigenvalues in `mean_square`
    )
    return found._replace(batch_size=batch_size, is_met=found.value <= 1 + tolerance)


def _condition(
    growth: Callable[[float, float], tuple[float, Any]],
    top: Callable[[Sequence[float]], Any],
    moments: Callable[[Any], tuple[float, ...]],
    learning_rate: float,
    rho: float,
    *,
    tolerance: float,
) -> Condition:
    """Evaluate the condition, and find its last learning rate and rho.

    Args:
      growth: (eta, rho) -> lambda_max(E J_B^2) and its eigenvector.
      top: four weights -> the top eigenvector of the sum of weight_k E H_B^k.
      moments: unit vector v -> v' E H_B^k v for k = 1 to 4.
      tolerance: of the thresholds.
    """

    def in_rate(vector: Any) -> tuple[float, float, float]:
        m1, m2, m3, m4 = moments(vector)
        return 1.0, -2 * (m1 + rho * m2), m2 + 2 * rho * m3 + rho**2 * m4

    def in_rho(vector: Any) -> tuple[float, float, float]:
        m1, m2, m3, m4 = moments(vector)
        rate = learning_rate
        return 1 - 2 * rate * m1 + rate**2 * m2, 2 * rate * (rate * m3 - m2), rate**2 * m4

    value = growth(learning_rate, rho)[0]
    start = top((0.0, 1.0, 2 * rho, rho**2))
    largest_rate = last_stable(start, lambda rate: growth(rate, rho), in_rate, tolerance=tolerance)
    start = top((0.0, 0.0, 0.0, 1.0))
    return Condition(
        value=value,
        margin=1 - value,
        is_met=learning_rate <= largest_rate,
        batch_size=1,
        largest_learning_rate=largest_rate if largest_rate > 0 else math.nan,
        largest_rho=last_stable(start, lambda rho: growth(learning_rate, rho), in_rho, tolerance=tolerance),
    )


def matrix_free_condition(
    problem: Problem, *, learning_rate: float, rho: float, key: Array, tolerance: float = 1e-3
) -> tuple[Condition, float]:
    """Check lambda_max(E J_i^2) <= 1 for batches of one example by products with single examples' Hessians.

    Flat directions have the eigenvalue 1, so that with any the value is at least 1 and the margin at most 0; the
    largest learning rate then shows how far the condition is from failing.

    Args:
      problem: of single examples. learning_rate, rho, key: as for `linear_stability`.
      tolerance: of the eigenvalues, relative to the largest of |E J_i^2 - I|, and of the thresholds.
    Returns: the condition, and its cost in Hessian-vector products over the data set.
    Equation: E J_i^2 = I - 2 eta (M_1 + rho M_2) + eta^2 (M_2 + 2 rho M_3 + rho^2 M_4).
    Cost: about ten searches for an eigenvalue of tens of products each; a product is 4 Hessian-vector products.
    """
    flat, num = ravel_pytree(problem.params)[0], batching.num_examples(problem.data)
    chunk = int(np.clip(batching.CHUNK_BYTES // (8 * flat.nbytes), 1, num))
    spent = 0.0

    def top(weights: Sequence[float]) -> tuple[float, PyTree]:
        nonlocal key, spent
        key, search = jax.random.split(key)
        arrays = (jnp.asarray(weights, flat.dtype), problem)
        combination = operators.operator(_Powers(chunk), problem.params, *arrays, mask=problem.mask, cost=4.0)
        # Without a warm start: an old eigenvector may be orthogonal to the new one.
        pairs = top_eigenvalues(combination, key=search, which="largest", tolerance=tolerance)
        spent += pairs.cost
        return float(pairs.values[0]), jax.tree.map(lambda leaf: leaf[0], pairs.vectors)

    def growth(rate: float, rho: float) -> tuple[float, PyTree]:
        value, vector = top((-2 * rate, rate**2 - 2 * rate * rho, 2 * rate**2 * rho, rate**2 * rho**2))
        return 1 + value, vector

    def moments(vector: PyTree) -> tuple[float, ...]:
        nonlocal spent
        spent += 2
        return tuple(float(x) for x in _moments(problem, vector, chunk))

    condition = _condition(growth, lambda weights: top(weights)[1], moments, learning_rate, rho, tolerance=tolerance)
    return condition, spent


@dataclass(frozen=True)
class _Powers:
    """v -> sum_k weights[k] (1/n) sum_i H_i^(k+1) v."""

    chunk: int

    def __call__(self, vector: PyTree, weights: Array, problem: Problem) -> PyTree:
        def weighted_powers(example: PyTree) -> PyTree:
            curve, vectors = problem.curve(example), [vector]
            for _ in range(4):
                vectors.append(curve(vectors[-1]))
            return jax.tree.map(
                lambda *leaves: sum(w * leaf for w, leaf in zip(weights, leaves, strict=True)), *vectors[1:]
            )

        return _mean(weighted_powers, problem.data, self.chunk)


def _mean(function: Callable[[PyTree], PyTree], data: PyTree, chunk: int) -> PyTree:
    """Average over examples, with one chunk in memory at a time."""
    num = len(jax.tree.leaves(data)[0])
    whole = num // chunk * chunk

    def add_chunk(total: PyTree, examples: PyTree) -> tuple[PyTree, None]:
        return jax.tree.map(lambda a, b: a + b.sum(axis=0), total, jax.vmap(function)(examples)), None

    like = jax.eval_shape(function, jax.tree.map(lambda leaf: leaf[0], data))
    total = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), like)
    chunks = jax.tree.map(lambda leaf: leaf[:whole].reshape(-1, chunk, *leaf.shape[1:]), data)
    total = jax.lax.scan(add_chunk, total, chunks)[0]
    if whole < num:
        total = add_chunk(total, jax.tree.map(lambda leaf: leaf[whole:], data))[0]
    return trees.scale(1 / num, total)


@functools.partial(jax.jit, static_argnames="chunk")
def _moments(problem: Problem, vector: PyTree, chunk: int) -> Array:
    """Compute v' M_k v for k = 1 to 4."""

    def example_moments(example: PyTree) -> Array:
        curve = problem.curve(example)
        once = curve(vector)
        flat = [ravel_pytree(tree)[0] for tree in (vector, once, curve(once))]
        return jnp.stack([flat[a] @ flat[b] for a, b in ((0, 1), (1, 1), (1, 2), (2, 2))])

    return _mean(example_moments, problem.data, chunk)


def consequences_of(
    top_eigenvalue: float, moments: Sequence[float] | np.ndarray, *, learning_rate: float, rho: float
) -> tuple[Consequence, ...]:
    """Compare a top eigenvalue and s_2, s_3, s_4 with the paper's bounds for batches of one example.

    Args:
      top_eigenvalue: a = lambda_max(H).
      moments: s_k = sign(x) |x|^(1/k), x = lambda_max(M_k - H^k), for k = 2, 3, 4.
    Equation: a (1 + rho a) <= 2 / eta; s_2^2 <= 1 / (eta (eta - 2 rho)); s_3^3 <= 1 / (2 eta^2 rho);
      s_4^4 <= 1 / (eta^2 rho^2).
    Source: paper, theorem 6.3.
    """
    limits = (learning_rate * (learning_rate - 2 * rho), 2 * learning_rate**2 * rho, learning_rate**2 * rho**2)
    bounds = [float(edge_of_stability(None, learning_rate=learning_rate, rho=rho))]
    for order, limit in zip((2, 3, 4), limits, strict=True):
        bounds.append(math.nan if limit < 0 else math.inf if limit == 0 else limit ** (-1 / order))
    values = (top_eigenvalue, *map(float, moments))
    return tuple(
        Consequence(name=name, value=value, bound=bound, is_met=None if math.isnan(bound) else value <= bound)
        for name, value, bound in zip(("top_eigenvalue", "s_2", "s_3", "s_4"), values, bounds, strict=True)
    )


def consequences_of_matrices(powers: Powers, *, learning_rate: float, rho: float) -> tuple[Consequence, ...]:
    """Compare H, M_2, M_3, M_4 of single examples with the same bounds."""

    def moment(order: int, power: np.ndarray) -> float:
        top = float(np.linalg.eigvalsh(power - np.linalg.matrix_power(powers[0], order))[-1])
        return math.copysign(abs(top) ** (1 / order), top)

    moments = [moment(order, power) for order, power in zip((2, 3, 4), powers[1:], strict=True)]
    return consequences_of(float(np.linalg.eigvalsh(powers[0])[-1]), moments, learning_rate=learning_rate, rho=rho)
