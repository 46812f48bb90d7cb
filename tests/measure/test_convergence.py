import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy import optimize

from flatwide.measure.convergence import convergence_bound


def test_the_best_learning_rate_has_the_least_factor():
    options = {"smoothness": 5.0, "pl_constant": 0.4, "loss_smoothness": 2.0, "rho": 0.003, "batch_size": 16}
    bound = convergence_bound(**options)
    least = optimize.minimize_scalar(
        lambda eta: convergence_bound(learning_rate=eta, **options).factor, bounds=(1e-6, 10), method="bounded"
    )
    assert_allclose(bound.best_factor, least.fun, rtol=1e-9)
    assert_allclose(bound.best_learning_rate, least.x, rtol=1e-4)
    kappa, gain = bound.kappa, 1 - (bound.kappa + 0.5) * 5 * 0.003
    assert_allclose(kappa, (15 / 2 + 5 / 0.4) / 16)
    assert_allclose(bound.best_factor, 1 - 0.4 * bound.best_learning_rate / 2 * gain, rtol=1e-12)
    assert_allclose(bound.rate, -np.log(bound.factor))
    assert bound.is_admissible


def test_without_rho_it_is_the_known_rate_of_sgd_and_for_single_examples_the_papers_form():
    alpha, beta, smooth, rho = 0.4, 5.0, 2.0, 0.01
    sgd = convergence_bound(smoothness=beta, pl_constant=alpha, loss_smoothness=smooth, batch_size=4)
    assert_allclose(sgd.best_learning_rate, 1 / (2 * smooth * sgd.kappa))
    assert_allclose(sgd.best_factor, 1 - alpha / (4 * smooth * sgd.kappa))
    single = convergence_bound(smoothness=beta, pl_constant=alpha, loss_smoothness=smooth, rho=rho)
    gain = alpha - (beta + alpha / 2) * beta * rho
    assert_allclose(single.best_learning_rate, gain / (2 * smooth * beta * (beta * rho + 1) ** 2))
    assert_allclose(single.best_factor, 1 - gain * single.best_learning_rate / 2)
    sgd = convergence_bound(smoothness=beta, pl_constant=alpha, loss_smoothness=smooth)
    assert single.best_factor > sgd.best_factor


def test_one_step_of_sam_on_least_squares_satisfies_the_bound():
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(12, 3))
    hessian = rows.T @ rows / 12
    values = np.linalg.eigvalsh(hessian)
    constants = {
        "smoothness": np.max(np.sum(rows**2, axis=1)),
        "pl_constant": 2 * values[0],
        "loss_smoothness": values[-1],
    }
    rho = convergence_bound(**constants).largest_rho / 2
    bound = convergence_bound(rho=rho, **constants)
    assert bound.is_admissible
    for _ in range(50):
        x = rng.normal(size=3)
        after = []
        for row in rows:
            ascended = x + rho * row * (row @ x)
            moved = x - bound.learning_rate * row * (row @ ascended)
            after.append(moved @ hessian @ moved / 2)
        assert np.mean(after) <= bound.factor * (x @ hessian @ x / 2)


def test_the_largest_rho_is_where_single_examples_stop_gaining():
    constants = {"smoothness": 5.0, "pl_constant": 0.4}
    edge = convergence_bound(**constants).largest_rho
    assert convergence_bound(rho=0.99 * edge, **constants).is_admissible
    beyond = convergence_bound(rho=1.01 * edge, **constants)
    assert not beyond.is_admissible
    assert np.isnan(beyond.best_learning_rate)
    assert not convergence_bound(learning_rate=10.0, **constants).is_admissible


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"smoothness": -1.0}, r"smoothness=-1.0: expected a finite number > 0"),
        ({"pl_constant": 0.0}, r"pl_constant=0.0: expected a finite number > 0"),
        ({"learning_rate": 0.0}, r"learning_rate=0.0: expected a finite number > 0"),
        ({"rho": -0.1}, r"rho=-0.1: expected a finite number >= 0"),
        ({"batch_size": 0}, r"batch_size=0: expected at least 1"),
    ],
)
def test_numbers_out_of_range_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        convergence_bound(**{"smoothness": 1.0, "pl_constant": 1.0, **options})
