"""Lanczos with full orthogonalization: an orthonormal basis that grows by products, and the matrix in that basis.

Every new row is orthogonalized against all previous rows, since rounding would otherwise destroy orthogonality; the
inner products are the entries of the projected matrix. Rows are stored in blocks: unused blocks are never read, and a
new row is written without copying the others.
"""

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

from flatwide import trees
from flatwide.measure import operators
from flatwide.measure.operators import Operator
from flatwide.types import Array, PyTree

RETRIES = 3  # times that a solver continues after fresh products showed a residual that rounding had hidden
_ROWS = 8  # of a block; a choice: at most 7 unused rows are read, and few blocks are compiled
_LOST = 0.7  # a vector whose norm falls below this fraction is orthogonalized again (Daniel et al., 1976)
_ASYMMETRY = 30  # times the root of the rounding error: 1 % in 32 bits, more than the rounding error of any network
_ENDED = 30  # times the rounding error of the largest Ritz value: the residual of a product in an invariant space


class Checked(NamedTuple):
    """Approximate eigenpairs with fresh products.

    values: [k], Rayleigh quotients; residuals: [k], norms of S v - value v. vectors: [k, P], flat.
    worst: [P], the largest of these differences.
    """

    values: np.ndarray
    residuals: np.ndarray
    vectors: Array
    worst: Array


