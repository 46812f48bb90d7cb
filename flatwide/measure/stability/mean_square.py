"""The exact mean square of x+ = J_B x, J_B = I - eta H_B - eta rho H_B^2, for random batches B of given matrices H_i.

C = E x x' follows C+ = T(C) = E J_B C J_B. T is a symmetric map of symmetric matrices, and preserves positive
semidefiniteness; so its spectral radius is its largest eigenvalue, which Krylov vectors from I cannot miss. T is a
polynomial in eta and rho whose coefficients average products of two to four H_i in a batch: sums over the ways in which
their examples may coincide. All computations are in NumPy and float64.
"""

import functools
import math
from collections.abc import Callable, Iterator
from fractions import Fraction
from typing import Any, NamedTuple

import numpy as np

_DENSE = 6  # rows up to which T is computed as a matrix: 21 products, fewer than a search takes
_TOLERANCE = 1e-10  # of T's eigenvalue: far below the 1e-5 that verdicts use, far above rounding in 64 bits
_LOOSE = 1e-7  # if products are expensive: still a hundredth of the 1e-5
# If eigenvalues are clustered as well, where a search for more digits converges slowly; thresholds do without.
_CROWDED = 1e-4
_PAIR_ENTRIES = 2**22  # 32 MiB in 64 bits, a choice: small for any machine
_TABLE_ROWS = 400  # of a symmetric matrix of 27 rows, 378: its table takes 378 products, about as many as the searches
_STEPS = 100  # limit of the search for a threshold, which takes about five


class BatchMoments(NamedTuple):
    """The coefficients of eta^2, eta^2 rho and eta^2 rho^2 in T(C), each [P, P].

    constant: E H_B C H_B; linear: E (H_B C H_B^2 + H_B^2 C H_B); quadratic: E H_B^2 C H_B^2.
    """

    constant: np.ndarray
    linear: np.ndarray
    quadratic: np.ndarray


class MatrixBatches:
    """Random batches of symmetric matrices.

    Args:
      hessians: [n, P, P], symmetric. batch_size: B examples per batch, drawn with or without replacement.
    Attributes: mean, mean_square: E H_B and E H_B^2, [P, P].
    Cost: of `moments`, 3 to 20 times 2 n P^3 floating point operations, and n times 4 n P^3 for 1 < B < n. Up to 27
      rows the maps are computed as matrices at the first call, at the cost of P (P + 1) / 2 such products.
    """

    def __init__(self, hessians: np.ndarray, batch_size: int, *, with_replacement: bool = False):
        self.first = np.asarray(hessians, np.float64)
        num, self.size = self.first.shape[:2]
        self.second = self.first @ self.first
        self.mean, self._square = self.first.mean(axis=0), self.second.mean(axis=0)
        self._weights = {k: coincidences(k, num, batch_size, with_replacement) for k in (2, 3, 4)}
        self._at = (math.nan, self.first)  # the last rho, and H_i + rho H_i^2
        # All H_i H_j, if they fit in memory: one large product is faster than n small ones.
        is_paired = "0101" in self._weights[4] and (num * self.size) ** 2 <= _PAIR_ENTRIES
        self._pairs = (self.first[:, None] @ self.first).reshape(-1, self.size, self.size) if is_paired else None
        self.mean_square = self._sum(2, {"00": lambda: self._square, "01": lambda: self.mean @ self.mean})

    def moments(self, matrix: np.ndarray) -> BatchMoments:
        """Compute the mean products with a symmetric matrix C [P, P] in the middle."""
        if self._table is None:
            return self._averaged(matrix)
        return BatchMoments(*(_from_entries(part, self.size) for part in self._table @ _entries(matrix)))

    def noise(self, matrix: np.ndarray, rho: float) -> np.ndarray:
        """Compute E A_B C A_B, A_B = H_B + rho H_B^2."""
        if self._table is None and set(self._weights[4]) == {"0000"}:  # batches of one example need only one product
            if self._at[0] != rho:
                self._at = (rho, self.first + rho * self.second)
            return _sandwich(self._at[1], matrix, self._at[1])
        parts = self.moments(matrix)
        return parts.constant + rho * parts.linear + rho**2 * parts.quadratic

    @functools.cached_property
    def _table(self) -> np.ndarray | None:
        """Compute the three maps as matrices, [3, d, d], if that takes fewer products than the eigenvalue searches."""
        if self.size * (self.size + 1) // 2 > _TABLE_ROWS:
            return None
        images = [self._averaged(matrix) for matrix in _symmetric_basis(self.size)]
        return np.array([[_entries(part) for part in image] for image in images]).transpose(1, 2, 0)

    def _averaged(self, matrix: np.ndarray) -> BatchMoments:
        mean, square, first, second, pairs = self.mean, self._square, self.first, self.second, self._pairs
        c, twice = matrix, mean @ mean

        def around(x: np.ndarray) -> np.ndarray:
            return _sandwich(first, x, first)

        def alternating() -> np.ndarray:
            if pairs is None:
                return np.mean([h @ around(c @ h) for h in first], axis=0)
            return _sandwich(pairs, c, pairs)

        two_factors = self._sum(2, {"00": lambda: around(c), "01": lambda: mean @ c @ mean})
        three_factors = self._sum(
            3,
            {
                "000": lambda: _sandwich(first, c, second),
                "001": lambda: around(c) @ mean,
                "010": lambda: _sandwich(first, c @ mean, first),
                "011": lambda: mean @ c @ square,
                "012": lambda: mean @ c @ twice,
            },
        )
        four_factors = self._sum(
            4,
            {
                "0000": lambda: _sandwich(second, c, second),
                "0001": lambda: _sandwich(second, c, first) @ mean,
                "0010": lambda: _sandwich(second, c @ mean, first),
                "0100": lambda: _sandwich(first, mean @ c, second),
                "0111": lambda: mean @ _sandwich(first, c, second),
                "0011": lambda: square @ c @ square,
                "0101": alternating,
                "0110": lambda: around(around(c)),
                "0012": lambda: square @ c @ twice,
                "0122": lambda: twice @ c @ square,
                "0102": lambda: _sandwich(first, mean @ c, first) @ mean,
                "0120": lambda: around(mean @ c @ mean),
                "0112": lambda: mean @ around(c) @ mean,
                "0121": lambda: mean @ _sandwich(first, c @ mean, first),
                "0123": lambda: twice @ c @ twice,
            },
        )
        return BatchMoments(_symmetric(two_factors), three_factors + three_factors.T, _symmetric(four_factors))

    def _sum(self, num_factors: int, terms: dict[str, Callable[[], np.ndarray]]) -> np.ndarray:
        return sum(
            (weight * terms[pattern]() for pattern, weight in self._weights[num_factors].items()),
            np.zeros((self.size, self.size)),
        )


