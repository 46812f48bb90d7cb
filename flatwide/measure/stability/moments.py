"""The non-uniformity of the Hessians of single examples: moments of their distribution, of order 2, 3 and 4."""

import functools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from flatwide import trees
from flatwide.measure import batching, inputs, operators
from flatwide.measure.operators import Operator
from flatwide.measure.spectrum.ends import ends
from flatwide.measure.stability.factored import Factors, Network
from flatwide.types import Array, PyTree

_CHUNK_BYTES = 2**28  # memory of the examples of a chunk, if chunk_size is None
_ORDERS = (2, 3, 4)
_RANDOM = 0.3  # norm of the random vector added to a given start, relative to the start


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
    per_example_loss: Callable,
    params: PyTree,
    data: PyTree,
    *,
    key: Array,
    orders: Sequence[int] = _ORDERS,
    mask: PyTree | None = None,
    extra: PyTree | None = None,
    chunk_size: int | None = None,
    tolerance: float = 1e-4,
    smallest_tolerance: float = 1e-2,
    max_products: int = 300,
    start: PyTree | None = None,
) -> Moments:
    """Measure how much the Hessians H_i of single examples differ: s_k for the orders k.

    s_k = 0 if all H_i are equal; identical examples are detected before anything is computed. M_2 - H^2 is positive
    semidefinite; M_3 - H^3 and M_4 - H^4 may be indefinite, even if every H_i is positive semidefinite, so that s_k has
    a sign and the smallest eigenvalue is reported as well.

    Args:
      per_example_loss: (params, example) -> the loss of one example, a scalar; (params, example, extra) where `extra`
        is given. An example is one row of every leaf of `data`. Batch norm must be in evaluation mode.
      params: pytree of P real numbers in all, all finite.
      data: pytree of arrays with a leading axis of n examples.
      key: PRNG key of the starting vectors; the same key gives the same result.
      orders: any of 2, 3, 4, each at most once.
      mask: booleans that broadcast to the leaves of params; the loss is taken at the masked params, and all matrices
        have the rows and columns of kept weights (True) only.
      extra: pytree of arrays for the loss that are not examples, such as batch-norm averages.
      chunk_size: examples in memory at once; None for as many as fit in about 256 MiB.
      tolerance: of the largest eigenvalue's residual, relative to the larger |eigenvalue|.
      smallest_tolerance: the same for the smallest, which is often in a cluster near zero and expensive to resolve.
      max_products: limit at which the search stops, for each order.
      start: vectors to start from, such as `Moments.vectors` at nearby params or of `gauss_newton_moments`.
    Returns: Moments.
    Raises: ValueError if an option is out of range, there is no example, or params, data or a product are not finite.
    Equation: M_k = (1/n) sum_i H_i^k, H = M_1; the extreme eigenvalues of M_k - H^k, by products
      v -> (1/n) sum_i H_i (H_i^(k-1) v) - H^k v, the last factor as one gradient of sum_i <grad f_i, H_i^(k-1) v>.
    Cost: tens of products per order; a product is 2k - 1 Hessian-vector products over the data, and linear in n and P.
      Memory: 40 vectors, and for each example of a chunk its activations and, for parameters that are not kernels of
      dense layers (filters, pruned kernels), a few vectors of their size.
    Source: Shin et al. (2025), theorem 6.3; for k = 2 Wu, Ma and E (2018), How SGD selects the global minima.
    """
    params, mask, per_example_loss = inputs.numbers(params, mask, per_example_loss)
    params, data, others = _checked(params, data, mask, extra, orders, chunk_size)
    is_whole = _whole(params, mask)

    def loss(params: PyTree, example: PyTree) -> Array:
        return per_example_loss(params, example, *others)

    network = Network(loss, params, _like(data), is_whole)
    if network.shape != ():
        raise ValueError(f"per_example_loss of shape {network.shape}: expected a scalar, the loss of one example.")
    chunks = batching.collect(data, batch_size=chunk_size or _fitting(network.num_bytes, data))

    def operator_of(order: int) -> Operator:
        multiply = _HessianMoment(per_example_loss, is_whole, order)
        return operators.operator(multiply, params, params, chunks, others, mask, mask=mask, cost=2.0 * order - 1)

    search = {"tolerance": tolerance, "smallest_tolerance": smallest_tolerance, "max_products": max_products}
    return _solve(operator_of, orders, data, key, start, search, cost=0.0)


