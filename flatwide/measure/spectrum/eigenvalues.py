"""The leading eigenvalues of a symmetric matrix, with residuals that were checked."""

import math
from numbers import Integral
from typing import Literal, NamedTuple, get_args

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

from flatwide.measure import inputs
from flatwide.measure.operators import Operator, random_normal
from flatwide.measure.spectrum.lanczos import RETRIES, Basis, Checked, unflatten_all
from flatwide.types import Array, PyTree

Which = Literal["magnitude", "largest", "smallest"]

_UNSEEN = 200.0  # a random start has less than 1/200 of its typical part along a direction in one of 250 draws
_HIDDEN = 0.1  # of the limit: a residual along the next row that says nothing of what is left of the others


class Eigenpairs(NamedTuple):
    """Eigenvalues in the order asked for, the most extreme first.

    values: [k], in float64.
    residuals: [k], lengths of S v - value v, by fresh products. Some eigenvalue lies within a residual of each value.
    vectors: k unit eigenvectors, one pytree like params with leading axes of k.
    is_converged: [k], whether the residual is at most the tolerance times the largest |value|.
    num_products: products with S, checks included.
    cost: in Hessian-vector products over the data set.
    is_complete: whether it was ruled out that an eigenvalue is left out; False where max_products ended the search.
    """

    values: np.ndarray
    residuals: np.ndarray
    vectors: PyTree
    is_converged: np.ndarray
    num_products: int
    cost: float
    is_complete: bool


def top_eigenvalues(
    operator: Operator,
    k: int = 1,
    *,
    key: Array,
    which: Which = "magnitude",
    tolerance: float = 1e-4,
    max_products: int = 1000,
    basis_size: int | None = None,
    start: PyTree | None = None,
) -> Eigenpairs:
    """Find the k leading eigenvalues and eigenvectors of a symmetric matrix S.

    Repeated eigenvalues count as often as they repeat. A single starting vector sees each only once, so for k > 1 the
    search is repeated outside of what was found, until a further copy would have shown.

    Args:
      operator: S, of `operator.size` = n rows.
      k: how many, 1 <= k <= n.
      key: PRNG key of the starting vectors; the same key gives the same result.
      which: "magnitude" (largest |value|), "largest" or "smallest" (algebraic).
      tolerance: of the residuals, relative to the largest |value|; at least 10 times the type's rounding error.
      max_products: where to give up, at least 2 k; what is not converged or not complete by then says so.
      basis_size: vectors like params held in memory; None for max(2 k + 20, 40).
      start: first starting vector, such as the result at nearby params; None for a random one.
    Returns: Eigenpairs, values in the unit of S.
    Raises: ValueError if an option is out of range or a product is not finite.
    Cost: tens of products; n + k at most where n is below basis_size. Memory: basis_size vectors.
    Source: Lanczos (1950); full orthogonalization, restarts with Ritz vectors (Wu and Simon, 2000, Thick-restart
      Lanczos); how many products rule out a further copy: the growth of Chebyshev polynomials (Kuczynski and
      Wozniakowski, 1992).
    """
    size, epsilon = operator.size, float(jnp.finfo(jax.tree.leaves(operator.params)[0].dtype).eps)
    if not isinstance(k, Integral) or not 1 <= k <= size:
        raise ValueError(f"k={k}: expected an integer of 1 to {size}, the rows of the matrix (kept parameters).")
    if which not in get_args(Which):
        raise ValueError(f"which={which!r}: expected one of {', '.join(get_args(Which))}.")
    if not tolerance >= 10 * epsilon:
        raise ValueError(
            f"tolerance={tolerance}: expected at least {10 * epsilon:.1e} in this type; use 64-bit params."
        )
    if max_products < 2 * k:
        raise ValueError(f"max_products={max_products}: expected at least 2 k = {2 * k}: k, and a check of each.")
    if start is not None and _shapes(start) != _shapes(operator.params):
        raise ValueError(
            f"start of shapes {_shapes(start)[1]}: expected a vector like params, {_shapes(operator.params)[1]}."
        )
    capacity = min(size, max(2 * k + 20, 40) if basis_size is None else basis_size)
    if capacity < min(size, k + 2):
        raise ValueError(f"basis_size={basis_size}: expected at least k + 2 = {k + 2}.")
    search = _Search(operator, k, inputs.random_key(key), which, tolerance, capacity)
    search.begin(start)
    while not search.is_over and search.basis.num_products + k < max_products:
        search.step()
    return search.finish()


def _shapes(tree: PyTree) -> tuple:
    leaves, structure = jax.tree.flatten(tree)
    return structure, [jnp.shape(leaf) for leaf in leaves]


