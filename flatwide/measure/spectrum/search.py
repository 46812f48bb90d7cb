"""The search for the leading eigenvalues: grow a basis, confirm pairs, rule out missed eigenvalues."""

import bisect
import math
from typing import Literal, NamedTuple

import jax
import numpy as np
from jax.flatten_util import ravel_pytree

from flatwide import trees
from flatwide.measure.operators import Operator, random_normal
from flatwide.measure.spectrum.certificate import (
    Krylov,
    edge_needed,
    hidden_beside,
    least_normal_square,
    least_weight,
)
from flatwide.measure.spectrum.lanczos import RETRIES, Basis, Checked, lengths
from flatwide.types import Array, PyTree

Which = Literal["magnitude", "largest", "smallest"]
Check = Literal["each", "together"]
RuleOut = Literal["copies", "distinct", "nothing"]

_LOCKABLE = 0.7  # of the limit: for residuals r of all locked vectors, `edge_needed` leaves 1 - 0.7^2, half of it
_ROUNDED = 1 + 1e-9  # `hidden_beside` inverts `edge_needed` up to rounding in 64 bits
_UNCOUPLED = 0.1  # of the limit: a residual along the next row that more products would not improve
_SLACK = 0.5  # of the limit, before the fresh products, which change values by rounding: they must still be ruled out
_GAPS = 10.0 ** np.linspace(0, 12, 121)  # candidates for hidden_gap, in units of the smallest that rounding allows


class Goal(NamedTuple):
    """The goal of a search, with the arguments of `top_eigenvalues`."""

    k: int
    which: Which
    tolerance: float
    is_relative_to_each: bool
    rule_out: RuleOut
    check: Check
    failure: float  # 1 - certainty

    def rank(self, values: np.ndarray) -> np.ndarray:
        """Compute a key that is larger for the more wanted of two eigenvalues."""
        return {"magnitude": np.abs, "largest": np.positive, "smallest": np.negative}[self.which](values)

    @property
    def sides(self) -> tuple[int, ...]:
        """Return the sides of the spectrum where wanted values are, 1 above and -1 below."""
        return {"magnitude": (1, -1), "largest": (1,), "smallest": (-1,)}[self.which]

    @property
    def skips_copies(self) -> bool:
        """Whether copies of a value are not wanted; with k=1 there are none."""
        return self.k > 1 and self.rule_out == "distinct"

    @property
    def counts_copies(self) -> bool:
        """Whether copies of the values are to be ruled out, which takes more than one random start."""
        return self.k > 1 and self.rule_out == "copies"


class Ritz(NamedTuple):
    """The Ritz pairs of all rows, the most wanted first.

    vectors: [m, m], as columns; errors: [m], bounds of the residuals; tails: [m], residuals along the next row.
    limits: [m], of the residuals; is_settled: [m], whether they are within the limits, or as small as more products can
      make them.
    num_wanted: number of wanted pairs, the first ones; fewer than k if there are no more, or the next ones are copies.
    """

    values: np.ndarray
    vectors: np.ndarray
    errors: np.ndarray
    tails: np.ndarray
    limits: np.ndarray
    is_settled: np.ndarray
    num_wanted: int


