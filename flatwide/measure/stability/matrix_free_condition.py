"""The paper's condition for linear stability, matrix-free."""

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

from flatwide import trees
from flatwide.measure import operators
from flatwide.measure.spectrum.eigenvalues import top_eigenvalues
from flatwide.measure.stability.stability_condition import Condition, largest_radius, largest_rate
from flatwide.types import Array, PyTree

_CHUNK_BYTES = 2**28


class ConditionAndCost(NamedTuple):
    """A condition, and its cost in Hessian-vector products over the data set."""

    condition: Condition
    cost: float


def matrix_free_condition(
    per_example_loss: Callable,
    params: PyTree,
    data: PyTree,
    *,
    learning_rate: float,
    rho: float,
    key: Array,
    mask: PyTree | None = None,
    extra: PyTree | None = None,
    tolerance: float = 1e-3,
) -> ConditionAndCost:
    """Check lambda_max(E J_i^2) <= 1 for batches of one example by products with single examples' Hessians.

    Flat directions have the eigenvalue 1, so that with any the value is at least 1 and the margin at most 0; the
    largest learning rate then shows how far the condition is from failing.

    Args:
      per_example_loss, params, data, learning_rate, rho, key, mask, extra: as for `linear_stability`.
      tolerance: of the eigenvalues, relative to the largest of |E J_i^2 - I|, and of the thresholds.
    Returns: Found.
    Equation: E J_i^2 = I - 2 eta (M_1 + rho M_2) + eta^2 (M_2 + 2 rho M_3 + rho^2 M_4).
    Cost: about ten searches for an eigenvalue of tens of products each; a product is 4 Hessian-vector products.
    """
    others = () if extra is None else (extra,)
    chunk = int(np.clip(_CHUNK_BYTES // (8 * ravel_pytree(params)[0].nbytes), 1, len(jax.tree.leaves(data)[0])))
    powers = _Powers(per_example_loss, chunk)
    shared = (trees.apply_mask(params, mask), data, others, mask)
    spent = 0.0

    def top(weights: list[float], start: PyTree | None) -> tuple[float, PyTree]:
        nonlocal key, spent
        key, search = jax.random.split(key)
        weights_array = jnp.asarray(weights, ravel_pytree(params)[0].dtype)
        combination = operators.operator(powers, params, weights_array, *shared, mask=mask, cost=4.0)
        pairs = top_eigenvalues(combination, key=search, which="largest", tolerance=tolerance, start=start)
        spent += pairs.cost
        return float(pairs.values[0]), jax.tree.map(lambda leaf: leaf[0], pairs.vectors)

    def top_of(rate: float, rho: float) -> tuple[float, Any]:
        # Without a warm start: an old eigenvector may be orthogonal to the new one.
        weights = [-2 * rate, rate**2 - 2 * rate * rho, 2 * rate**2 * rho, rate**2 * rho**2]
        value, vector = top(weights, None)
        return 1 + value, vector

    def moments(vector: PyTree) -> tuple[float, ...]:
        nonlocal spent
        spent += 2
        return tuple(float(x) for x in _moments(powers, vector, *shared))

    value = top_of(learning_rate, rho)[0]
    start = top([0.0, 1.0, 2 * rho, rho**2], None)[1]
    rate = largest_rate(start, lambda rate: top_of(rate, rho), moments, rho, tolerance=tolerance)
    start = top([0.0, 0.0, 0.0, 1.0], None)[1]
    radius = largest_radius(start, lambda rho: top_of(learning_rate, rho), moments, learning_rate, tolerance=tolerance)
    condition = Condition(
        value=value,
        margin=1 - value,
        is_met=learning_rate <= rate,
        batch_size=1,
        largest_learning_rate=rate,
        largest_rho=radius,
    )
    return ConditionAndCost(condition, spent)


@dataclass(frozen=True)
class _Powers:
    """v -> sum_k weights[k] (1/n) sum_i H_i^(k+1) v."""

    per_example_loss: Callable
    chunk: int

    def __call__(
        self, vector: PyTree, weights: Array, params: PyTree, data: PyTree, extra: tuple, mask: PyTree | None
    ) -> PyTree:
        def weighted_powers(example: PyTree) -> PyTree:
            curve, vectors = self.curve(params, example, extra, mask), [vector]
            for _ in range(4):
                vectors.append(curve(vectors[-1]))
            return jax.tree.map(
                lambda *leaves: sum(w * leaf for w, leaf in zip(weights, leaves, strict=True)), *vectors[1:]
            )

        return _mean(weighted_powers, data, self.chunk)

    def curve(self, params: PyTree, example: PyTree, extra: tuple, mask: PyTree | None) -> Callable[[PyTree], PyTree]:
        product = jax.linearize(lambda at: jax.grad(self.per_example_loss)(at, example, *extra), params)[1]
        return lambda vector: trees.apply_mask(product(vector), mask)


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


@functools.partial(jax.jit, static_argnums=0)
def _moments(powers: _Powers, vector: PyTree, params: PyTree, data: PyTree, extra: tuple, mask: PyTree | None) -> Array:
    """Compute v' M_k v for k = 1 to 4."""

    def example_moments(example: PyTree) -> Array:
        curve = powers.curve(params, example, extra, mask)
        once = curve(vector)
        flat = [ravel_pytree(tree)[0] for tree in (vector, once, curve(once))]
        return jnp.stack([flat[a] @ flat[b] for a, b in ((0, 1), (1, 1), (1, 2), (2, 2))])

    return _mean(example_moments, data, powers.chunk)
