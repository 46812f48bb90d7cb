"""Bounds on the eigenvalues that a Lanczos run can have missed, from its random start.

A residual shows that some eigenvalue is near a Ritz value. That no eigenvalue is missed is a statement about the start,
since Lanczos never finds an eigenvector that is orthogonal to its start.

**Theorem** (Christoffel). Let mu = sum_i w_i delta(lambda_i) be the spectral measure of a unit start v of a symmetric
S: w_i is the squared length of the part of v in the eigenspace of lambda_i. Lanczos makes the polynomials p_0 ... p_m
that are orthonormal in mu, q_(j+1) = p_j(S) v. Then every eigenvalue has w(lambda) <= 1 / K(lambda), K = sum_j p_j^2.
*Proof.* A unit eigenvector u has <u, q_(j+1)> = p_j(lambda) <u, v>, and the squared inner products with orthonormal
rows add up to at most 1; take u along the part of v in the eigenspace. No further product is needed: p_m takes the
coupling that the m-th product left.

**A random start** is uniform on the sphere in n dimensions, so its squared part along a given unit vector has the
distribution Beta(1/2, (n - 1)/2); along an eigenspace of more dimensions it is larger. With t the quantile of that
for `failure` (near failure^2 pi / 2n), an eigenvalue of the matrix has w >= t but for a chance of `failure`, and so
is at no lambda with K(lambda) > 1/t. The event is about the start alone: it covers every step of the run, and looking
after each product whether to stop costs no certainty. A statement about j eigenvalues (both ends, k
distinct ones) takes failure / j for each.

**Outside the Ritz values** K grows with the distance, because all zeros of all p_j lie between the outermost ones.
So one evaluation at a point rules out everything beyond it. *Between them* p_m^2 alone is used: the logarithm of a
polynomial with real zeros is concave between two of them, so that p_m^2 on an interval without zeros is at least what
it is at an end of it.

**Restarts.** p_m = prod_l (x - theta_l) / prod_j beta_j, theta the Ritz values. A restart that keeps some Ritz
vectors continues with the polynomials of the same measure that have zeros at the values dropped (Sorensen, 1992): its
last one is prod over dropped and current values of (x - theta) / prod over all couplings, and its rows are
orthonormal as before. Since g = (g_1 ... g_m) of the rows solves (lambda - T) g = beta g_next e_m, the sum of squares
is g_next^2 (1 + beta^2 sum_l (y_ml / (lambda - theta_l))^2), y_m the last entries of the eigenvectors of T.

**Locked vectors.** A run that is kept orthogonal to locked vectors V is a run of P S P, P = I - V V', in n - k
dimensions, and rules out eigenvalues of that matrix. S differs from the block-diagonal matrix of A = V' S V and
C = P S P by R = P S V, so by Weyl's inequality its eigenvalues do by at most |R| <= r, the root of the sum of V's
squared residuals. The i-th largest has a sharper bound if C <= c: for t > c the number of eigenvalues of S above
t is that of A + R' (t - C)^-1 R above t (Sylvester's law of inertia for the Schur complement), and so at most that of A
above t - r^2 / (t - c). With a_k the least eigenvalue of A, h = ((c - a_k) + sqrt((c - a_k)^2 + 4 r^2)) / 2 solves
h (a_k + h - c) = r^2, and no more than i - 1 are above a_i + h. At the edge c = a_k + g this is up to g + r; where C
ends far below a_k it is r^2 / (a_k - c). For magnitudes both ends are counted, with -c <= C <= c.

**Rounding.** With full orthogonalization the rows are orthonormal and T is the projection of a matrix within a few
rounding errors of S, so that nothing can be concluded about distances below that. Rounding adds an independent number
to a component of the start; where c is normal and e independent, |c + e| <= s is no more likely than |c| <= s
(Anderson, 1955): so a run continues through the end of an invariant space on rounding errors alone, and what was ruled
out stays so. Without orthogonalization copies of a Ritz value would reappear; each row still has unit length, so that
w <= 1 / max_j p_j^2 would hold in place of the sum.

A warm start s + g with a normal vector g has <u, s + g> = a constant + a standard normal variable, and by the same
theorem is at least as likely to have a component of given size along u as g itself.
"""

