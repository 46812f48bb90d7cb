"""The non-uniformity of the Hessians of single examples: moments of their distribution, of order 2, 3 and 4."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from flatwide import trees
from flatwide.measure import batching, inputs, operators
from flatwide.measure.inputs import Problem
from flatwide.measure.operators import Operator
from flatwide.measure.spectrum.ends import Ends, ends
from flatwide.measure.stability.factored import Factors, Network
from flatwide.types import Array, PyTree

_ORDERS = (2, 3, 4)


class Moments(NamedTuple):
    """Moments of the Hessians of single examples, one item for each order k.

    orders: [m].
    non_uniformity: [m], s_k = sign(largest) |largest|^(1/k), in units of the Hessian.
    largest, smallest: [m], the ends of the spectrum of M_k - H^k, in units of the Hessian to the power k, in float64.
    residuals: [m, 2], of the largest and the smallest: norms of S v - value v for unit v, by fresh products; some
      eigenvalue of S = M_k - H^k lies within a residual of each value.
    is_converged: [m, 2], whether the residual is at most its tolerance times the larger |value|.
    vectors: unit eigenvectors of the largest, one pytree like params with leading axes of m.
    num_products: [m], products with M_k - H^k.
    cost: in Hessian-vector products over the data set, all orders together.
    """

    orders: np.ndarray
    non_uniformity: np.ndarray
    largest: np.ndarray
    smallest: np.ndarray
    residuals: np.ndarray
    is_converged: np.ndarray
    vectors: PyTree
    num_products: np.ndarray
    cost: float


def hessian_moments(
    problem: Problem,
    *,
    key: Array,
    orders: Sequence[int] = _ORDERS,
    chunk_size: int | None = None,
    tolerance: float = 1e-4,
    smallest_tolerance: float = 1e-2,
    max_products: int = 300,
) -> Moments:
    """Measure how much the Hessians H_i of single examples differ: s_k for the orders k.

    s_k = 0 if all H_i are equal; identical examples are detected before anything is computed. M_2 - H^2 is positive
    semidefinite; M_3 - H^3 and M_4 - H^4 may be indefinite, even if every H_i is positive semidefinite, so that s_k has
    a sign and the smallest eigenvalue is reported as well.

    Args:
      problem: of n single examples.
      key: PRNG key of the starting vectors; the same key gives the same result.
      orders: any of 2, 3, 4, each at most once.
      chunk_size: examples in memory at once; None for as many as fit in about 256 MiB.
      tolerance: of the largest eigenvalue's residual, relative to the larger |eigenvalue|.
      smallest_tolerance: the same for the smallest, which is often in a cluster near zero and expensive to resolve.
      max_products: limit at which the search stops, for each order.
    Returns: Moments.
    Raises: ValueError if an option is out of range, or data or a product are not finite.
    Equation: M_k = (1/n) sum_i H_i^k, H = M_1; the extreme eigenvalues of M_k - H^k, by products
      v -> (1/n) sum_i H_i (H_i^(k-1) v) - H^k v, the last factor as one gradient of sum_i <grad f_i, H_i^(k-1) v>.
    Cost: tens of products per order; a product is 2k - 1 Hessian-vector products over the data, and linear in n and P.
      Memory: 40 vectors, and for each example of a chunk its activations and, for parameters that are not kernels of
      dense layers (filters, pruned kernels), a few vectors of their size.
    Source: Shin et al. (2025), theorem 6.3; for k = 2 Wu, Ma and E (2018), How SGD selects the global minima.
    """
    if not orders or not set(orders) <= set(_ORDERS) or len(set(orders)) < len(orders):
        raise ValueError(f"orders={tuple(orders)}: expected one or more of 2, 3, 4, each at most once.")
    if chunk_size is not None:
        inputs.check_at_least(1, ", or None to choose it by memory", chunk_size=chunk_size)
    for path, leaf in jax.tree_util.tree_leaves_with_path(problem.examples):
        if jnp.issubdtype(leaf.dtype, jnp.inexact) and not bool(jnp.all(jnp.isfinite(leaf))):
            raise ValueError(f"data at {trees.path_name(path)!r}: expected finite numbers.")
    kept = jax.tree.map(lambda _: True, problem.params) if problem.mask is None else problem.mask
    is_whole = tuple(bool(np.all(keep)) for keep in jax.tree.leaves(kept))
    network = Network(problem.loss, problem.params, _like(problem.data), is_whole)
    if network.shape != ():
        raise ValueError(f"per_example_loss of shape {network.shape}: expected a scalar, the loss of one example.")
    chunks = batching.collect(problem.data, batch_size=chunk_size or _fitting(network.num_bytes, problem.data))
    in_chunks = replace(problem, data=chunks)
    is_uniform = all(bool(jnp.all(leaf == leaf[:1])) for leaf in jax.tree.leaves(problem.data))
    results, cost = [], 0.0
    for order in orders:
        multiply = _HessianMoment(is_whole, order)
        operator = operators.operator(multiply, problem.params, in_chunks, mask=problem.mask, cost=2.0 * order - 1)
        start_key = jax.random.split(jax.random.fold_in(inputs.random_key(key), order))[1]
        # M_k - H^k may be indefinite for k > 2, and s_k depends only on its largest eigenvalue: both ends are reported.
        options = {"tolerance": tolerance, "smallest_tolerance": smallest_tolerance, "max_products": max_products}
        found = _zero(operator) if is_uniform else ends(operator, key=start_key, **options)
        results.append(found)
        cost += found.num_products * operator.cost
    largest, smallest = (np.array([found.values[end] for found in results]) for end in (0, 1))
    return Moments(
        orders=np.array(orders),
        non_uniformity=np.sign(largest) * np.abs(largest) ** (1 / np.array(orders)),
        largest=largest,
        smallest=smallest,
        residuals=np.array([found.residuals for found in results]),
        is_converged=np.array([found.is_converged for found in results]),
        vectors=jax.tree.map(
            lambda *leaves: jnp.stack([leaf[0] for leaf in leaves]), *(found.vectors for found in results)
        ),
        num_products=np.array([found.num_products for found in results]),
        cost=cost,
    )


@dataclass(frozen=True)
class _HessianMoment:
    """v -> (M_k - H^k) v of a problem whose examples are in chunks."""

    is_whole: tuple[bool, ...]
    order: int

    def __call__(self, vector: PyTree, problem: Problem) -> PyTree:
        params, mask = problem.params, problem.mask
        network = Network(problem.loss, params, _like(problem.data.groups[0], axes=2), self.is_whole)
        unit = jnp.ones((), jax.tree.leaves(params)[0].dtype)

        def mean_gradient(params: PyTree, chunk: PyTree) -> PyTree:
            return jax.grad(lambda params: jnp.mean(jax.vmap(problem.loss, (None, 0))(params, chunk)))(params)

        def first(example: PyTree) -> list:
            gradient_and_change = jax.jvp(lambda at: network.gradient(at, example), (params,), (vector,))
            return _masked(network.derivative(*gradient_and_change), mask)

        def further(example: PyTree, direction: list) -> list:
            gradient_and_change = jax.jvp(
                lambda step: network.gradient(params, example, direction, step), (0 * unit,), (unit,)
            )
            return _masked(network.derivative(*gradient_and_change), mask)

        def slope(params: PyTree, example: PyTree, direction: list) -> Array:
            return jax.jvp(lambda step: network.output(params, example, direction, step), (0 * unit,), (unit,))[1]

        def powers(chunk: PyTree) -> tuple[PyTree, PyTree]:
            # H_i^k v takes k - 1 products of each example with its vector d_i. The last, H_i d_i, is a gradient of the
            # mean of <grad loss_i, d_i>, which needs no vector of all parameters for each example.
            directions = jax.vmap(first)(chunk)
            once = network.mean(directions)
            for _ in range(self.order - 2):
                directions = jax.vmap(further)(chunk, directions)

            def mean_slope(params: PyTree) -> Array:
                return jnp.mean(jax.vmap(slope, (None, 0, 0))(params, chunk, directions))

            return jax.grad(mean_slope)(params), once

        def multiply(vector: PyTree) -> PyTree:
            return problem.mean(lambda chunk: jax.jvp(lambda at: mean_gradient(at, chunk), (params,), (vector,))[1])

        moment, product = problem.mean(powers)
        for _ in range(self.order - 1):
            product = multiply(trees.apply_mask(product, mask))
        return trees.subtract(moment, product)


def _masked(direction: list, mask: PyTree | None) -> list:
    """Set the entries of pruned weights to zero; factored leaves have none."""
    if mask is None:
        return direction
    kept = zip(direction, jax.tree.leaves(mask), strict=True)
    return [item if isinstance(item, Factors) else jnp.where(keep, item, 0) for item, keep in kept]


def _like(data: PyTree, axes: int = 1) -> PyTree:
    """Return the shapes and dtypes of one example."""
    return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape[axes:], leaf.dtype), data)


def _fitting(num_bytes: int, data: PyTree) -> int:
    """Choose a chunk size for examples of num_bytes each, preferably a divisor of the number of examples."""
    total = batching.num_examples(data)
    most = min(max(batching.CHUNK_BYTES // num_bytes, 1), total)
    return next((size for size in range(most, most // 2, -1) if total % size == 0), most)


def _zero(operator: Operator) -> Ends:
    """Return the ends of M_k - H^k for M_k = H^k, where products would compute only rounding errors."""
    vectors = jax.tree.map(lambda leaf: jnp.zeros((2, *leaf.shape), leaf.dtype), operator.params)
    return Ends(np.zeros(2), np.zeros(2), vectors, is_converged=np.ones(2, bool), num_products=0)