def growth(batches: MatrixBatches, learning_rate: float, rho: float) -> tuple[float, np.ndarray]:
    """Compute the asymptotic factor by which E|x|^2 grows in each step, and its eigenvector, the symmetric C [P, P].

    Above 27 rows it is accurate to about 1e-4, since weakly curved directions cluster the eigenvalues below 1;
    `largest_learning_rate` determines stability precisely.
    """
    return _top(batches.size, lambda c: _step(batches, learning_rate, rho, c), loose=_CROWDED)


def largest_learning_rate(batches: MatrixBatches, rho: float) -> float:
    """Find the largest eta at which E|x|^2 is bounded, at a given rho; infinite if it always is, nan for no eta > 0.

    The stable eta are an interval: for eta > 0, T <= 1 is eta E[A_B . A_B] <= E[A_B . + . A_B], linear in eta.
    """
    ratio = _noise_over_drift(batches, rho)
    if ratio is not None:
        return 1 / ratio[0] if ratio[0] > 0 else math.inf

    def coefficients(c: np.ndarray) -> tuple[float, float, float]:
        drift = batches.mean + rho * batches.mean_square
        return 1.0, -2 * _inner(c, drift @ c), _inner(c, batches.noise(c, rho))

    start = _top(batches.size, lambda c: batches.noise(c, rho))[1]
    largest = last_stable(start, lambda rate: growth(batches, rate, rho), coefficients)
    return largest if largest > 0 else math.nan


def largest_rho(batches: MatrixBatches, learning_rate: float) -> float:
    """Find the largest rho >= 0 at which E|x|^2 is bounded, at a given eta; infinite if it always is, nan if never.

    The stable rho are an interval, not always from 0: T is convex in rho, since E[H_B^2 . H_B^2] is semidefinite.
    """

    def coefficients(c: np.ndarray) -> tuple[float, float, float]:
        parts = batches.moments(c)
        constant = 1 - 2 * learning_rate * _inner(c, batches.mean @ c) + learning_rate**2 * _inner(c, parts.constant)
        linear = -2 * learning_rate * _inner(c, batches.mean_square @ c) + learning_rate**2 * _inner(c, parts.linear)
        return constant, linear, learning_rate**2 * _inner(c, parts.quadratic)

    def top(rho: float) -> tuple[float, np.ndarray]:
        ratio = _noise_over_drift(batches, rho)
        return growth(batches, learning_rate, rho) if ratio is None else (learning_rate * ratio[0], ratio[1])

    start = _top(batches.size, lambda c: batches.moments(c).quadratic)[1]
    return last_stable(start, top, coefficients)