import math
from typing import NamedTuple

import numpy as np


def hidden_beside(edge: float, residual: float) -> float:
    """Compute h of locked vectors: how far the i-th eigenvalue can be beyond the i-th locked value.

    Args:
      edge: c - a_k, how far the spectrum outside may extend beyond the least locked value; residual: r.
    """
    root = math.hypot(edge, 2 * residual)
    # The form without cancellation.
    return (edge + root) / 2 if edge > 0 or not residual else 2 * residual**2 / (root - edge)


def edge_needed(limit: float, residual: float) -> float:
    """Compute the edge at which `hidden_beside` is at most a limit."""
    return limit - residual**2 / limit if limit > 0 else limit


def least_weight(size: int, failure: float) -> float:
    """Compute t, the quantile at `failure` of the squared component of a random unit vector along a given one.

    Args:
      size: dimensions n >= 1 of the sphere; failure: in (0, 1).
    """
    from scipy.special import betaincinv  # takes part of a second to import

    return float(betaincinv(0.5, (size - 1) / 2, failure)) if size > 1 else 1.0


def least_normal_square(failure: float) -> float:
    """Compute the quantile at `failure` of the square of a standard normal variable."""
    from scipy.special import gammaincinv

    return 2 * float(gammaincinv(0.5, failure))


class Krylov(NamedTuple):
    """The eigendecomposition of a run's matrix T.

    values: [m] Ritz values, ascending; last: [m], last entries of the eigenvectors; coupling: beta of the next row.
    dropped: Ritz values that restarts dropped. log_couplings: sum of the logarithms of all couplings of the run, -inf
      if the last was zero: the start then lies in the span of the rows, and has no eigenvalues but the Ritz values.
    """

    values: np.ndarray
    last: np.ndarray
    coupling: float
    dropped: np.ndarray
    log_couplings: float

    def log_outside(self, point: float, side: int) -> float:
        """Compute log K at a point above (side 1) or below (side -1) all Ritz values; -inf at other points."""
        zeros = side * np.concatenate([self.values, self.dropped])
        if self.log_couplings == -np.inf:  # the rows span an invariant space exactly
            return np.inf if side * point >= zeros.max() else -np.inf
        if not side * point > zeros.max():
            return -np.inf
        rows = np.sum((self.coupling * self.last / (point - self.values)) ** 2)
        return self.log_between(point) + float(np.log1p(rows))

    def log_between(self, point: float) -> float:
        """Compute log p_m^2 at a point: a lower bound of log K."""
        distances = np.abs(point - np.concatenate([self.values, self.dropped]))
        if not distances.all():
            return -np.inf
        return 2 * float(np.sum(np.log(distances)) - self.log_couplings)

    def rules_out_beyond(self, point: float, side: int, log_needed: float) -> bool:
        """Whether no eigenvalue is at a point or beyond it, on one side."""
        return self.log_outside(point, side) > log_needed

    def rules_out_beside(self, values: np.ndarray, gap: float, side: int, least: float, log_needed: float) -> bool:
        """Whether each eigenvalue above least + gap (both signed by side) is within gap of one of the values."""
        ranks = side * values
        ranks = np.append(np.sort(ranks[ranks >= least])[::-1], least)
        zeros = side * np.concatenate([self.values, self.dropped])
        if not self.rules_out_beyond(side * (ranks[0] + gap), side, log_needed):
            return False
        for low, high in zip(ranks[1:] + gap, ranks[:-1] - gap, strict=True):
            if low >= high or self.rules_out_beyond(side * low, side, log_needed):
                continue
            # Without a zero between them, the minimum of p_m^2 is at one of the ends.
            if np.any((zeros > low) & (zeros < high)):
                return False
            if not min(self.log_between(side * low), self.log_between(side * high)) > log_needed:
                return False
        return True