def gauss_newton_moments(
    outputs_fn: Callable,
    output_loss: Callable,
    params: PyTree,
    data: PyTree,
    *,
    key: Array,
    orders: Sequence[int] = _ORDERS,
    mask: PyTree | None = None,
    extra: PyTree | None = None,
    chunk_size: int | None = None,
    tolerance: float = 1e-4,
    smallest_tolerance: float = 1e-2,
    max_products: int = 300,
    start: PyTree | None = None,
) -> Moments:
    """Measure s_k with the Gauss-Newton matrix G_i of each example instead of its Hessian.

    G_i is H_i without the term in which the loss's gradient by the outputs multiplies second derivatives of the
    network. So it is exact where that gradient is zero (each example fitted, at squared loss) and where outputs are
    linear in params; elsewhere the error comes from that term, and `hessian_moments` started from these vectors
    measures it.

    Args:
      outputs_fn: (params, example) -> outputs, one array of K numbers in any shape; or (params, example, extra).
      output_loss: (outputs, example) -> the loss of one example, a scalar.
      params, data, key, orders, mask, extra, chunk_size, tolerance, smallest_tolerance, max_products,
        start: as for `hessian_moments`.
    Returns: Moments of the G_i, in the same units.
    Raises: ValueError as `hessian_moments`.
    Equation: G_i = J_i' S_i J_i with J_i = d outputs_i / d params, S_i = d2 loss_i / d outputs_i2; with the K x K
      blocks T_i = J_i J_i', computed once, (1/n) sum_i G_i^k v = (1/n) sum_i J_i' S_i (T_i S_i)^(k-1) J_i v.
    Cost: K gradients in all, and less than k Hessian-vector products per product. No vectors of single examples.
    Source: as `hessian_moments`; Schraudolph (2002) for G_i.
    """
    params, mask, outputs_fn = inputs.numbers(params, mask, outputs_fn)
    params, data, others = _checked(params, data, mask, extra, orders, chunk_size)
    is_whole = _whole(params, mask)

    def outputs(params: PyTree, example: PyTree) -> Array:
        return jnp.ravel(outputs_fn(params, example, *others))

    network = Network(outputs, params, _like(data), is_whole)
    num_outputs = math.prod(network.shape)
    chunks = batching.collect(data, batch_size=chunk_size or _fitting(num_outputs * network.num_bytes, data))
    blocks = _output_blocks(_Outputs(outputs_fn, output_loss, is_whole), params, chunks, others, mask)
    chunks = chunks._replace(groups=tuple(zip(chunks.groups, blocks, strict=True)))

    def operator_of(order: int) -> Operator:
        multiply = _GaussNewtonMoment(outputs_fn, order)
        return operators.operator(multiply, params, params, chunks, others, mask, mask=mask, cost=float(order))

    search = {"tolerance": tolerance, "smallest_tolerance": smallest_tolerance, "max_products": max_products}
    return _solve(operator_of, orders, data, key, start, search, cost=num_outputs / 2)


@dataclass(frozen=True)
class _HessianMoment:
    loss_fn: Callable
    is_whole: tuple[bool, ...]
    order: int

    def __call__(
        self, vector: PyTree, params: PyTree, chunks: batching.Batches, extra: tuple, mask: PyTree | None
    ) -> PyTree:
        def loss(params: PyTree, example: PyTree) -> Array:
            return self.loss_fn(params, example, *extra)

        def mean_gradient(params: PyTree, chunk: PyTree) -> PyTree:
            return jax.grad(lambda params: jnp.mean(jax.vmap(loss, (None, 0))(params, chunk)))(params)

        network = Network(loss, params, _like(chunks.groups[0], axes=2), self.is_whole)
        unit = jnp.ones((), jax.tree.leaves(params)[0].dtype)

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
            def of_chunk(chunk: PyTree) -> PyTree:
                return jax.jvp(lambda params: mean_gradient(params, chunk), (params,), (vector,))[1]

            return batching.mean(of_chunk, chunks)

        moment, product = batching.mean(powers, chunks)
        for _ in range(self.order - 1):
            product = multiply(trees.apply_mask(product, mask))
        return trees.subtract(moment, product)