class _Search:
    """One search: a basis that grows, what was found in it, and for how long a further copy has been looked for."""

    def __init__(self, operator: Operator, k: int, key: Array, which: Which, tolerance: float, capacity: int):
        self.basis, self.is_over = Basis(operator, capacity), False
        self._operator, self._k, self._key, self._which, self._tolerance = operator, k, key, which, tolerance
        self._residuals = np.zeros(0)  # of the rows that were kept from earlier, outside the span of all rows
        self._found: Checked | None = None  # what a further copy is looked for beside
        self._steps, self._retries = 0, 0
        self._lowest, self._size = np.inf, 0.0  # of all Ritz values so far: the lowest rank, the largest magnitude

    def begin(self, start: PyTree | None) -> None:
        if start is None:
            self.basis.begin_randomly(self._next_key())
        else:
            self.basis.begin(start)

    def step(self) -> None:
        basis, k = self.basis, self._k
        basis.extend()
        self._steps += 1
        values, vectors, errors, tails = self._ritz()
        self._size = max(self._size, float(np.max(np.abs(values))))
        limit = self._tolerance * self._size
        self._lowest = min(self._lowest, float(np.min(self._rank(values))))
        if basis.num_rows == self._operator.size:
            self._found, self.is_over = self._check(vectors), True
        elif len(values) >= k and np.all(tails[:k] <= limit):
            if self._found is not None and not self._has_entered(values, limit):
                self.is_over = basis.has_ended or self._is_ruled_out(values, errors, limit)
            # What was kept from earlier bounds the residuals from above only, and more products do not lower it.
            elif np.all(errors[:k] <= limit) or np.all(tails[:k] <= _HIDDEN * limit):
                self._settle(self._check(vectors), limit)
        elif basis.has_ended:
            basis.begin_randomly(self._next_key())
        if not self.is_over and basis.num_rows == basis.capacity:
            self._shrink(values, vectors)

    def finish(self) -> Eigenpairs:
        found = self._found
        if found is None or not self.is_over:  # out of products
            values, vectors, _, _ = self._ritz()
            if found is None or self._has_entered(values, self._tolerance * self._size):
                found = self._check(vectors)
        order = np.argsort(-self._rank(found.values), kind="stable")
        structured = unflatten_all(self._operator.params, found.vectors[order])
        num_products = self.basis.num_products
        residuals = found.residuals[order]
        is_converged = residuals <= self._tolerance * self._size
        cost = num_products * self._operator.cost
        return Eigenpairs(found.values[order], residuals, structured, is_converged, num_products, cost, self.is_over)

    def _ritz(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Give Ritz values, vectors, bounds of their residuals, and these along the next row, the wanted ones first."""
        values, vectors = self.basis.ritz()
        order = np.argsort(-self._rank(values), kind="stable")
        values, vectors = values[order], vectors[:, order]
        kept = self._residuals @ np.abs(vectors[: len(self._residuals)])
        tails = self.basis.coupling * np.abs(vectors[-1])
        return values, vectors, np.hypot(tails, kept), tails

    def _rank(self, values: np.ndarray) -> np.ndarray:
        return {"magnitude": np.abs, "largest": np.positive, "smallest": np.negative}[self._which](values)

    def _check(self, vectors: np.ndarray) -> Checked:
        """Multiply the wanted Ritz vectors afresh."""
        return self.basis.check(vectors[:, : self._k])

    def _settle(self, checked: Checked, limit: float) -> None:
        """Take what has converged, and look for further copies beside it; or go on where rounding hid a residual."""
        is_true = bool(np.all(checked.residuals <= limit)) or self._retries == RETRIES
        self._residuals = checked.residuals
        if not is_true:
            self._retries += 1
            self.basis.restart(checked.vectors, np.diag(checked.values), checked.worst)
            return
        self._found, self._steps, self._retries, self.is_over = checked, 0, 0, self._k == 1
        if not self.is_over:
            self.basis.restart(checked.vectors, np.diag(checked.values), self._random_row())

    def _shrink(self, values: np.ndarray, vectors: np.ndarray) -> None:
        """Keep the best Ritz vectors where the basis is full; all their residuals lie along the next row."""
        num_kept = self._k + (self.basis.capacity - self._k) // 3
        vectors = vectors[:, :num_kept]
        self._residuals = self._residuals @ np.abs(vectors[: len(self._residuals)])
        self.basis.restart(self.basis.combine(vectors), np.diag(values[:num_kept]))

    def _has_entered(self, values: np.ndarray, limit: float) -> bool:
        """Tell whether another eigenvalue has taken a place among the wanted ones."""
        assert self._found is not None
        known = np.sort(self._rank(self._found.values))[::-1]
        return bool(np.any(self._rank(values[: self._k]) > known + limit))

    def _is_ruled_out(self, values: np.ndarray, errors: np.ndarray, limit: float) -> bool:
        """Tell whether a further eigenvalue as extreme as the k-th would have shown in the steps since a random start.

        With e the best Ritz value beside the found ones, no polynomial of the steps' degree may lift the Rayleigh
        quotient of the start above e. The Chebyshev polynomial of [lowest, e] is large at the k-th value, so that the
        start would have to be all but free of the further eigenvector.
        """
        if len(values) <= self._k:
            return False
        ranks = self._rank(values)
        gap = ranks[self._k - 1] - ranks[self._k]
        spread = 2 * ranks[self._k] if self._which == "magnitude" else ranks[self._k] - self._lowest
        if errors[self._k] <= limit:
            return True
        if not gap > 0:
            return False
        needed = math.log(2 * _UNSEEN * math.sqrt(self._operator.size * max(spread / gap, 1e-12)))
        return self._steps > 1 and (self._steps - 1) * math.acosh(1 + 2 * gap / max(spread, 1e-12 * gap)) >= needed

    def _random_row(self) -> Array:
        return ravel_pytree(random_normal(self._operator, self._next_key()))[0]

    def _next_key(self) -> Array:
        self._key, key = jax.random.split(self._key)
        return key