class Search:
    """The state of a search, which advances by one product per step.

    The rows of the basis are the locked vectors, followed by those of one Lanczos run orthogonal to them.

    basis: the rows. is_over: whether all wanted pairs are confirmed and others ruled out. scale: the largest magnitude
      of all Ritz values so far.
    """

    def __init__(self, operator: Operator, goal: Goal, key: Array, capacity: int):
        self.basis, self.is_over = Basis(operator, capacity), False
        self._operator, self._goal, self._key = operator, goal, key
        self.scale = 0.0
        self._retries = self._num_reopened = 0
        self._confirmed: Checked | None = None  # k pairs with fresh products; all others are to be ruled out
        # Of the current run:
        self._residuals = np.zeros(0)  # of the locked rows, outside the span of all rows
        self._dropped = np.zeros(0)  # Ritz values that restarts dropped
        self._log_couplings = 0.0
        self._num_runs = 0
        self._start_weight: float | None = None  # t of its random start by failure / j, see `_least_weight`
        self._is_random = False

    def begin(self, start: PyTree | None) -> None:
        """Set the first row: random, or a given start with a random vector added if the run must rule out others.

        Raises: ValueError if the norm of the start is not finite and positive.
        """
        noise = self._random_row()
        if start is None:
            self._begin_run(None)
            self.basis.begin(noise)
            return
        row = ravel_pytree(trees.apply_mask(start, self._operator.mask))[0]
        length = float(lengths(row))
        if not 0 < length < math.inf:
            raise ValueError("start: expected a vector of finite, positive norm.")
        self._begin_run(None)
        if self._goal.rule_out == "nothing":
            self.basis.begin(row)
            return
        mixed = row * (math.sqrt(self._operator.size) / length) + noise
        self._start_weight = 1 / float(lengths(mixed)) ** 2
        self.basis.begin(mixed)

    def step(self) -> None:
        """Compute one product, and advance the search as far as it allows."""
        self.basis.extend()
        coupling = self.basis.coupling
        self._log_couplings += math.log(coupling) if coupling > 0 else -math.inf
        ritz = self._ritz()
        if self.basis.num_rows == self._operator.size:
            self._confirmed, self.is_over = self._check(ritz), True
        elif not self._have_converged(ritz):
            # An invariant space contains each distinct eigenvalue once: other wanted pairs lie outside it.
            if self.basis.has_ended and len(ritz.values) < self._goal.k and not self._goal.skips_copies:
                self._lock(self.basis.combine(ritz.vectors), ritz.values, ritz.errors)
        elif self._confirmed is None or self._has_entered(ritz):
            self._confirm(ritz)
        else:
            self._rule_out()
        if not self.is_over and self.basis.num_rows == self.basis.capacity:
            self._shrink()

    def finish(self) -> tuple[Checked, np.ndarray, float, bool]:
        """Return the pairs, the most wanted first, whether each has converged, the hidden gap, and is_complete."""
        if self._confirmed is None or not self.is_over:  # out of products
            ritz = self._ritz()
            if self._confirmed is None or self._has_entered(ritz):
                self._confirmed = self._check(ritz)
        confirmed = self._confirmed
        order = np.argsort(-self._goal.rank(confirmed.values), kind="stable")
        confirmed = confirmed._replace(
            values=confirmed.values[order], residuals=confirmed.residuals[order], vectors=confirmed.vectors[order]
        )
        limits = self._limits(confirmed.values)
        hidden = self._hidden_gap(confirmed.values, limits)
        is_complete = self.is_over and bool(hidden <= np.min(limits) * _ROUNDED)
        return confirmed, confirmed.residuals <= limits, hidden, is_complete

    # Grow: with full orthogonalization T is the projection of a matrix within rounding errors of S, so that its
    # eigenvalues stay in the range of those of S, and the i-th Ritz value is at most the i-th eigenvalue (Cauchy).

    def _ritz(self) -> Ritz:
        values, vectors = self.basis.ritz()
        self.scale = max(self.scale, float(np.max(np.abs(values))))
        # S y - theta y = beta y_m q_next without locked rows (Paige, 1971); each adds at most its residual.
        tails = self.basis.coupling * np.abs(vectors[-1])
        errors = np.hypot(tails, self._residuals @ np.abs(vectors[: len(self._residuals)]))
        limits = self._limits(values)
        order = np.argsort(-self._goal.rank(values), kind="stable")
        # The contribution of locked rows is an upper bound, which more products do not lower.
        is_settled = (errors <= limits) | (tails <= _UNCOUPLED * limits)
        copies = self._copies(values[order], tails[order], limits[order])
        order = np.concatenate([order[~copies], order[copies]])
        return Ritz(
            values=values[order],
            vectors=vectors[:, order],
            errors=errors[order],
            tails=tails[order],
            is_settled=is_settled[order],
            limits=limits[order],
            num_wanted=min(self._goal.k, int(np.sum(~copies))),
        )

    def _copies(self, values: np.ndarray, tails: np.ndarray, limits: np.ndarray) -> np.ndarray:
        """Whether each value is a copy, to the tolerance, of a converged value before it, if copies are not wanted.

        Rounding produces copies even with full orthogonalization, and so does locking.
        """
        copies = np.zeros(len(values), bool)
        if self._goal.skips_copies:
            for index in range(1, len(values)):
                before = values[:index][(tails <= limits)[:index] & ~copies[:index]]
                copies[index] = np.any(np.abs(before - values[index]) <= limits[index])
        return copies

    def _rounding(self) -> float:
        """Compute the smallest distance between eigenvalues that rounding allows to resolve."""
        return 10 * float(np.finfo(self.basis.dtype).eps) * self.scale

    def _limits(self, values: np.ndarray) -> np.ndarray:
        sizes = np.abs(values) if self._goal.is_relative_to_each else np.full(len(values), self.scale)
        return self._goal.tolerance * sizes

    def _shrink(self) -> None:
        """Keep the locked rows and the best Ritz vectors of the run, whose residuals all lie along the next row.

        The run continues as if its start had been filtered by a polynomial with zeros at the dropped values (Sorensen,
        1992; Wu and Simon, 2000).
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
        wanted = slice(ritz.num_wanted)
        limits = ritz.limits[wanted]
        # If all values of all rows have converged, the rows contain every eigenvalue that the start has a component of.
        if ritz.num_wanted < self._goal.k and not (self._goal.skips_copies and np.all(ritz.tails <= ritz.limits)):
            return False
        if not np.all(ritz.tails[wanted] <= limits):
            return False
        if self._confirmed is not None and not self._has_entered(ritz):
            return True
        lockable = _LOCKABLE * np.min(limits) / 4**self._num_reopened
        if self._goal.counts_copies and not np.linalg.norm(ritz.tails[wanted]) <= lockable:
            return False
        return bool(np.all(ritz.is_settled[wanted]))

    def _confirm(self, ritz: Ritz) -> None:
        """Check converged pairs with fresh products, then start to rule out others; continue if a residual was hidden.

        A run alone finds every distinct eigenvalue and rules out others without locking; it continues until it has.
        """
        is_alone = self._is_random and (self._goal.k == 1 or self._goal.rule_out == "distinct")
        if self._goal.rule_out != "nothing" and is_alone:
            wanted = ritz.values[: ritz.num_wanted]
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
        vectors, values = ritz.vectors[:, : ritz.num_wanted], ritz.values[: ritz.num_wanted]
        if self._goal.check == "each":
            return self.basis.check(vectors)
        return self.basis.check_together(vectors, values, self._next_key())

    def _has_entered(self, ritz: Ritz) -> bool:
        """Whether an eigenvalue that is not confirmed has risen among the wanted ones."""
        assert self._confirmed is not None
        confirmed_ranks = np.sort(self._goal.rank(self._confirmed.values))[::-1]
        if ritz.num_wanted != len(confirmed_ranks):
            return ritz.num_wanted > len(confirmed_ranks)
        wanted = slice(ritz.num_wanted)
        return bool(np.any(self._goal.rank(ritz.values[wanted]) > confirmed_ranks + ritz.limits[wanted]))

    # Rule out: the theorems of certificate.py, for the current run and what is confirmed.

    def _rule_out(self) -> None:
        """End the search if no eigenvalue other than the confirmed ones can be among the wanted ones."""
        assert self._confirmed is not None
        confirmed, values = self._confirmed, self._confirmed.values
        limit = float(np.min(self._limits(values)))
        self.is_over = self._is_ruled_out(values, limit)
        if self.is_over or not self._goal.counts_copies:
            return
        # An eigenvalue that the run has found cannot be ruled out: smaller residuals are needed to exclude it.
        run, _ = self._run()
        least, reached = np.min(self._goal.rank(values)), np.max(self._goal.rank(run.values))
        if reached > least + edge_needed(limit, self._locked_residual()):
            self._num_reopened += 1
            self.is_over = self._num_reopened > RETRIES
            if not self.is_over:
                self._confirmed = None
                self._lock(confirmed.vectors, values, confirmed.residuals, confirmed.worst)

    def _is_ruled_out(self, values: np.ndarray, limit: float) -> bool:
        """Whether no eigenvalue can be missed by more than a limit."""
        residual = self._locked_residual()
        return self._rules_out(values, limit - residual if self._goal.skips_copies else edge_needed(limit, residual))

    def _hidden_gap(self, values: np.ndarray, limits: np.ndarray) -> float:
        """Find the smallest candidate gap, of a grid in steps of about a quarter, beyond which none can be missed."""
        if self._goal.rule_out == "nothing":
            return math.nan
        if self.basis.num_rows == self._operator.size:
            return 0.0
        if not self.scale > 0:
            return 0.0 if self._is_ruled_out(values, 0.0) else math.inf
        residual, rounding = self._locked_residual(), self._rounding()
        gaps = rounding * _GAPS
        if self._goal.skips_copies:
            tried = np.append(gaps, limits - residual)
        else:
            tried = np.concatenate(
                [-gaps if residual else [], gaps, [edge_needed(limit, residual) for limit in limits]]
            )
        # If eigenvalues are ruled out at one distance, they are so at all larger ones.
        tried = np.sort(tried)
        first = bisect.bisect_left(tried, True, key=lambda gap: self._rules_out(values, float(gap)))
        if first == len(tried):
            return math.inf
        gap = float(tried[first])
        return max(rounding, gap + residual if self._goal.skips_copies else hidden_beside(gap, residual))

    def _rules_out(self, values: np.ndarray, gap: float) -> bool:
        """Whether the current run misses no eigenvalue beyond the least value by more than a gap, or between values."""
        goal, num_locked = self._goal, len(self._residuals)
        # Only a run orthogonal to all confirmed vectors shows copies; with k=1, a copy is not another value.
        has_rows = self.basis.num_rows > num_locked
        if not (self._is_random and has_rows) or (goal.counts_copies and num_locked < goal.k):
            return False
        run, _ = self._run()
        if not goal.skips_copies:
            edge, needed = float(np.min(goal.rank(values))) + gap, self._log_needed(len(goal.sides))
            return all(run.rules_out_beyond(side * edge, side, needed) for side in goal.sides)
        needed, least = self._log_needed(goal.k), float(np.min(goal.rank(values)))
        regions = [(side, least) for side in goal.sides]
        if len(values) < goal.k:  # there are no others at all
            regions = [(1, float(np.min(values))), (-1, float(np.min(-values)))]
        return gap >= 0 and all(run.rules_out_beside(values, gap, side, end, needed) for side, end in regions)

    def _locked_residual(self) -> float:
        """Compute a bound of the coupling of the locked vectors to all others."""
        return float(np.linalg.norm(self._residuals))

    def _run(self) -> tuple[Krylov, np.ndarray]:
        """Return the current run and the eigenvectors of its matrix, without the locked rows."""
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
        """Compute log 1/t: each run may fail half as often as the one before, so that the sum is bounded."""
        failure = self._goal.failure / num_events / 2**self._num_runs
        if self._start_weight is not None:
            return -math.log(least_normal_square(failure) * self._start_weight)
        return -math.log(least_weight(self._operator.size - len(self._residuals), failure))

    def _lock(self, vectors: Array, values: np.ndarray, residuals: np.ndarray, next_row: Array | None = None) -> None:
        """Begin a run orthogonal to some vectors, from a random first row unless it is given."""
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
