"""The diagonal of a symmetric matrix, and the traces of its blocks: the leading part exactly, the rest from probes."""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

from flatwide.measure import inputs
from flatwide.measure.operators import Operator, random_signs
from flatwide.measure.spectrum.lanczos import check_finite, unflatten
from flatwide.measure.spectrum.trace import Estimate, leading_space
from flatwide.types import Array, PyTree


class Diagonal(NamedTuple):
    """The diagonal of a symmetric matrix, from random probes.

    values: like params, S_ii of each entry; 0 where it is masked. standard_errors: like params, of each value.
    num_products: products with the matrix. cost: in Hessian-vector products over the data set.
    """

    values: PyTree
    standard_errors: PyTree
    num_products: int
    cost: float


def diagonal(operator: Operator, *, key: Array, num_probes: int = 100, num_deflated: int = 15) -> Diagonal:
    """Estimate the diagonal of a symmetric matrix S: of a Hessian, the curvature along each single parameter.

    Args:
      operator: S, of `operator.size` = n rows.
      key: PRNG key; the same key gives the same result.
      num_probes: m >= 2; the standard errors fall with its square root.
      num_deflated: steps of Lanczos, whose space contains the large eigenvalues, the main source of noise; >= 0. With
        0, a diagonal matrix is exact; with n, every matrix is.
    Returns: Diagonal, in the unit of S. The values are unbiased; single values are noisy if the other entries of their
      rows are large compared to the diagonal, so use sums and averages over many of them, or more probes.
    Raises: ValueError if an option is out of range or a product is not finite.
    Equation: d = diag(Q'TQ) + (1/m) sum_i z_i * (S - Q'TQ) z_i with z_i uniform on {-1, 1}^n and T = Q S Q';
      Var d_j = (1/m) sum over k != j of (S - Q'TQ)_jk^2.
    Cost: num_deflated + m products; memory of 2 num_deflated + 4 vectors.
    Source: Bekas, Kokiopoulou and Saad (2007), An estimator for the diagonal of a matrix; Hutchinson (1989).
    """
    inside = _Inside(operator, key, num_probes, num_deflated)
    mean = square = jnp.zeros_like(inside.exact())
    for count, sample in enumerate(inside.samples(), start=1):
        mean, square = _updated(mean, square, sample, count)
    error = jnp.sqrt(square / (num_probes - 1) / num_probes)
    values, errors = (unflatten(operator.params, row) for row in (inside.exact() + mean, error))
    check_finite(np.asarray([jnp.sum(mean)]))
    return Diagonal(
        values=values,
        standard_errors=errors,
        num_products=inside.num_products,
        cost=inside.num_products * operator.cost,
    )


def grouped_traces(
    operator: Operator, groups: Mapping[str, Sequence[int]], *, key: Array, num_probes: int, num_deflated: int
) -> dict[str, Estimate]:
    """Estimate the sums of the diagonal over groups of leaves.

    Args:
      groups: name -> indices of leaves of the operator's params. The other arguments are as for `diagonal`.
    Returns: name -> Estimate, whose products and cost are those of all groups together.
    """
    inside = _Inside(operator, key, num_probes, num_deflated)
    exact = _leaf_sums(operator.params, inside.exact())
    samples = np.array([_leaf_sums(operator.params, sample) for sample in inside.samples()]).reshape(-1, len(exact))
    check_finite(samples)
    estimates = {}
    for name, leaves in groups.items():
        value, error, columns = float(exact[list(leaves)].sum()), 0.0, samples[:, list(leaves)].sum(axis=1)
        if len(columns):
            value += float(columns.mean())
            error = float(np.std(columns, ddof=1)) / math.sqrt(len(columns))
        estimates[name] = Estimate(value, error, inside.num_products, inside.num_products * operator.cost)
    return estimates


class _Inside:
    """The projection Q'TQ of a matrix onto a Lanczos space, and samples of the diagonal of the remainder."""

    def __init__(self, operator: Operator, key: Array, num_probes: int, num_deflated: int):
        if num_probes < 2:
            raise ValueError(f"num_probes={num_probes}: expected at least 2; one probe has no standard error.")
        start_key, self._probe_key = jax.random.split(inputs.random_key(key))
        self._operator, self._num_probes = operator, num_probes
        self._basis = leading_space(operator, start_key, num_deflated)
        values, vectors = self._basis.ritz()
        self._rows, self._values = self._basis.combine(vectors), jnp.asarray(values, self._basis.dtype)

    @property
    def num_products(self) -> int:
        return self._basis.num_products

    def exact(self) -> Array:
        return _diagonal_inside(self._rows, self._values)

    def samples(self) -> Iterator[Array]:
        """Yield flat samples of the diagonal of the remainder; none if the space is all of it."""
        if self._basis.num_rows == self._operator.size:
            return
        # Sequentially: this takes the memory of one product, which uses all threads.
        for key in jax.random.split(self._probe_key, self._num_probes):
            signs = ravel_pytree(random_signs(self._operator, key))[0]
            product = self._basis.multiply(signs)
            yield jax.block_until_ready(_sample(self._rows, self._values, signs, product))


@jax.jit
def _diagonal_inside(rows: Array, values: Array) -> Array:
    return values @ rows**2


@jax.jit
def _sample(rows: Array, values: Array, signs: Array, product: Array) -> Array:
    return signs * (product - (values * (rows @ signs)) @ rows)


@jax.jit
def _updated(mean: Array, square: Array, sample: Array, count: Array) -> tuple[Array, Array]:
    """Update a mean and a sum of squared deviations with a sample (Welford, 1962)."""
    step = sample - mean
    mean = mean + step / count
    return mean, square + step * (sample - mean)


def _leaf_sums(params: PyTree, row: Array) -> np.ndarray:
    return np.asarray(jnp.stack(_sums(params, row)), np.float64)


@jax.jit
def _sums(params: PyTree, row: Array) -> list[Array]:
    return [jnp.sum(leaf) for leaf in jax.tree.leaves(unflatten(params, row))]
