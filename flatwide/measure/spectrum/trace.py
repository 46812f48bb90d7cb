"""Trace, Frobenius norm and diagonal of a symmetric matrix: its leading part exactly, the rest from random probes."""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

from flatwide.measure import inputs
from flatwide.measure.operators import Operator, random_signs
from flatwide.measure.spectrum.lanczos import Basis, check_finite, lengths, unflatten
from flatwide.types import Array, PyTree


class Estimate(NamedTuple):
    """A number from random probes.

    standard_error: of the value; 0 if nothing was random.
    num_products: products with the matrix.
    cost: in Hessian-vector products over the data set.
    """

    value: float
    standard_error: float
    num_products: int
    cost: float


def trace(operator: Operator, *, key: Array, num_probes: int = 20, num_deflated: int = 15) -> Estimate:
    """Estimate the trace of a symmetric matrix S, the sum of its eigenvalues.

    The Hessian of a network has a few eigenvalues far above the rest, which would cause most of the noise. Lanczos
    finds a space Q that contains them and computes the trace in it exactly; probes estimate the remainder. Both parts
    take fixed numbers of products, so that the value is unbiased: stopping when the error looks small would bias it.

    Args:
      operator: S, of `operator.size` = n rows.
      key: PRNG key; the same key gives the same result.
      num_probes: m >= 2; the standard error falls with its square root. With fewer than 10 it is itself too uncertain
        for intervals, especially if S has few rows.
      num_deflated: rows of Q, >= 0. With 0, a diagonal matrix is exact; with n, every matrix is.
    Returns: Estimate, in the unit of S.
    Raises: ValueError if an option is out of range or a product is not finite.
    Equation: t = tr(Q S Q') + (1/m) sum_i z_i' P S P z_i with P = I - Q'Q and z_i uniform on {-1, 1}^n;
      Var t = (2/m) (|PSP|_F^2 - sum_j (PSP)_jj^2).
    Cost: num_deflated + m products; memory of num_deflated vectors and of one product.
    Source: Hutchinson (1989), A stochastic estimator of the trace of the influence matrix; Meyer et al. (2021),
      Hutch++, for the split, with a Krylov space in place of its random one: docs/performance.md compares them.
    """
    return trace_and_norm(operator, key=key, num_probes=num_probes, num_deflated=num_deflated)[0]


def frobenius_norm(operator: Operator, *, key: Array, num_probes: int = 20, num_deflated: int = 15) -> Estimate:
    """Estimate the Frobenius norm of a symmetric matrix S, the root of the sum of its squared eigenvalues.

    Args, errors, cost and source are those of `trace`; with the same key, the products are the same.

    Returns: Estimate, in the unit of S. The square is unbiased; its root is too low by value * relative error^2 / 2.
    Equation: |S|_F^2 = |S Q'|_F^2 + E |S P z|^2; the error of the root by its derivative.
    """
    return trace_and_norm(operator, key=key, num_probes=num_probes, num_deflated=num_deflated)[1]


def trace_and_norm(
    operator: Operator, *, key: Array, num_probes: int = 20, num_deflated: int = 15
) -> tuple[Estimate, Estimate]:
    """Estimate the trace and the Frobenius norm from the same products: the results of `trace` and `frobenius_norm`.

    Returns: both Estimates; num_products and cost of each are those of both together.
    """
    basis, keys = _leading(operator, key, num_probes, num_deflated)
    samples = np.array([_probe(basis, operator, one) for one in keys], np.float64).reshape(-1, 2)
    check_finite(samples)
    # tr S = tr(Q S Q') + tr(P S P), since the trace is cyclic and P P = P.
    total = _estimate(operator, basis, float(np.trace(basis.projected)), samples[:, 0])
    # The residual of the last product is the whole part of S Q' outside the space.
    inside = float(np.sum(basis.projected**2)) + basis.coupling**2
    square = _estimate(operator, basis, inside, samples[:, 1] ** 2)
    norm = math.sqrt(square.value)
    error = square.standard_error / (2 * norm) if norm else 0.0
    return total, square._replace(value=norm, standard_error=error)


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
    basis, keys = _leading(operator, key, num_probes, num_deflated)
    rows, values = _ritz(basis)
    exact = _diagonal_inside(rows, values)
    mean = square = jnp.zeros_like(exact)
    for count, one in enumerate(keys, start=1):
        mean, square = _updated(mean, square, _sample(basis, operator, rows, values, one), count)
    check_finite(np.asarray([jnp.sum(mean)]))
    error = jnp.sqrt(square / (num_probes - 1) / num_probes)
    return Diagonal(
        values=unflatten(operator.params, exact + mean),
        standard_errors=unflatten(operator.params, error),
        num_products=basis.num_products,
        cost=basis.num_products * operator.cost,
    )