def _noise_over_drift(batches: MatrixBatches, rho: float) -> tuple[float, np.ndarray] | None:
    """Find the maximum of <C, E A_B C A_B> / <C, E A_B C + C E A_B>, 1 / eta at the threshold, and its unit C.

    While weakly curved directions cluster the eigenvalues of T below 1, this one is well separated, and takes tens of
    products. None if the drift E A_B is not positive definite.
    """
    drift, turn = np.linalg.eigh(batches.mean + rho * batches.mean_square)
    if drift[0] <= 1e-9 * abs(drift[-1]):  # its square root scales C: below, rounding in 64 bits would dominate it
        return None
    # C -> D C + C D has the eigenvalues d_i + d_j in the eigenbasis of D: its root turns this into a Rayleigh quotient.
    scale = 1 / np.sqrt(drift[:, None] + drift)

    def back(x: np.ndarray) -> np.ndarray:
        return turn @ (scale * x) @ turn.T

    # As for T, the identity in these coordinates: a start to which no semidefinite C is orthogonal.
    start = np.diag(1 / np.diag(scale))
    value, x = _top(
        batches.size, lambda x: scale * (turn.T @ batches.noise(back(x), rho) @ turn), start / np.linalg.norm(start)
    )
    c = _symmetric(back(x))
    return value, c / np.linalg.norm(c)


def last_stable(
    start: np.ndarray,
    top: Callable[[float], tuple[float, np.ndarray]],
    coefficients: Callable[[np.ndarray], tuple[float, float, float]],
    *,
    tolerance: float = 10 * _TOLERANCE,
) -> float:
    """Find the last t >= 0 with lambda_max(S0 + t S1 + t^2 S2) <= 1, if these t are an interval.

    Each eigenvector bounds t by a quadratic; the next one is computed at the bound so far.

    Args:
      start: vector of the first bound, such as the top eigenvector of S2.
      top: t -> lambda_max there and its unit eigenvector.
      coefficients: unit vector v -> (v' S0 v, v' S1 v, v' S2 v).
      tolerance: absolute of lambda_max, and relative of t.
    Returns: t; infinite if there is no last one, nan if there is none at all.
    """
    bound, vector = math.inf, start
    for _ in range(_STEPS):
        root = _last_root(*coefficients(vector))
        if not root < bound:  # at the bound v' S v > 1, so that v allows only larger t: no t remains
            return math.inf if bound == root == math.inf else math.nan
        is_close = bound - root <= tolerance * bound if bound < math.inf else False
        bound = root
        if bound < 0:
            return math.nan
        if is_close:
            return bound
        # lambda_max is the maximum of all such quadratics, so bounds decrease towards the threshold, never below it.
        value, vector = top(bound)
        if value <= 1 + tolerance:
            return bound
    return bound


def coincidences(num_factors: int, num: int, batch_size: int, with_replacement: bool) -> dict[str, float]:
    """Compute the weight of each pattern of equal examples in E of a product of `num_factors` batch means.

    E H_B ... H_B = sum over patterns of weight times the average over all examples, independent for each letter: "010"
    denotes mean_ij H_i H_j H_i. Patterns of weight 0 are omitted. The weights add up to 1.
    """
    weights: dict[str, Fraction] = {}
    for drawn in _patterns(num_factors):  # the positions of the factors' examples in the batch
        blocks = max(drawn) + 1
        share = Fraction(math.perm(batch_size, blocks), batch_size**num_factors)
        if not share:
            continue
        if with_replacement:
            weights[_text(drawn)] = share
            continue
        # Distinct positions hold distinct examples: Moebius inversion turns sums over those into free sums.
        for merged in _patterns(blocks):
            sizes = [merged.count(letter) for letter in range(max(merged) + 1)]
            sign = math.prod((-1) ** (size - 1) * math.factorial(size - 1) for size in sizes)
            free = share * sign * Fraction(num ** len(sizes), math.perm(num, blocks))
            pattern = _text([merged[letter] for letter in drawn])
            weights[pattern] = weights.get(pattern, Fraction(0)) + free
    return {pattern: float(weight) for pattern, weight in weights.items() if weight}


