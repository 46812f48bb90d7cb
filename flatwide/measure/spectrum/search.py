"""The search for the leading eigenvalues: grow a basis, confirm pairs, rule out that others are left out."""

import math
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

from flatwide.measure.operators import Operator, project, random_normal
from flatwide.measure.spectrum.certificate import Krylov, least_normal_square, least_weight
from flatwide.measure.spectrum.lanczos import RETRIES, Basis, Checked, lengths
from flatwide.types import Array, PyTree

Which = Literal["magnitude", "largest", "smallest"]
Check = Literal["each", "together"]
RuleOut = Literal["copies", "distinct", "nothing"]

_UNCOUPLED = 0.1  # of the limit: a residual along the next row that says nothing of what is left of the others
_SLACK = 0.5  # of the limit, before the fresh products: they move a value by rounding, and it must still be ruled out
_GAPS = 10.0 ** np.linspace(0, 12, 121)  # times the smallest gap that rounding allows: what is tried as hidden_gap


class Goal(NamedTuple):
    """What is looked for, as the arguments of `top_eigenvalues`."""

    k: int
    which: Which
    tolerance: float
    is_relative_to_each: bool
    rule_out: RuleOut
    check: Check
    failure: float  # 1 - certainty

    def rank(self, values: np.ndarray) -> np.ndarray:
        """Compute what is larger for the more wanted of two eigenvalues."""
        return {"magnitude": np.abs, "largest": np.positive, "smallest": np.negative}[self.which](values)

    def points(self, ranks: np.ndarray) -> np.ndarray:
        """List the points of given rank, [ends, ...]: of a magnitude there are two."""
        return np.stack({"magnitude": (ranks, -ranks), "largest": (ranks,), "smallest": (-ranks,)}[self.which])


class Ritz(NamedTuple):
    """The Ritz pairs of all rows, the most wanted first.

    vectors: [m, m], a column each; errors: [m], bounds of the residuals; tails: [m], residuals along the next row.
    limits: [m], what the residuals may be.
    """

    values: np.ndarray
    vectors: np.ndarray
    errors: np.ndarray
    tails: np.ndarray
    limits: np.ndarray