@dataclass(frozen=True)
class _GaussNewtonMoment:
    outputs_fn: Callable
    order: int

    def __call__(
        self, vector: PyTree, params: PyTree, chunks: batching.Batches, extra: tuple, mask: PyTree | None
    ) -> PyTree:
        def multiply(chunk: PyTree, vector: PyTree, orders: tuple[int, ...]) -> list[PyTree]:
            examples, (gram, curvature) = chunk

            def outputs(params: PyTree) -> Array:
                return jax.vmap(lambda example: jnp.ravel(self.outputs_fn(params, example, *extra)))(examples)

            change = jax.jvp(outputs, (params,), (vector,))[1]
            pull_back = jax.vjp(outputs, params)[1]
            pulled, products = jnp.einsum("nab,nb->na", curvature, change), []
            for order in range(1, max(orders) + 1):
                if order in orders:
                    products.append(pull_back(pulled / len(pulled))[0])
                pulled = jnp.einsum("nab,nbc,nc->na", curvature, gram, pulled)
            return products

        # (J' S J)^k v = J' S (J J' S)^(k - 1) J v: powers of an example's matrix are computed in the space of outputs.
        product, moment = batching.mean(lambda chunk: multiply(chunk, vector, (1, self.order)), chunks)
        for _ in range(self.order - 1):
            at = trees.apply_mask(product, mask)
            product = batching.mean(lambda chunk, at=at: multiply(chunk, at, (1,))[0], chunks)
        return trees.subtract(moment, product)


@dataclass(frozen=True)
class _Outputs:
    """The K x K matrices of the Gauss-Newton matrices of a chunk: J_i J_i' and S_i, each [n, K, K]."""

    outputs_fn: Callable
    loss_fn: Callable
    is_whole: tuple[bool, ...]

    def __call__(self, params: PyTree, chunk: PyTree, extra: tuple, mask: PyTree | None) -> tuple[Array, Array]:
        def flat(params: PyTree, example: PyTree) -> Array:
            return jnp.ravel(self.outputs_fn(params, example, *extra))

        network = Network(flat, params, _like(chunk), self.is_whole)

        def gram(example: PyTree) -> Array:
            masks = [None] * len(self.is_whole) if mask is None else jax.tree.leaves(mask)
            parts = zip(network.gradient(params, example), masks, strict=True)
            return sum((_inner_products(part, mask) for part, mask in parts), jnp.zeros(()))

        def curvature(example: PyTree) -> Array:
            shape = jax.eval_shape(lambda params: self.outputs_fn(params, example, *extra), params).shape
            return jax.hessian(lambda out: self.loss_fn(out.reshape(shape), example))(flat(params, example))

        return jax.vmap(gram)(chunk), jax.vmap(curvature)(chunk)


@functools.partial(jax.jit, static_argnums=0)
def _output_blocks(
    function: _Outputs, params: PyTree, chunks: batching.Batches, extra: tuple, mask: PyTree | None
) -> list[tuple[Array, Array]]:
    return [jax.lax.map(lambda chunk: function(params, chunk, extra, mask), group) for group in chunks.groups]


def _inner_products(part: Any, mask: Any) -> Array:
    """Compute the inner products of the K gradients of one leaf: [K, K]."""
    if isinstance(part, Factors):
        return jnp.einsum("apo,bqo,pi,qi->ab", part.left, part.left, part.right, part.right, optimize="optimal")
    rows = part if mask is None else jax.vmap(lambda row: jnp.where(mask, row, 0))(part)
    rows = rows.reshape(len(rows), -1)
    return rows @ rows.T


def _masked(direction: list, mask: PyTree | None) -> list:
    """Set the entries of pruned weights to zero; factored leaves have none."""
    if mask is None:
        return direction
    kept = zip(direction, jax.tree.leaves(mask), strict=True)
    return [item if isinstance(item, Factors) else jnp.where(keep, item, 0) for item, keep in kept]


