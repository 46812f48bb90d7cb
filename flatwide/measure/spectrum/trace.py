"""The trace and the Frobenius norm of a symmetric matrix: its leading part exactly, the rest from random probes."""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from flatwide.measure import inputs
from flatwide.measure.operators import Operator, random_signs
from flatwide.measure.spectrum.lanczos import Basis, check_finite, lengths
from flatwide.types import Array


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

    Args:
      operator, key, num_probes, num_deflated: as for `trace`; with the same key, the products are the same.
    Returns: Estimate, in the unit of S. The square is unbiased; its root is too low by value * relative error^2 / 2.
    Raises: ValueError as `trace`.
    Equation: |S|_F^2 = |S Q'|_F^2 + E |S P z|^2; the error of the root by its derivative.
    Cost: as `trace`.
    Source: as `trace`.
    """
    return trace_and_norm(operator, key=key, num_probes=num_probes, num_deflated=num_deflated)[1]


def trace_and_norm(
    operator: Operator, *, key: Array, num_probes: int = 20, num_deflated: int = 15
) -> tuple[Estimate, Estimate]:
    """Estimate the trace and the Frobenius norm from the same products: the results of `trace` and `frobenius_norm`.

    Args:
      operator, key, num_probes, num_deflated: as for `trace`.
    Returns: both Estimates, in the unit of S; num_products and cost of each are those of both together.
    Raises: ValueError as `trace`.
    Equation: as for these.
    Cost: as one of them.
    Source: as `trace`.
    """
    parts = _split(operator, key, num_probes, num_deflated)
    square = parts.estimate(parts.square, parts.squares)
    norm = math.sqrt(square.value)
    error = square.standard_error / (2 * norm) if norm else 0.0
    return parts.estimate(parts.trace, parts.traces), square._replace(value=norm, standard_error=error)


class _Split(NamedTuple):
    """The trace and squared norm of a matrix inside a space, exactly, and outside it, one sample per probe."""

    trace: float
    square: float
    traces: np.ndarray  # [m]
    squares: np.ndarray  # [m]
    num_products: int
    cost: float

    def estimate(self, inside: float, outside: np.ndarray) -> Estimate:
        value, error = inside, 0.0
        if len(outside):
            value += float(np.mean(outside))
            error = float(np.std(outside, ddof=1)) / math.sqrt(len(outside))
        return Estimate(value=value, standard_error=error, num_products=self.num_products, cost=self.cost)


def _split(operator: Operator, key: Array, num_probes: int, num_deflated: int) -> _Split:
    if num_probes < 2:
        raise ValueError(f"num_probes={num_probes}: expected at least 2; one probe has no standard error.")
    size = operator.size
    start_key, probe_key = jax.random.split(inputs.random_key(key))
    basis = leading_space(operator, start_key, num_deflated)
    # tr S = tr(Q S Q') + tr(P S P), since the trace is cyclic and P P = P.
    # The residual of the last product is the whole part of S Q' outside the space.
    square = float(np.sum(basis.projected**2)) + basis.coupling**2
    samples = np.zeros((0, 2))
    if basis.num_rows < size:
        # Sequentially: this takes the memory of one product, which uses all threads.
        samples = np.array(
            [_probe(basis, operator, single_key) for single_key in jax.random.split(probe_key, num_probes)], np.float64
        )
        check_finite(samples)
    num_products = basis.num_products
    cost = num_products * operator.cost
    return _Split(
        trace=float(np.trace(basis.projected)),
        square=square,
        traces=samples[:, 0],
        squares=samples[:, 1] ** 2,
        num_products=num_products,
        cost=cost,
    )


def leading_space(operator: Operator, key: Array, num_deflated: int) -> Basis:
    """Return the basis after num_deflated steps of Lanczos, whose span contains the leading eigenvectors.

    Raises: ValueError for num_deflated < 0, or a product that is not finite.
    """
    if num_deflated < 0:
        raise ValueError(f"num_deflated={num_deflated}: expected at least 0, the dimension of the exact part.")
    basis = Basis(operator, min(num_deflated, operator.size))
    for row in range(basis.capacity):
        if row == 0 or basis.has_ended:
            basis.begin_randomly(jax.random.fold_in(key, row))
        basis.extend()
    return basis


def _probe(basis: Basis, operator: Operator, key: Array) -> Array:
    # Signs instead of normal numbers: A's diagonal then adds no noise to z' A z, since z_j^2 = 1.
    outside = basis.outside(random_signs(operator, key))
    return jax.block_until_ready(_products(outside, basis.multiply(outside)))


@jax.jit
def _products(vector: Array, product: Array) -> Array:
    return jnp.stack([jnp.vdot(vector, product), lengths(product)])