def _patterns(length: int) -> Iterator[list[int]]:
    """Yield the partitions of positions into blocks, which are numbered by their first positions."""
    if length == 0:
        yield []
        return
    for head in _patterns(length - 1):
        for letter in range(max(head, default=-1) + 2):
            yield [*head, letter]


def _text(pattern: list[int]) -> str:
    return "".join(map(str, pattern))


def _step(batches: MatrixBatches, learning_rate: float, rho: float, c: np.ndarray) -> np.ndarray:
    drift = (batches.mean + rho * batches.mean_square) @ c
    return c - learning_rate * (drift + drift.T) + learning_rate**2 * batches.noise(c, rho)


def _top(
    size: int, apply: Callable[[np.ndarray], np.ndarray], start: np.ndarray | None = None, *, loose: float = _LOOSE
) -> tuple[float, np.ndarray]:
    """Find the largest eigenvalue of a map on symmetric matrices, and its eigenvector, of unit norm.

    The start must not be orthogonal to the eigenvector: the identity (None) is not, for a positive map.
    """
    if size <= _DENSE:
        written = np.array([_entries(apply(matrix)) for matrix in _symmetric_basis(size)])
        values, vectors = np.linalg.eigh(_symmetric(written))
        return float(values[-1]), _from_entries(vectors[:, -1], size)
    from scipy.sparse.linalg import LinearOperator, eigsh  # takes a second to import

    def product(flat: np.ndarray) -> np.ndarray:
        return apply(_symmetric(flat.reshape(size, size))).ravel()

    # SciPy's stubs lack the constructor's arguments.
    operator = LinearOperator((size**2, size**2), matvec=product, dtype=np.float64)  # pyright: ignore
    # T preserves semidefiniteness, so its largest eigenvalue has a semidefinite eigenvector (Krein and Rutman, 1948),
    # whose inner product with the identity is its trace: Lanczos from the identity cannot miss it.
    begin = (np.eye(size) / math.sqrt(size) if start is None else start).ravel()
    if not np.any(product(begin)):
        return 0.0, begin.reshape(size, size)
    tolerance = _TOLERANCE if size * (size + 1) // 2 <= _TABLE_ROWS else loose
    options: dict[str, Any] = {"v0": begin, "ncv": 40, "tol": tolerance, "maxiter": 5000}
    values, vectors = eigsh(operator, k=1, which="LA", **options)
    vector = _symmetric(vectors[:, 0].reshape(size, size))
    return float(values[0]), vector / np.linalg.norm(vector)


def _symmetric_basis(size: int) -> np.ndarray:
    """Return an orthonormal basis of the symmetric matrices, [d, size, size]."""
    return np.array([_from_entries(row, size) for row in np.eye(size * (size + 1) // 2)])


def _entries(matrix: np.ndarray) -> np.ndarray:
    """Compute the coordinates of a symmetric matrix in that basis, [d]."""
    rows, columns = np.triu_indices(len(matrix))
    # The root of two preserves inner products, so that a self-adjoint map is a symmetric matrix in these coordinates.
    return matrix[rows, columns] * np.where(rows == columns, 1, math.sqrt(2))


def _from_entries(entries: np.ndarray, size: int) -> np.ndarray:
    rows, columns = np.triu_indices(size)
    matrix = np.zeros((size, size))
    matrix[rows, columns] = matrix[columns, rows] = entries / np.where(rows == columns, 1, math.sqrt(2))
    return matrix


def _sandwich(left: np.ndarray, middle: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Compute the mean of left_i middle right_i over i."""
    num, size, _ = left.shape
    inner = (left.reshape(num * size, size) @ middle).reshape(num, size, size).transpose(1, 0, 2)
    return inner.reshape(size, num * size) @ right.reshape(num * size, size) / num


def _last_root(constant: float, linear: float, square: float) -> float:
    """Find the last t with constant + linear t + square t^2 <= 1: infinite if all large t are, nan if no t is."""
    excess = constant - 1
    if square <= 0:
        if square == 0 and linear == 0:
            return math.inf if excess <= 0 else math.nan
        return -excess / linear if square == 0 and linear > 0 else math.inf
    under = linear**2 - 4 * square * excess
    if under < 0:
        return math.nan
    # First the root without cancellation; the other follows from the product of both, excess / square.
    far = -linear + math.copysign(math.sqrt(under), -linear)
    return far / (2 * square) if linear <= 0 else 2 * excess / far


def _inner(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.vdot(a, b))


def _symmetric(matrix: np.ndarray) -> np.ndarray:
    return (matrix + matrix.T) / 2
