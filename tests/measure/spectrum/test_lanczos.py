import jax
import numpy as np
from numpy.testing import assert_allclose

from flatwide.measure.spectrum.lanczos import Basis

VALUES = np.r_[[100.0, 90, 80], np.linspace(0, 1, 57)]


def rows(basis: Basis) -> np.ndarray:
    return np.asarray(basis.combine(np.eye(basis.num_rows)))


def test_rows_stay_orthonormal_in_single_precision(of_spectrum):
    operator = of_spectrum(VALUES, np.float32)
    basis = Basis(operator, 40)
    basis.begin_randomly(jax.random.key(0))
    for _ in range(40):
        basis.extend()
    basis_rows = rows(basis)
    assert basis_rows.shape == (40, 60)
    # Without the pass over all rows, copies of the leading vectors reappear after about ten steps.
    assert_allclose(basis_rows @ basis_rows.T, np.eye(40), atol=2e-6)
    matrix = np.asarray(operator.arrays[0], np.float64)
    assert_allclose(basis.projected, basis_rows @ matrix @ basis_rows.T, atol=1e-4)


def test_a_restart_keeps_the_relation(of_spectrum, float64):
    """S Q' = Q' T + (next row) (coupling to each row)'; the next step computes the couplings."""
    operator = of_spectrum(VALUES)
    basis = Basis(operator, 20)
    basis.begin_randomly(jax.random.key(0))
    for _ in range(20):
        basis.extend()
    values, vectors = basis.ritz()
    basis.restart(basis.combine(vectors[:, -9:]), np.diag(values[-9:]))
    for _ in range(10):
        basis.extend()
    basis_rows, (matrix,) = rows(basis), operator.arrays
    assert_allclose(basis_rows @ basis_rows.T, np.eye(19), atol=1e-13)
    assert_allclose(basis.projected[:19, :19], basis_rows @ matrix @ basis_rows.T, atol=1e-11)
    assert basis.num_products == 30


def test_a_check_of_all_together_detects_hidden_residuals(of_spectrum, float64):
    """With an error in the projected matrix, as from rounding or a lost row, some residuals are not known."""
    operator = of_spectrum(VALUES)
    basis = Basis(operator, 20)
    basis.begin_randomly(jax.random.key(0))
    for _ in range(12):
        basis.extend()
    basis.projected[0, 3] = basis.projected[3, 0] = 2.0
    values, vectors = basis.ritz()
    true = basis.check(vectors[:, -3:]).residuals
    assert true.max() > 0.1
    keys = jax.random.split(jax.random.key(1), 60)
    seen = np.array([basis.check_together(vectors[:, -3:], values[-3:], key).residuals.max() for key in keys])
    assert_allclose(np.mean(seen**2), np.sum(true**2), rtol=0.2)
    assert np.mean(seen >= true.max()) >= 0.4
