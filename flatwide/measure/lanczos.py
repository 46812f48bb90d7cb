"""An orthonormal basis that grows by products with a symmetric matrix, and the matrix in that basis.

The basis is kept in one array, one vector a row. Every new row is made orthogonal to all rows before it, which rounding
would undo otherwise; the inner products that this takes are the entries of the projected matrix.
"""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

from flatwide.measure import operators
from flatwide.measure.operators import Operator
from flatwide.types import Array, PyTree

_ROWS = 8  # rows of the basis that are read together
_LOST = 0.7  # a vector that keeps less than this of its length is made orthogonal once more (Daniel et al., 1976)
_ENDED = 30  # times the rounding error of the largest Ritz value: what is left of a product when the space is invariant


class Basis:
    """Orthonormal rows q_1 ... q_j, and S in them; grown by `extend`, cut by `restart`.

    projected: Q S Q' of the rows that have been multiplied, [m, m] in float64.
    num_rows: how many rows have been multiplied. The next product is with the row after them.
    num_products: how many products were taken.
    coupling: the length of what the last product left outside the rows, the next row's weight.
    """

    def __init__(self, operator: Operator, capacity: int):
        self._operator = operator
        self.product = operator.open()
        self.dtype = np.dtype(jax.tree.leaves(operator.params)[0].dtype)
        self.capacity = capacity
        rows = -(-(capacity + 1) // _ROWS) * _ROWS
        self._rows = jnp.zeros((rows, _num_entries(operator.params)), self.dtype)
        self.projected = np.zeros((capacity, capacity))
        self.num_rows = self.num_products = 0
        self.coupling = 0.0

    def begin(self, vector: PyTree) -> None:
        """Take a vector, made orthogonal to the rows, as the next row; the coupling to it is zero.

        Raises: ValueError if it lies in the span of the rows.
        """
        self._rows, length = _append(self._rows, _flat(vector), self.num_rows)
        if not float(length) > 0:
            raise ValueError("start: expected a vector of finite, positive length outside the rows so far.")
        self.coupling = 0.0

    def begin_randomly(self, key: Array) -> None:
        """Take a random direction as the next row."""
        self.begin(operators.random_normal(self._operator, key))

    def extend(self) -> None:
        """Multiply the next row, and make the one after it.

        Raises: ValueError if the product is not finite.
        Cost: 1 product, and twice the reading of the rows.
        """
        place = self.num_rows
        self._rows, entries, length = _extend(self.product, self._operator.params, self._rows, place)
        entries = np.asarray(entries, np.float64)[: place + 1]
        if not np.all(np.isfinite(entries)):
            raise ValueError(
                "the product with a vector is not finite: expected a loss with finite second derivatives at these "
                "params and data; look for overflow in the loss or numbers that are not finite in the data."
            )
        self.projected[place, : place + 1] = self.projected[: place + 1, place] = entries
        self.num_rows, self.num_products = place + 1, self.num_products + 1
        self.coupling = float(length)

    def ritz(self) -> tuple[np.ndarray, np.ndarray]:
        """Give eigenvalues (ascending) and eigenvectors (columns) of the projected matrix."""
        return np.linalg.eigh(self.projected[: self.num_rows, : self.num_rows])

    @property
    def has_ended(self) -> bool:
        """Tell whether the rows span an invariant subspace, to rounding."""
        size = np.max(np.abs(self.projected[: self.num_rows, : self.num_rows]), initial=0.0)
        return self.coupling <= _ENDED * float(np.finfo(self.dtype).eps) * size

    def combine(self, coefficients: np.ndarray) -> Array:
        """Give the vectors sum_j coefficients[j, i] q_j, one a row [i, P]."""
        padded = np.zeros((coefficients.shape[1], len(self._rows)), self.dtype)
        padded[:, : len(coefficients)] = coefficients.T
        return _combine(jnp.asarray(padded), self._rows)

    def multiply(self, row: Array) -> Array:
        """Multiply a flat vector afresh."""
        self.num_products += 1
        return _multiply_flat(self.product, self._operator.params, row)

    def restart(self, vectors: Array, projected: np.ndarray, next_row: Array | None = None) -> None:
        """Keep some combinations of the rows in their place.

        Args:
          vectors: [r, P], orthonormal; projected: S in them, [r, r].
          next_row: flat vector to go on with; None to go on with the row that the last product left.
        """
        if next_row is None:
            next_row = self._rows[self.num_rows]
        num_kept = len(vectors)
        self._rows = jnp.zeros_like(self._rows).at[:num_kept].set(vectors)
        self.projected[:] = 0
        self.projected[:num_kept, :num_kept] = projected
        self.num_rows = num_kept
        self._rows, _ = _append(self._rows, next_row, num_kept)


def unflatten(params: PyTree, row: Array) -> PyTree:
    """Give a flat vector the structure of params."""
    return ravel_pytree(params)[1](row)


def _num_entries(params: PyTree) -> int:
    return sum(leaf.size for leaf in jax.tree.leaves(params))


def _flat(tree: PyTree) -> Array:
    return ravel_pytree(tree)[0]


def _apply(product: Callable[[PyTree], PyTree], params: PyTree, row: Array) -> Array:
    return _flat(product(unflatten(params, row)))


_multiply_flat = jax.jit(_apply)


@functools.partial(jax.jit, donate_argnames="rows")
def _extend(
    product: Callable[[PyTree], PyTree], params: PyTree, rows: Array, place: Array
) -> tuple[Array, Array, Array]:
    """Multiply row `place` and put what is orthogonal to rows 0 ... place after it.

    Returns: the rows; the inner products with each; the length of what was left.
    """
    row, before = rows[place], rows[jnp.maximum(place - 1, 0)]
    left = _apply(product, params, row)
    # The two rows that hold nearly all of it are taken out first: so one pass over all rows is mostly enough.
    here = jnp.vdot(row, left)
    left = left - here * row
    there = jnp.where(place > 0, jnp.vdot(before, left), 0)
    left = left - there * before
    entries = jnp.zeros(len(rows), rows.dtype).at[place].add(here).at[jnp.maximum(place - 1, 0)].add(there)
    more, left, length = _orthogonal(rows, left, place + 1)
    rows = rows.at[place + 1].set(_unit(left, length))
    return rows, entries + more, length


@functools.partial(jax.jit, donate_argnames="rows")
def _append(rows: Array, vector: Array, place: Array) -> tuple[Array, Array]:
    length = jnp.linalg.norm(vector)
    _, left, length = _orthogonal(rows, _unit(vector, length), place)
    return rows.at[place].set(_unit(left, length)), length


def _orthogonal(rows: Array, vector: Array, num_rows: Array) -> tuple[Array, Array, Array]:
    """Take the first rows' part out of a vector: give inner products, what is left, and its length."""
    entries, left = _without(rows, vector, num_rows)
    length = jnp.linalg.norm(left)

    def again(found: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
        more, left = _without(rows, found[1], num_rows)
        return found[0] + more, left, jnp.linalg.norm(left)

    return jax.lax.cond(length < _LOST * jnp.linalg.norm(vector), again, lambda found: found, (entries, left, length))


def _without(rows: Array, vector: Array, num_rows: Array) -> tuple[Array, Array]:
    """Subtract the projection on the first rows; of the later ones only those of the last block are read."""
    num_blocks = (num_rows + _ROWS - 1) // _ROWS
    is_row = (jnp.arange(len(rows)) < num_rows).astype(rows.dtype)

    def block(at: Array) -> Array:
        return jax.lax.dynamic_slice(rows, (at * _ROWS, 0), (_ROWS, rows.shape[1]))

    def measured(at: Array, entries: Array) -> Array:
        return jax.lax.dynamic_update_slice(entries, block(at) @ vector, (at * _ROWS,))

    entries = jax.lax.fori_loop(0, num_blocks, measured, jnp.zeros(len(rows), rows.dtype)) * is_row

    def subtracted(at: Array, left: Array) -> Array:
        return left - jax.lax.dynamic_slice(entries, (at * _ROWS,), (_ROWS,)) @ block(at)

    return entries, jax.lax.fori_loop(0, num_blocks, subtracted, vector)


def _unit(vector: Array, length: Array) -> Array:
    return jnp.where(length > 0, vector / jnp.where(length > 0, length, 1), 0)


@jax.jit
def _combine(coefficients: Array, rows: Array) -> Array:
    return coefficients @ rows
