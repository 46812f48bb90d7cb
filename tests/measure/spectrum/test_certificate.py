"""The Christoffel function against polynomials written out, exact measures and the distribution of a random start."""

import numpy as np
import pytest
from numpy.testing import assert_allclose

from flatwide.measure.spectrum.certificate import (
    Krylov,
    edge_needed,
    hidden_beside,
    least_normal_square,
    least_weight,
)
from flatwide.measure.spectrum.lanczos import Basis

VALUES = np.r_[3.0, 2.0, np.linspace(-1, 1, 58)]


def test_least_weight_is_a_quantile_of_random_unit_vectors():
    random = np.random.default_rng(0).normal(size=(200_000, 7))
    weights = random[:, 0] ** 2 / np.sum(random**2, axis=1)
    for failure in (0.01, 0.1, 0.5):
        assert np.mean(weights < least_weight(7, failure)) == pytest.approx(failure, rel=0.05)
    # At small probabilities the density of the component along a vector is flat: sqrt(n / 2 pi) around 0.
    assert_allclose(least_weight(266_610, 1e-4), 1e-8 * np.pi / 2 / 266_610, rtol=1e-4)
    assert_allclose(least_weight(2, 0.1), np.sin(0.1 * np.pi / 2) ** 2, rtol=1e-9)
    assert least_weight(1, 1e-4) == 1
    assert np.mean(random[:, 0] ** 2 < least_normal_square(0.1)) == pytest.approx(0.1, rel=0.05)


def krylov(basis: Basis, dropped=(), log_couplings=0.0) -> Krylov:
    values, vectors = basis.ritz()
    return Krylov(values, vectors[-1], basis.coupling, np.asarray(dropped, np.float64), log_couplings)


def grown(operator, start, num_products, restart_at=None):
    """Return a basis grown from a start, and its run; a restart keeps 5 of the Ritz vectors."""
    basis, log_couplings, dropped = Basis(operator, 40), 0.0, np.zeros(0)
    basis.begin(start)
    for row in range(num_products):
        basis.extend()
        log_couplings += np.log(basis.coupling)
        if row + 1 == restart_at:
            values, vectors = basis.ritz()
            dropped = values[:-5]
            basis.restart(basis.combine(vectors[:, -5:]), np.diag(values[-5:]))
    return basis, krylov(basis, dropped, log_couplings)


@pytest.mark.parametrize("restart_at", [None, 7])
def test_k_is_the_sum_of_squares_of_the_rows_relative_to_the_start(restart_at, of_spectrum, float64):
    """The rows' components along an eigenvector are p_j times that of the start, which is known: an exact oracle."""
    operator = of_spectrum(VALUES)
    matrix = np.asarray(operator.arrays[0])
    true, vectors = np.linalg.eigh(matrix)
    start = np.random.default_rng(1).normal(size=60)
    start /= np.linalg.norm(start)
    # The largest eigenvalue is nearly absent, so that no Ritz value has come near it.
    start -= vectors[:, -1] * (vectors[:, -1] @ start - 1e-9)
    start /= np.linalg.norm(start)
    basis, run = grown(operator, start, 10, restart_at)
    rows = np.asarray(basis.combine(np.eye(basis.num_rows)))
    parts = np.append(rows @ vectors[:, -1], np.asarray(basis._row) @ vectors[:, -1])
    expected = np.sum(parts**2) / (start @ vectors[:, -1]) ** 2
    assert true[-1] > run.values.max() + 0.5
    assert_allclose(np.exp(run.log_outside(true[-1], 1)), expected, rtol=1e-5)
    assert_allclose(np.exp(run.log_between(true[-1])), parts[-1] ** 2 / (start @ vectors[:, -1]) ** 2, rtol=1e-5)


def test_no_eigenvalue_has_more_weight_than_the_bound(of_spectrum, float64):
    operator = of_spectrum(VALUES)
    true, vectors = np.linalg.eigh(np.asarray(operator.arrays[0]))
    for seed in range(5):
        start = np.random.default_rng(seed).normal(size=60)
        _, run = grown(operator, start / np.linalg.norm(start), 10, 7)
        weights = (vectors.T @ start) ** 2 / np.sum(start**2)
        bounds = [-max(run.log_outside(x, 1), run.log_outside(x, -1), run.log_between(x)) for x in true]
        assert np.all(np.log(weights) <= np.array(bounds) + 1e-9)
        outside = [run.log_outside(run.values.max() + beyond, 1) for beyond in np.linspace(0, 3, 50)]
        assert np.all(np.diff(outside[1:]) > 0)
        assert outside[0] == -np.inf
        # A point above all Ritz values rules out nothing below it.
        assert run.log_outside(run.values.max() + 1, -1) == -np.inf


def test_between_values_a_missing_eigenvalue_of_the_other_sign_is_not_ruled_out(of_spectrum, float64):
    operator = of_spectrum(np.r_[3.0, -3, 2, np.linspace(-1, 1, 57)])
    _, vectors = np.linalg.eigh(np.asarray(operator.arrays[0]))
    start = np.random.default_rng(1).normal(size=60)
    missing = start - vectors[:, 0] * (vectors[:, 0] @ start - 1e-9)
    for vector, has_all in ((start, True), (missing, False)):
        _, run = grown(operator, vector / np.linalg.norm(vector), 18)
        values = run.values[np.argsort(-np.abs(run.values))][:3] if has_all else run.values[[-1, -2]]
        assert run.rules_out_beside(values, 0.01, 1, 2, 20)
        assert run.rules_out_beside(values, 0.01, -1, 2, 20) == has_all


def test_how_far_what_is_outside_can_raise_locked_values():
    random = np.random.default_rng(0)
    closest = 0.0
    for _ in range(300):
        locked = np.sort(random.uniform(1, 1.2, 3))[::-1]
        edge = random.choice([-0.5, -0.1, -0.01, 0, 0.02])
        couplings = random.choice([1e-3, 0.05]) * random.normal(size=(6, 3)) * random.choice([0, 1], size=(6, 3))
        outside = locked[-1] + edge - random.choice([0, 1], 6) * random.uniform(size=6)
        true = np.linalg.eigvalsh(np.block([[np.diag(locked), couplings.T], [couplings, np.diag(outside)]]))[::-1]
        hidden = hidden_beside(edge, np.linalg.norm(couplings))
        assert np.all(true[:3] <= locked + hidden + 1e-12)
        closest = max(closest, np.max((true[:3] - locked)[hidden > 0] / max(hidden, 1e-12), initial=0))
    assert closest > 0.5  # the bound is nearly attained
    for residual in (0, 1e-4, 0.3):
        assert_allclose(hidden_beside(edge_needed(0.1, residual), residual), 0.1, rtol=1e-12)