class Search:
    """One search, a product at a time.

    The rows of the basis are those of locked vectors first, then those of one run of Lanczos outside of them.

    basis: the rows. is_over: whether everything asked for is confirmed and ruled out. scale: the largest magnitude of
      all Ritz values so far.
    """

    def __init__(self, operator: Operator, goal: Goal, key: Array, capacity: int):
        self.basis, self.is_over = Basis(operator, capacity), False
        self._operator, self._goal, self._key = operator, goal, key
        self.scale = 0.0
        self._retries = 0
        self._confirmed: Checked | None = None  # k pairs with fresh products, beside which others are ruled out
        # Of the current run:
        self._residuals = np.zeros(0)  # of the locked rows, outside of the span of all rows
        self._dropped = np.zeros(0)  # Ritz values that restarts dropped
        self._log_couplings = 0.0
        self._num_runs = 0
        self._start_weight: float | None = None  # t of its random start by failure / j, see `_least_weight`
        self._is_random = False

    def begin(self, start: PyTree | None) -> None:
        """Take the first row: random, or a given start, mixed with as much that is random where it must rule out.

        Raises: ValueError if the start has no finite, positive length.
        """
        noise = self._random_row()
        if start is None:
            self._begin_run(None)
            self.basis.begin(noise)
            return
        row = ravel_pytree(project(self._operator, start))[0]
        length = float(lengths(row))
        if not 0 < length < math.inf:
            raise ValueError("start: expected a vector of finite, positive length.")
        self._begin_run(None)
        if self._goal.rule_out == "nothing":
            self.basis.begin(row)
            return
        mixed = row * (math.sqrt(self._operator.size) / length) + noise
        self._start_weight = 1 / float(lengths(mixed)) ** 2
        self.basis.begin(mixed)

    def step(self) -> None:
        """Take one product, and do what it makes possible."""
        ritz = self._grow()
        if self.basis.num_rows == self._operator.size:
            self._confirmed, self.is_over = self._check(ritz), True
        elif not self._have_converged(ritz):
            # An invariant space holds each distinct eigenvalue once: what else is wanted lies outside of it.
            if self.basis.has_ended and len(ritz.values) < self._goal.k:
                self._lock(self.basis.combine(ritz.vectors), ritz.values, ritz.errors)
        elif self._confirmed is None or self._has_entered(ritz):
            self._confirm(ritz)
        else:
            self._rule_out()
        if not self.is_over and self.basis.num_rows == self.basis.capacity:
            self._shrink()

    def finish(self) -> tuple[Checked, np.ndarray, float, bool]:
        """Return the pairs, the most wanted first, which have converged, the hidden gap and whether it is complete."""
        if self._confirmed is None or not self.is_over:  # out of products
            ritz = self._ritz()
            if self._confirmed is None or self._has_entered(ritz):
                self._confirmed = self._check(ritz)
        found = self._confirmed
        order = np.argsort(-self._goal.rank(found.values), kind="stable")
        found = found._replace(
            values=found.values[order], residuals=found.residuals[order], vectors=found.vectors[order]
        )
        limits = self._limits(found.values)
        hidden = self._hidden_gap(found.values, limits)
        is_complete = self.is_over and bool(hidden <= np.min(limits))
        return found, found.residuals <= limits, hidden, is_complete

    # Grow: full orthogonalization keeps the projected matrix that of a matrix within rounding errors of S, so that its
    # eigenvalues never leave the range of S's, and the i-th Ritz value is at most the i-th eigenvalue (Cauchy).

    def _grow(self) -> Ritz:
        self.basis.extend()
        coupling = self.basis.coupling
        self._log_couplings += math.log(coupling) if coupling > 0 else -math.inf
        ritz = self._ritz()
        self.scale = max(self.scale, float(np.max(np.abs(ritz.values))))
        return ritz._replace(limits=self._limits(ritz.values))

    def _ritz(self) -> Ritz:
        values, vectors = self.basis.ritz()
        order = np.argsort(-self._goal.rank(values), kind="stable")
        values, vectors = values[order], vectors[:, order]
        # S y - theta y = beta y_m q_next for a run alone (Paige, 1971); a locked row adds at most its own residual.
        locked = self._residuals @ np.abs(vectors[: len(self._residuals)])
        tails = self.basis.coupling * np.abs(vectors[-1])
        return Ritz(
            values=values, vectors=vectors, errors=np.hypot(tails, locked), tails=tails, limits=self._limits(values)
        )

    def _limits(self, values: np.ndarray) -> np.ndarray:
        sizes = np.abs(values) if self._goal.is_relative_to_each else np.full(len(values), self.scale)
        return self._goal.tolerance * sizes

    def _shrink(self) -> None:
        """Keep the locked rows and the best Ritz vectors of the run, whose residuals all lie along the next row.

        The run goes on as if it had filtered its start by a polynomial with zeros at what is dropped (Sorensen, 1992;
        Wu and Simon, 2000).
        """
        num_locked, k = len(self._residuals), self._goal.k
        run, vectors = self._run()
        order = np.argsort(-self._goal.rank(run.values), kind="stable")
        capacity = self.basis.capacity
        num_kept = (k if num_locked < k else 1) + (capacity - max(num_locked, k)) // 3
        num_kept = min(num_kept, capacity - num_locked - 1)
        kept, dropped = order[:num_kept], order[num_kept:]
        self._dropped = np.append(self._dropped, run.values[dropped])
        change = np.zeros((self.basis.num_rows, num_locked + len(kept)))
        change[:num_locked, :num_locked] = np.eye(num_locked)
        change[num_locked:, num_locked:] = vectors[:, kept]
        matrix = self.basis.projected[: self.basis.num_rows, : self.basis.num_rows]
        self.basis.restart(self.basis.combine(change), change.T @ matrix @ change)

    # Confirm: a residual r of a unit vector with Rayleigh quotient theta puts an eigenvalue within r of theta (Weyl).

    def _have_converged(self, ritz: Ritz) -> bool:
        k = self._goal.k
        limits = ritz.limits[:k]
        if len(ritz.values) < k or not np.all(ritz.tails[:k] <= limits):
            return False
        if self._confirmed is not None and not self._has_entered(ritz):
            return True
        # Locked rows bound the residuals from above only, and more products do not lower that.
        return bool(np.all(ritz.errors[:k] <= limits) or np.all(ritz.tails[:k] <= _UNCOUPLED * limits))

    def _confirm(self, ritz: Ritz) -> None:
        """Take what has converged by fresh products, and begin to rule out others beside; or go on where rounding hid.

        One run sees every distinct eigenvalue and rules out itself, without locking; it goes on until it has.
        """
        is_alone = self._is_random and (self._goal.k == 1 or self._goal.rule_out == "distinct")
        if self._goal.rule_out != "nothing" and is_alone:
            wanted = ritz.values[: self._goal.k]
            if not self._is_ruled_out(wanted, _SLACK * float(np.min(self._limits(wanted)))):
                return
        checked = self._check(ritz)
        limits = self._limits(checked.values)
        if np.any(checked.residuals > limits) and self._retries < RETRIES:
            self._retries += 1
            self._lock(checked.vectors, checked.values, checked.residuals, checked.worst)
            return
        self._confirmed, self._retries = checked, 0
        self.is_over = self._goal.rule_out == "nothing" or (
            is_alone and self._is_ruled_out(checked.values, float(np.min(limits)))
        )
        if not self.is_over:
            self._lock(checked.vectors, checked.values, checked.residuals)

    def _check(self, ritz: Ritz) -> Checked:
        vectors, values = ritz.vectors[:, : self._goal.k], ritz.values[: self._goal.k]
        if self._goal.check == "each":
            return self.basis.check(vectors)
        return self.basis.check_together(vectors, values, self._next_key())

    def _has_entered(self, ritz: Ritz) -> bool:
        """Whether an eigenvalue that is not confirmed has risen among the wanted ones."""
        assert self._confirmed is not None
        known = np.sort(self._goal.rank(self._confirmed.values))[::-1]
        return bool(np.any(self._goal.rank(ritz.values[: self._goal.k]) > known + ritz.limits[: self._goal.k]))

    # Rule out: the theorem of certificate.py, for the current run and what is confirmed.

    def _rule_out(self) -> None:
        """End the search where nothing outside of the confirmed vectors can be among the wanted."""
        assert self._confirmed is not None
        limits = self._limits(self._confirmed.values)
        self.is_over = self._is_ruled_out(self._confirmed.values, float(np.min(limits)))

    def _is_ruled_out(self, values: np.ndarray, gap: float) -> bool:
        return bool(self._rules_out(values, np.array([gap]))[0])

    def _hidden_gap(self, values: np.ndarray, limits: np.ndarray) -> float:
        """Find the smallest distance that is ruled out, of those that rounding allows, a quarter apart."""
        if self._goal.rule_out == "nothing":
            return math.nan
        if self.basis.num_rows == self._operator.size:
            return 0.0
        if not self.scale > 0:
            return 0.0 if self._is_ruled_out(values, 0.0) else math.inf
        floor = 10 * float(np.finfo(self.basis.dtype).eps) * self.scale
        gaps = np.sort(np.append(floor * _GAPS, limits[limits >= floor]))
        is_ruled_out = self._rules_out(values, gaps)
        return float(gaps[np.argmax(is_ruled_out)]) if np.any(is_ruled_out) else math.inf

    def _rules_out(self, values: np.ndarray, gaps: np.ndarray) -> np.ndarray:
        """Whether nothing is left out by more than each gap, [G]: beyond the least wanted value or between values."""
        goal, num_locked = self._goal, len(self._residuals)
        # Copies are seen outside of all that is confirmed only; where one value is wanted, a copy of it is no other.
        has_rows = self.basis.num_rows > num_locked
        if not (self._is_random and has_rows) or (goal.k > 1 and goal.rule_out == "copies" and num_locked < goal.k):
            return np.zeros(len(gaps), bool)
        run, _ = self._run()
        ranks = np.sort(goal.rank(values))[::-1]
        if run.is_invariant:
            return ranks[-1] + gaps >= np.max(goal.rank(run.values))
        if goal.k == 1 or num_locked >= goal.k:
            logs = run.log_outside(goal.points(ranks[-1] + gaps))
            return np.all(logs > self._log_needed(len(logs)), axis=0)
        return self._rules_out_between(run, ranks, gaps)

    def _rules_out_between(self, run: Krylov, ranks: np.ndarray, gaps: np.ndarray) -> np.ndarray:
        """Whether each of the k leading distinct eigenvalues is within each gap of a value, or below them all."""
        above, below = ranks[:, None] + gaps, ranks[:, None] - gaps
        needed = self._log_needed(self._goal.k)
        is_seen = {}
        for name, at in {"above": above, "below": below}.items():
            points = self._goal.points(at)
            is_seen[name] = np.all(np.maximum(run.log_outside(points), run.log_between(points)) > needed, axis=0)
        # Between two neighbours further apart than two gaps, both ends of what lies between must be ruled out.
        is_apart = above[1:] < below[:-1]
        return is_seen["above"][0] & np.all(~is_apart | (is_seen["above"][1:] & is_seen["below"][:-1]), axis=0)

    def _run(self) -> tuple[Krylov, np.ndarray]:
        """Return the current run and the eigenvectors of its matrix, outside of the locked rows."""
        first, last = len(self._residuals), self.basis.num_rows
        values, vectors = np.linalg.eigh(self.basis.projected[first:last, first:last])
        return Krylov(
            values=values,
            last=vectors[-1],
            coupling=self.basis.coupling,
            dropped=self._dropped,
            log_couplings=self._log_couplings,
        ), vectors

    def _log_needed(self, num_events: int) -> float:
        """Compute log 1/t: each run may fail half as often as the one before, so that all together stay within."""
        failure = self._goal.failure / num_events / 2**self._num_runs
        if self._start_weight is not None:
            return -math.log(least_normal_square(failure) * self._start_weight)
        return -math.log(least_weight(self._operator.size - len(self._residuals), failure))

    def _lock(self, vectors: Array, values: np.ndarray, residuals: np.ndarray, next_row: Array | None = None) -> None:
        """Begin a run outside of some vectors, random unless its first row is given."""
        self._begin_run(residuals, is_random=next_row is None)
        self.basis.restart(vectors, np.diag(values), self._random_row() if next_row is None else next_row)

    def _begin_run(self, residuals: np.ndarray | None, *, is_random: bool = True) -> None:
        self._residuals = np.zeros(0) if residuals is None else residuals
        self._dropped, self._log_couplings = np.zeros(0), 0.0
        self._num_runs += 1
        self._start_weight, self._is_random = None, is_random

    def _random_row(self) -> Array:
        return ravel_pytree(random_normal(self._operator, self._next_key()))[0]

    def _next_key(self) -> Array:
        self._key, key = jax.random.split(self._key)
        return key


def shapes(tree: PyTree) -> tuple:
    """Return the structure and the shapes of a pytree."""
    leaves, structure = jax.tree.flatten(tree)
    return structure, [jnp.shape(leaf) for leaf in leaves]
