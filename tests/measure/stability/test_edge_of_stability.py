import numpy as np
import pytest
from numpy.testing import assert_allclose

from flatwide.measure.stability.edge_of_stability import edge_of_stability, effective_rho


def test_solves_its_equation():
    norm, rate, rho = np.array([1e-6, 0.01, 1.0, 100.0]), 0.3, 0.05
    normalized = edge_of_stability(norm, learning_rate=rate, rho=rho)
    assert_allclose(rate * (normalized + rho * normalized**2 / norm), 2, rtol=1e-14)
    printed = norm / (2 * rho) * (np.sqrt(1 + 8 * rho / (rate * norm)) - 1)
    assert_allclose(normalized, printed, rtol=1e-10)
    unnormalized = edge_of_stability(None, learning_rate=rate, rho=rho)
    assert_allclose(rate * (unnormalized + rho * unnormalized**2), 2, rtol=1e-14)
    assert edge_of_stability(1.0, learning_rate=rate, rho=rho) == unnormalized


def test_numbers_at_the_paper_s_learning_rate():
    found = edge_of_stability(None, learning_rate=0.1, rho=np.array([0, 0.01, 0.02, 0.05, 0.1, 0.2]))
    assert_allclose(found, [20, 17.1, 15.3, 12.4, 10.0, 7.8], atol=0.05)


def test_limits_are_continuous():
    assert edge_of_stability(0.5, learning_rate=0.1, rho=0.0) == 20.0
    assert edge_of_stability(0.0, learning_rate=0.1, rho=0.0) == 20.0
    assert edge_of_stability(0.0, learning_rate=0.1, rho=0.1) == 0.0
    assert_allclose(edge_of_stability(1.0, learning_rate=0.1, rho=1e-300), 20.0, rtol=1e-14)
    # (1 / 2 rho') (sqrt(1 + 8 rho' / eta) - 1) = (2 / eta) (1 - 2 rho' / eta + ...)
    assert_allclose(edge_of_stability(1.0, learning_rate=0.1, rho=1e-9), 20 * (1 - 2e-8), rtol=4e-15)
    assert_allclose(
        edge_of_stability(1e-200, learning_rate=0.1, rho=0.1), np.sqrt(2 * 1e-200 / (0.1 * 0.1)), rtol=1e-12
    )


def test_effective_rho_is_that_of_the_unnormalized_step():
    assert_allclose(effective_rho(0.1, np.array([0.5, 2.0])), [0.2, 0.05])
    assert effective_rho(0.1, 0.0) == np.inf
    assert effective_rho(0.0, 0.0) == 0.0


@pytest.mark.parametrize(
    ("norm", "rate", "rho", "message"),
    [
        (1.0, 0.0, 0.1, "learning_rate=0.0: expected a finite number > 0"),
        (1.0, 0.1, -0.1, "rho=-0.1: expected a finite number >= 0"),
        (-1.0, 0.1, 0.1, "gradient_norm=-1.0: expected finite norms >= 0"),
        (np.nan, 0.1, 0.1, "gradient_norm=nan: expected finite norms >= 0"),
    ],
)
def test_refuses(norm, rate, rho, message):
    with pytest.raises(ValueError, match=message):
        edge_of_stability(norm, learning_rate=rate, rho=rho)