class Basis:
    """Orthonormal rows q_1 ... q_j, and the projection of S onto them; `extend` adds rows, `restart` reduces them.

    projected: Q S Q' of the rows that have been multiplied, [m, m] in float64.
    num_rows: number of rows that have been multiplied. The next product is with the row after them.
    num_products: number of products.
    coupling: the norm of the last product's component orthogonal to the rows, which defines the next row.
    """

    def __init__(self, operator: Operator, capacity: int):
        self._operator = operator
        self.product = operator.open()
        self.dtype = np.dtype(jax.tree.leaves(operator.params)[0].dtype)
        self.capacity = capacity
        # Unused blocks are the same array, so that memory is allocated as the basis grows.
        self._blocks = [jnp.zeros((_ROWS, trees.size(operator.params)), self.dtype)] * (capacity // _ROWS + 1)
        self._row = self._before = jnp.zeros_like(self._blocks[0][0])
        self.projected = np.zeros((capacity, capacity))
        self.num_rows = self.num_products = 0
        self.coupling = 0.0
        self._is_following = False  # whether the next row is the residual of the last product

    def begin(self, vector: PyTree) -> None:
        """Orthogonalize a vector against the rows and use it as the next row, with a coupling of zero.

        Raises: ValueError if it lies in the span of the rows.
        """
        self._before, self._is_following = jnp.zeros_like(self._row), False
        if not self._append(_flat(vector)) > 0:
            raise ValueError("start: expected a vector of finite, positive norm outside the span of the rows so far.")
        self.coupling = 0.0

    def begin_randomly(self, key: Array) -> None:
        """Use a random direction as the next row."""
        self.begin(operators.random_normal(self._operator, key))

    def clear(self) -> None:
        """Remove all rows."""
        self.num_rows = 0
        self.projected[:] = 0

    def outside(self, vector: PyTree) -> Array:
        """Compute the component of a vector orthogonal to the rows, flat and not normalized."""
        return _outside(tuple(self._blocks), _flat(vector), self.num_rows)

    def extend(self) -> None:
        """Multiply the next row, and compute the one after it.

        Raises: ValueError if the product is not finite, or is detected not to be symmetric.
        Cost: 1 product, and two passes over the rows.
        """
        index = self.num_rows
        # Compiled separately from what follows: the product takes the longest to compile, and `multiply` needs it too.
        product = self._product_of(self._row)
        entries, following, length = _extend(product, tuple(self._blocks), self._row, self._before, index)
        self._before, self._row = self._row, following
        entries, length = np.asarray(entries, np.float64)[: index + 1], float(length)
        check_finite(entries)
        if self._is_following:  # then the product with the previous row has computed the same entry
            size = max(float(np.max(np.abs(self.projected))), float(np.max(np.abs(entries))))
            if abs(entries[index - 1] - self.coupling) > _ASYMMETRY * float(np.finfo(self.dtype).eps) ** 0.5 * size:
                raise ValueError(
                    f"the product is not symmetric: <u, S v> = {entries[index - 1]:.6g} and <v, S u> = "
                    f"{self.coupling:.6g} for two unit vectors; expected equal numbers. Measure the symmetric part, "
                    "(S v + S' v) / 2, or S' S."
                )
        # Without rounding all but the last two would be zero (S is symmetric); they make this exactly Q S Q'.
        self.projected[index, : index + 1] = self.projected[: index + 1, index] = entries
        self.num_rows, self.num_products = index + 1, self.num_products + 1
        self.coupling, self._is_following = length, True
        self._write(index + 1)

    def ritz(self) -> tuple[np.ndarray, np.ndarray]:
        """Compute the eigenvalues (ascending) and eigenvectors (columns) of the projected matrix."""
        # The i-th largest is at most the i-th largest eigenvalue of S, whatever the span of the rows (Cauchy).
        return np.linalg.eigh(self.projected[: self.num_rows, : self.num_rows])

    @property
    def has_ended(self) -> bool:
        """Whether the rows span an invariant subspace, up to rounding."""
        size = np.max(np.abs(self.projected[: self.num_rows, : self.num_rows]), initial=0.0)
        # S Q' = Q' T + coupling q_next e_m': with a coupling of zero, the eigenvalues of T are eigenvalues of S.
        return self.coupling <= _ENDED * float(np.finfo(self.dtype).eps) * size

    def combine(self, coefficients: np.ndarray) -> Array:
        """Compute the vectors sum_j coefficients[j, i] q_j, as rows [i, P]."""
        padded = np.zeros((coefficients.shape[1], len(self._blocks) * _ROWS), self.dtype)
        padded[:, : len(coefficients)] = coefficients.T
        return _combine(padded, tuple(self._blocks), len(coefficients))

    def multiply(self, row: Array) -> Array:
        """Multiply a flat vector by S with a new product."""
        self.num_products += 1
        return self._product_of(row)

    def check(self, coefficients: np.ndarray) -> "Checked":
        """Check combinations of the rows, such as Ritz vectors, with one new product each."""
        rows = self.combine(coefficients)
        products = jnp.stack([self.multiply(row) for row in rows])
        values, residuals, worst = _residuals(rows, products)
        return Checked(
            values=np.asarray(values, np.float64),
            residuals=np.asarray(residuals, np.float64),
            vectors=rows,
            worst=worst,
        )

    def check_together(self, coefficients: np.ndarray, values: np.ndarray, key: Array) -> "Checked":
        """Check Ritz pairs with one product, with a combination of their vectors with random signs.

        Each S y - value y is the sum of coupling y_m q_next, which is known, and of f, which rounding or restarts hide.
        With w the signed sum of the others, |f + w|^2 and |f - w|^2 have the mean |f|^2 + |w|^2: the measured norm is
        at least |f| for each f with a probability of at least one half, and its square is on average the sum of all
        |f|^2.
        """
        rows, tails = self.combine(coefficients), self.coupling * coefficients[-1]
        signs = jax.random.rademacher(key, (len(rows),), rows.dtype)
        scale = len(rows) ** 0.5  # so that the vector that is multiplied has unit length
        product = scale * self.multiply(signs @ rows / scale)
        unseen = product - (signs * values.astype(self.dtype)) @ rows - (signs @ tails.astype(self.dtype)) * self._row
        residuals = np.hypot(tails, float(lengths(unseen)))
        return Checked(values=values, residuals=residuals, vectors=rows, worst=unseen)

    def restart(self, vectors: Array, projected: np.ndarray, next_row: Array | None = None) -> None:
        """Replace the rows by some combinations of them.

        Args:
          vectors: [r, P], orthonormal; projected: the projection of S onto them, [r, r].
          next_row: flat vector to continue with; None to continue with the residual of the last product.
        """
        if next_row is None:
            next_row = self._row
        # The next row stays coupled to all rows that are kept; its product computes those entries again.
        padded = jnp.pad(vectors, ((0, -len(vectors) % _ROWS), (0, 0)))
        for at in range(len(padded) // _ROWS):
            self._blocks[at] = padded[at * _ROWS : (at + 1) * _ROWS]
        self.projected[:] = 0
        self.num_rows = len(vectors)
        self.projected[: self.num_rows, : self.num_rows] = projected
        self._before, self._is_following = jnp.zeros_like(self._row), False
        self._append(next_row)

    def _append(self, vector: Array) -> float:
        """Orthogonalize a flat vector against the rows and use it as the next row; return its norm."""
        self._row, length = _orthonormal(tuple(self._blocks), vector, self.num_rows)
        self._write(self.num_rows)
        return float(length)

    def _product_of(self, row: Array) -> Array:
        # Wait before anything else is compiled, since compilation holds a lock that a product on the host waits for.
        return jax.block_until_ready(_multiply_flat(self.product, self._operator.params, row))

    def _write(self, index: int) -> None:
        at, inside = divmod(index, _ROWS)
        self._blocks[at] = _written(self._blocks[at], self._row, inside) if inside else _opened(self._row)


def check_finite(numbers: np.ndarray) -> None:
    """Raise an error for a product that is not finite.

    Raises: ValueError if a number is not finite.
    """
    if not np.all(np.isfinite(numbers)):
        raise ValueError(
            "the product with a vector is not finite: expected a loss with finite second derivatives at these "
            "params and data; look for overflow in the loss or non-finite numbers in the data."
        )


def check_tolerances(operator: Operator, **tolerances: float) -> None:
    """Raise an error for a relative residual that rounding does not allow to reach.

    Raises: ValueError below 10 times the rounding error of the vectors.
    """
    least = 10 * float(jnp.finfo(jax.tree.leaves(operator.params)[0].dtype).eps)
    for name, value in tolerances.items():
        if not value >= least:
            raise ValueError(f"{name}={value}: expected at least {least:.1e} in this type; use 64-bit params.")


def lengths(vectors: Array) -> Array:
    """Compute the l2 norms over the last axis, without overflow or underflow of the squares.

    The fourth power of a small curvature is near 1e-20, whose square is zero in 32 bits.
    """
    largest = jnp.max(jnp.abs(vectors), axis=-1, keepdims=True)
    return largest[..., 0] * jnp.linalg.norm(vectors / jnp.where(largest > 0, largest, 1), axis=-1)


def unflatten(params: PyTree, row: Array) -> PyTree:
    """Convert a flat vector to the structure of params."""
    return ravel_pytree(params)[1](row)


@jax.jit
def unflatten_all(params: PyTree, rows: Array) -> PyTree:
    """Convert flat vectors, the rows, to the structure of params with a leading axis."""
    return jax.vmap(lambda row: unflatten(params, row))(rows)


@jax.jit
def _residuals(rows: Array, products: Array) -> tuple[Array, Array, Array]:
    values = jnp.sum(rows * products, axis=1) / jnp.sum(rows * rows, axis=1)
    left = products - values[:, None] * rows
    sizes = lengths(left)
    return values, sizes, left[jnp.argmax(sizes)]


@jax.jit
def _flat(tree: PyTree) -> Array:
    return ravel_pytree(tree)[0]


def _apply(product: Callable[[PyTree], PyTree], params: PyTree, row: Array) -> Array:
    return _flat(product(unflatten(params, row)))


_multiply_flat = jax.jit(_apply)


@jax.jit
def _extend(
    product: Array, blocks: tuple[Array, ...], row: Array, before: Array, index: Array
) -> tuple[Array, Array, Array]:
    """Orthogonalize the product with the row at an index against all rows up to it.

    Args:
      before: the previous row if it is coupled to this one; else zero.
    Returns: the inner products with each row; the remainder as a unit vector, and its norm.
    """
    # The two rows with nearly all of the overlap come first, so that one pass over all rows is usually enough.
    here = jnp.vdot(row, product)
    left = product - here * row
    there = jnp.vdot(before, left)
    left = left - there * before
    entries, left, length = _orthogonal(blocks, left, index + 1)
    entries = entries.at[index].add(here).at[jnp.maximum(index - 1, 0)].add(there)
    return entries, _unit(left, length), length


@jax.jit
def _outside(blocks: tuple[Array, ...], vector: Array, num_rows: Array) -> Array:
    return _orthogonal(blocks, vector, num_rows)[1]


@jax.jit
def _orthonormal(blocks: tuple[Array, ...], vector: Array, num_rows: Array) -> tuple[Array, Array]:
    length = lengths(vector)
    _, left, left_length = _orthogonal(blocks, _unit(vector, length), num_rows)
    return _unit(left, left_length), length * left_length


def _orthogonal(blocks: tuple[Array, ...], vector: Array, num_rows: Array) -> tuple[Array, Array, Array]:
    """Orthogonalize a vector against the first rows: return the inner products, the remainder and its norm."""
    is_row = (jnp.arange(len(blocks) * _ROWS) < num_rows).astype(vector.dtype)

    # Twice is enough (Giraud, Langou and Rozloznik, 2005): a second pass removes the rounding errors of the first, and
    # a remainder that is still small is small because the vector lies in the span.
    def is_needed(state: tuple) -> Array:
        num_passes, _, _, length, length_before = state
        return (num_passes == 0) | ((num_passes == 1) & (length < _LOST * length_before))

    def take_out(state: tuple) -> tuple:
        num_passes, entries, left, length, _ = state
        more, left = _without(blocks, left, num_rows, is_row)
        return num_passes + 1, entries + more, left, lengths(left), length

    start = (0, jnp.zeros_like(is_row), vector, lengths(vector), jnp.zeros((), vector.dtype))
    _, entries, left, length, _ = jax.lax.while_loop(is_needed, take_out, start)
    return entries, left, length


def _without(blocks: tuple[Array, ...], vector: Array, num_rows: Array, is_row: Array) -> tuple[Array, Array]:
    """Compute the inner products with the first rows, and subtract the projection onto them."""
    is_used = [at * _ROWS < num_rows for at in range(len(blocks))]
    unused = jnp.zeros(_ROWS, vector.dtype)
    measured = [
        jax.lax.cond(used, lambda rows: rows @ vector, lambda _: unused, rows)
        for used, rows in zip(is_used, blocks, strict=True)
    ]
    entries = jnp.concatenate(measured) * is_row
    for at, (used, rows) in enumerate(zip(is_used, blocks, strict=True)):
        part = entries[at * _ROWS : (at + 1) * _ROWS]
        vector = jax.lax.cond(
            used, lambda left, part, rows: left - part @ rows, lambda left, *_: left, vector, part, rows
        )
    return entries, vector


def _unit(vector: Array, length: Array) -> Array:
    return jnp.where(length > 0, vector / jnp.where(length > 0, length, 1), 0)


@jax.jit
def _opened(row: Array) -> Array:
    """Return a block whose first row is set."""
    return jnp.zeros((_ROWS, row.size), row.dtype).at[0].set(row)


@functools.partial(jax.jit, donate_argnames="rows")
def _written(rows: Array, row: Array, index: Array) -> Array:
    return rows.at[index].set(row)


@jax.jit
def _combine(coefficients: Array, blocks: tuple[Array, ...], num_rows: Array) -> Array:
    combined = jnp.zeros((len(coefficients), blocks[0].shape[1]), coefficients.dtype)
    for at, rows in enumerate(blocks):
        part = coefficients[:, at * _ROWS : (at + 1) * _ROWS]
        is_used = at * _ROWS < num_rows
        combined = jax.lax.cond(
            is_used, lambda left, part, rows: left + part @ rows, lambda left, *_: left, combined, part, rows
        )
    return combined