def grouped_traces(
    operator: Operator, groups: Mapping[str, Sequence[int]], *, key: Array, num_probes: int, num_deflated: int
) -> dict[str, Estimate]:
    """Estimate the sums of the diagonal over groups of leaves.

    Args:
      groups: name -> indices of leaves of the operator's params. The other arguments are as for `diagonal`.
    Returns: name -> Estimate, whose products and cost are those of all groups together.
    """
    basis, keys = _leading(operator, key, num_probes, num_deflated)
    rows, values = _ritz(basis)
    exact = np.asarray(_leaf_sums(operator.params, _diagonal_inside(rows, values)), np.float64)
    samples = [_leaf_sums(operator.params, _sample(basis, operator, rows, values, one)) for one in keys]
    outside = np.array(samples, np.float64).reshape(-1, len(exact))
    check_finite(outside)
    return {
        name: _estimate(operator, basis, float(exact[list(leaves)].sum()), outside[:, list(leaves)].sum(axis=1))
        for name, leaves in groups.items()
    }


def _estimate(operator: Operator, basis: Basis, inside: float, outside: np.ndarray) -> Estimate:
    """Return the sum of the exact part and the mean of the samples of the rest, of which there may be none."""
    value, error = inside, 0.0
    if len(outside):
        value += float(np.mean(outside))
        error = float(np.std(outside, ddof=1)) / math.sqrt(len(outside))
    return Estimate(value, error, basis.num_products, basis.num_products * operator.cost)


def _leading(operator: Operator, key: Array, num_probes: int, num_deflated: int) -> tuple[Basis, Iterable[Array]]:
    """Return a basis that contains the leading eigenvectors, and a key for each probe: none if it is all of space.

    The probes are taken one after another, which takes the memory of one product, and each uses all threads.
    """
    inputs.check_at_least(2, "; one probe has no standard error", num_probes=num_probes)
    inputs.check_at_least(0, ", the dimension of the exact part", num_deflated=num_deflated)
    start_key, probe_key = jax.random.split(inputs.random_key(key))
    basis = Basis(operator, min(num_deflated, operator.size))
    for row in range(basis.capacity):
        if row == 0 or basis.has_ended:
            basis.begin_randomly(jax.random.fold_in(start_key, row))
        basis.extend()
    return basis, () if basis.num_rows == operator.size else jax.random.split(probe_key, num_probes)


def _probe(basis: Basis, operator: Operator, key: Array) -> Array:
    # Signs instead of normal numbers: A's diagonal then adds no noise to z' A z, since z_j^2 = 1.
    outside = basis.outside(random_signs(operator, key))
    return jax.block_until_ready(_products(outside, basis.multiply(outside)))


@jax.jit
def _products(vector: Array, product: Array) -> Array:
    return jnp.stack([jnp.vdot(vector, product), lengths(product)])


def _ritz(basis: Basis) -> tuple[Array, Array]:
    values, vectors = basis.ritz()
    return basis.combine(vectors), jnp.asarray(values, basis.dtype)


def _sample(basis: Basis, operator: Operator, rows: Array, values: Array, key: Array) -> Array:
    """Draw a flat sample of the diagonal of S - Q'TQ."""
    signs = ravel_pytree(random_signs(operator, key))[0]
    return jax.block_until_ready(_outside(rows, values, signs, basis.multiply(signs)))


@jax.jit
def _diagonal_inside(rows: Array, values: Array) -> Array:
    return values @ rows**2


@jax.jit
def _outside(rows: Array, values: Array, signs: Array, product: Array) -> Array:
    return signs * (product - (values * (rows @ signs)) @ rows)


@jax.jit
def _updated(mean: Array, square: Array, sample: Array, count: Array) -> tuple[Array, Array]:
    """Update a mean and a sum of squared deviations with a sample (Welford, 1962)."""
    step = sample - mean
    mean = mean + step / count
    return mean, square + step * (sample - mean)


@jax.jit
def _leaf_sums(params: PyTree, row: Array) -> Array:
    return jnp.stack([jnp.sum(leaf) for leaf in jax.tree.leaves(unflatten(params, row))])
