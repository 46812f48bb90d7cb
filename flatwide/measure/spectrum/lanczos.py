"""An orthonormal basis that grows by products with a symmetric matrix, and the matrix in that basis.

Every new row is made orthogonal to all rows before it, which rounding would undo otherwise; the inner products that
this takes are the entries of the projected matrix. Rows are kept in blocks: those that are not in use yet are never
read, and a new row is written without a copy of the others.
"""

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

from flatwide.measure import operators
from flatwide.measure.operators import Operator
from flatwide.types import Array, PyTree

RETRIES = 3  # times a solver goes on where fresh products show that rounding had hidden a residual
_ROWS = 8  # of a block
_LOST = 0.7  # a vector that keeps less than this of its length is made orthogonal once more (Daniel et al., 1976)
_ASYMMETRY = 30  # times the root of the rounding error: 1 % in 32 bits, past what products round off in any network
_ENDED = 30  # times the rounding error of the largest Ritz value: what is left of a product when the space is invariant


class Checked(NamedTuple):
    """Approximate eigenpairs with fresh products.

    values: [k], Rayleigh quotients; residuals: [k], lengths of S v - value v. vectors: [k, P], flat.
    worst: [P], the longest of these differences.
    """

    values: np.ndarray
    residuals: np.ndarray
    vectors: Array
    worst: Array


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
        # Those not in use yet are one and the same, so that memory is taken as the basis grows.
        self._blocks = [jnp.zeros((_ROWS, _num_entries(operator.params)), self.dtype)] * (capacity // _ROWS + 1)
        self._row = self._before = jnp.zeros_like(self._blocks[0][0])
        self.projected = np.zeros((capacity, capacity))
        self.num_rows = self.num_products = 0
        self.coupling = 0.0
        self._is_following = False  # whether the next row is what the last product left

    def begin(self, vector: PyTree) -> None:
        """Take a vector, made orthogonal to the rows, as the next row; the coupling to it is zero.

        Raises: ValueError if it lies in the span of the rows.
        """
        self._before, self._is_following = jnp.zeros_like(self._row), False
        if not self._append(_flat(vector)) > 0:
            raise ValueError("start: expected a vector of finite, positive length outside the rows so far.")
        self.coupling = 0.0

    def begin_randomly(self, key: Array) -> None:
        """Take a random direction as the next row."""
        self.begin(operators.random_normal(self._operator, key))

    def clear(self) -> None:
        """Forget the rows."""
        self.num_rows = 0
        self.projected[:] = 0

    def outside(self, vector: PyTree) -> Array:
        """Take the part of the rows out of a vector, flat; its length stays that of what is left."""
        return _outside(tuple(self._blocks), _flat(vector), self.num_rows)

    def extend(self) -> None:
        """Multiply the next row, and make the one after it.

        Raises: ValueError if the product is not finite, or is seen not to be symmetric.
        Cost: 1 product, and twice the reading of the rows.
        """
        place = self.num_rows
        # Apart from what follows: the product takes the longest to compile, and `multiply` needs it too.
        product = self._product_of(self._row)
        entries, following, length = _extend(product, tuple(self._blocks), self._row, self._before, place)
        self._before, self._row = self._row, following
        entries, length = np.asarray(entries, np.float64)[: place + 1], float(length)
        check_finite(entries)
        if self._is_following:  # so that the product with the row before has shown their entry too
            size = max(float(np.max(np.abs(self.projected))), float(np.max(np.abs(entries))))
            check_symmetric(entries[place - 1], self.coupling, size, self.dtype)
        # Without rounding all but the last two would be zero (S is symmetric); kept, they make this Q S Q' even so.
        self.projected[place, : place + 1] = self.projected[: place + 1, place] = entries
        self.num_rows, self.num_products = place + 1, self.num_products + 1
        self.coupling, self._is_following = length, True
        self._write(place + 1)

    def ritz(self) -> tuple[np.ndarray, np.ndarray]:
        """Give eigenvalues (ascending) and eigenvectors (columns) of the projected matrix."""
        # The i-th largest is at most the i-th largest eigenvalue of S, whatever the rows span (Cauchy).
        return np.linalg.eigh(self.projected[: self.num_rows, : self.num_rows])

    @property
    def has_ended(self) -> bool:
        """Tell whether the rows span an invariant subspace, to rounding."""
        size = np.max(np.abs(self.projected[: self.num_rows, : self.num_rows]), initial=0.0)
        # S Q' = Q' T + coupling q_next e_m': where nothing is left, the eigenvalues of T are eigenvalues of S.
        return self.coupling <= _ENDED * float(np.finfo(self.dtype).eps) * size

    def combine(self, coefficients: np.ndarray) -> Array:
        """Give the vectors sum_j coefficients[j, i] q_j, one a row [i, P]."""
        padded = np.zeros((coefficients.shape[1], len(self._blocks) * _ROWS), self.dtype)
        padded[:, : len(coefficients)] = coefficients.T
        return _combine(padded, tuple(self._blocks), len(coefficients))

    def multiply(self, row: Array) -> Array:
        """Multiply a flat vector afresh."""
        self.num_products += 1
        return self._product_of(row)

    def check(self, coefficients: np.ndarray) -> "Checked":
        """Multiply combinations of the rows afresh, such as Ritz vectors; one product each."""
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
        """Check Ritz pairs by one product, with a combination of their vectors with random signs.

        Each S y - value y is coupling y_m q_next, which is known, and what rounding or restarts left unseen, f. With w
        the signed sum of the others, |f + w|^2 and |f - w|^2 have the mean |f|^2 + |w|^2: the length that is measured
        is that of each f at least with a chance of one half, and its square is the sum of all |f|^2 on average.
        """
        rows, tails = self.combine(coefficients), self.coupling * coefficients[-1]
        signs = jax.random.rademacher(key, (len(rows),), rows.dtype)
        scale = len(rows) ** 0.5  # so that the vector that is multiplied has unit length
        product = scale * self.multiply(signs @ rows / scale)
        unseen = product - (signs * values.astype(self.dtype)) @ rows - (signs @ tails.astype(self.dtype)) * self._row
        residuals = np.hypot(tails, float(lengths(unseen)))
        return Checked(values=values, residuals=residuals, vectors=rows, worst=unseen)

    def restart(self, vectors: Array, projected: np.ndarray, next_row: Array | None = None) -> None:
        """Keep some combinations of the rows in their place.

        Args:
          vectors: [r, P], orthonormal; projected: S in them, [r, r].
          next_row: flat vector to go on with; None to go on with the row that the last product left.
        """
        if next_row is None:
            next_row = self._row
        # The next row stays coupled to all that is kept; those inner products come back with its own product.
        for at, block in enumerate(_in_blocks(vectors)):
            self._blocks[at] = block
        self.projected[:] = 0
        self.num_rows = len(vectors)
        self.projected[: self.num_rows, : self.num_rows] = projected
        self._before, self._is_following = jnp.zeros_like(self._row), False
        self._append(next_row)

    def _append(self, vector: Array) -> float:
        """Take a flat vector, made orthogonal to the rows, as the next row; give its length."""
        self._row, length = _orthonormal(tuple(self._blocks), vector, self.num_rows)
        self._write(self.num_rows)
        return float(length)

    def _product_of(self, row: Array) -> Array:
        # Finished before anything else is compiled, which would hold what a product on the host waits for.
        return jax.block_until_ready(_multiply_flat(self.product, self._operator.params, row))

    def _write(self, place: int) -> None:
        at, inside = divmod(place, _ROWS)
        self._blocks[at] = _written(self._blocks[at], self._row, inside) if inside else _opened(self._row)


def check_finite(numbers: np.ndarray) -> None:
    """Refuse products that are not finite.

    Raises: ValueError if a number is not finite.
    """
    if not np.all(np.isfinite(numbers)):
        raise ValueError(
            "the product with a vector is not finite: expected a loss with finite second derivatives at these "
            "params and data; look for overflow in the loss or numbers that are not finite in the data."
        )


def check_symmetric(one: float, other: float, size: float, dtype: np.dtype) -> None:
    """Refuse a matrix with <u, S v> = one and <v, S u> = other for unit vectors u, v, where that is no rounding.

    Args:
      size: the largest |<u, S v>| so far, which rounding is relative to.
    Raises: ValueError if they differ.
    """
    if abs(one - other) > _ASYMMETRY * float(np.finfo(dtype).eps) ** 0.5 * size:
        raise ValueError(
            f"the product is not symmetric: <u, S v> = {one:.6g} and <v, S u> = {other:.6g} for two unit vectors; "
            "expected equal numbers. Measure the symmetric part, (S v + S' v) / 2, or S' S."
        )


def lengths(vectors: Array) -> Array:
    """Compute the l2 norms over the last axis, with no squares that leave the type's range.

    The fourth power of a small curvature is near 1e-20, whose square is zero in 32 bits.
    """
    largest = jnp.max(jnp.abs(vectors), axis=-1, keepdims=True)
    return largest[..., 0] * jnp.linalg.norm(vectors / jnp.where(largest > 0, largest, 1), axis=-1)


def unflatten(params: PyTree, row: Array) -> PyTree:
    """Give a flat vector the structure of params."""
    return ravel_pytree(params)[1](row)


@jax.jit
def unflatten_all(params: PyTree, rows: Array) -> PyTree:
    """Give flat vectors, one a row, the structure of params with a leading axis."""
    return jax.vmap(lambda row: unflatten(params, row))(rows)


@jax.jit
def _residuals(rows: Array, products: Array) -> tuple[Array, Array, Array]:
    values = jnp.sum(rows * products, axis=1) / jnp.sum(rows * rows, axis=1)
    left = products - values[:, None] * rows
    sizes = lengths(left)
    return values, sizes, left[jnp.argmax(sizes)]


def _num_entries(params: PyTree) -> int:
    return sum(leaf.size for leaf in jax.tree.leaves(params))


@jax.jit
def _flat(tree: PyTree) -> Array:
    return ravel_pytree(tree)[0]


def _apply(product: Callable[[PyTree], PyTree], params: PyTree, row: Array) -> Array:
    return _flat(product(unflatten(params, row)))


_multiply_flat = jax.jit(_apply)


@jax.jit
def _extend(
    product: Array, blocks: tuple[Array, ...], row: Array, before: Array, place: Array
) -> tuple[Array, Array, Array]:
    """Take the rows up to a place out of the product with the row there.

    Args:
      before: the row before it where that is coupled to it; else zero.
    Returns: the inner products with each; the unit vector that is left, and its length.
    """
    # The two rows that hold nearly all of it are taken out first: so one pass over all rows is mostly enough.
    here = jnp.vdot(row, product)
    left = product - here * row
    there = jnp.vdot(before, left)
    left = left - there * before
    entries, left, length = _orthogonal(blocks, left, place + 1)
    entries = entries.at[place].add(here).at[jnp.maximum(place - 1, 0)].add(there)
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
    """Take the first rows' part out of a vector: give inner products, what is left, and its length."""
    is_row = (jnp.arange(len(blocks) * _ROWS) < num_rows).astype(vector.dtype)

    # Twice is enough (Giraud, Langou and Rozloznik, 2005): a second pass takes out what rounding left in the first, and
    # what is small after it is small because the vector lies in the span.
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
    """Give the inner products with the first rows, and the vector without their part."""
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
    """Make a block of one row."""
    return jnp.zeros((_ROWS, row.size), row.dtype).at[0].set(row)


@functools.partial(jax.jit, donate_argnames="rows")
def _written(rows: Array, row: Array, place: Array) -> Array:
    return rows.at[place].set(row)


def _in_blocks(vectors: Array) -> list[Array]:
    padded = jnp.pad(vectors, ((0, -len(vectors) % _ROWS), (0, 0)))
    return [padded[at : at + _ROWS] for at in range(0, len(padded), _ROWS)]


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