def _checked(
    params: PyTree,
    data: PyTree,
    mask: PyTree | None,
    extra: PyTree | None,
    orders: Sequence[int],
    chunk_size: int | None,
) -> tuple[PyTree, PyTree, tuple]:
    """Check the input. Return masked params, data as arrays, and the further arguments of the loss."""
    if not orders or not set(orders) <= set(_ORDERS) or len(set(orders)) < len(orders):
        raise ValueError(f"orders={tuple(orders)}: expected one or more of 2, 3, 4, each at most once.")
    if chunk_size is not None and chunk_size < 1:
        raise ValueError(f"chunk_size={chunk_size}: expected at least 1, or None to choose it by memory.")
    data = jax.tree.map(jnp.asarray, data)
    inputs.check_params(params, mask)
    if not batching.num_examples(data):
        raise ValueError("data: expected at least one example; the data set is empty.")
    for path, leaf in jax.tree_util.tree_leaves_with_path(data):
        if jnp.issubdtype(leaf.dtype, jnp.inexact) and not bool(jnp.all(jnp.isfinite(leaf))):
            raise ValueError(f"data at {trees.path_name(path)!r}: expected finite numbers.")
    return trees.apply_mask(params, mask), data, () if extra is None else (extra,)


def _whole(params: PyTree, mask: PyTree | None) -> tuple[bool, ...]:
    """Return for each leaf whether the mask keeps all of it."""
    if mask is None:
        return (True,) * len(jax.tree.leaves(params))
    return tuple(bool(np.all(keep)) for keep in jax.tree.leaves(mask))


def _like(data: PyTree, axes: int = 1) -> PyTree:
    """Return the shapes and dtypes of one example."""
    return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape[axes:], leaf.dtype), data)


def _fitting(num_bytes: int, data: PyTree) -> int:
    """Choose a chunk size for examples of num_bytes each, preferably a divisor of the number of examples."""
    total = batching.num_examples(data)
    most = min(max(_CHUNK_BYTES // num_bytes, 1), total)
    return next((size for size in range(most, most // 2, -1) if total % size == 0), most)


def _solve(
    operator_of: Callable[[int], Operator],
    orders: Sequence[int],
    data: PyTree,
    key: Array,
    start: PyTree | None,
    search: dict[str, Any],
    cost: float,
) -> Moments:
    if all(bool(jnp.all(leaf == leaf[:1])) for leaf in jax.tree.leaves(data)):
        return _none(operator_of(orders[0]).params, orders)
    results = []
    for index, order in enumerate(orders):
        operator = operator_of(order)
        search_key, first_key = jax.random.split(jax.random.fold_in(inputs.random_key(key), order))
        # M_k - H^k may be indefinite for k > 2, and s_k depends only on its largest eigenvalue: both ends are reported.
        first = operators.random_normal(operator, first_key)
        if start is not None:
            first = _mixed(jax.tree.map(lambda leaf, index=index: leaf[index], start), first)
        results.append(ends(operator, key=search_key, start=first, **search))
        cost += results[-1].num_products * operator.cost
    largest, smallest = (np.array([result.values[end] for result in results]) for end in (0, 1))
    return Moments(
        orders=np.array(orders),
        non_uniformity=np.sign(largest) * np.abs(largest) ** (1 / np.array(orders)),
        largest=largest,
        smallest=smallest,
        residuals=np.array([result.residuals for result in results]),
        is_converged=np.array([result.is_converged for result in results]),
        vectors=jax.tree.map(
            lambda *leaves: jnp.stack([leaf[0] for leaf in leaves]), *(result.vectors for result in results)
        ),
        num_products=np.array([result.num_products for result in results]),
        cost=cost,
    )


def _none(params: PyTree, orders: Sequence[int]) -> Moments:
    """Return the moments for M_k = H^k, where products would compute only rounding errors."""
    zeros, ends = np.zeros(len(orders)), np.zeros((len(orders), 2))
    vectors = jax.tree.map(lambda leaf: jnp.zeros((len(orders), *leaf.shape), leaf.dtype), params)
    return Moments(
        orders=np.array(orders),
        non_uniformity=zeros,
        largest=zeros,
        smallest=zeros,
        residuals=ends,
        is_converged=ends == 0,
        vectors=vectors,
        num_products=zeros.astype(int),
        cost=0.0,
    )


def _mixed(start: PyTree, random: PyTree) -> PyTree:
    """Add a random vector to a start, which may have no component along the eigenvector of the other end."""
    return trees.add(start, trees.scale(_RANDOM * trees.norm(start) / trees.norm(random), random))
