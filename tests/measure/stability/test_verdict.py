import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose

from flatwide import measure
from flatwide.measure.stability.verdict import linear_stability, stability_of_matrices

VECTORS = np.random.default_rng(0).normal(size=(10, 4))
HESSIANS = VECTORS[:, :, None] * VECTORS[:, None, :]


def loss(params, example):
    return jnp.dot(params["x"], example) ** 2 / 2


@pytest.mark.parametrize("batch_size", [1, 4])
def test_verdict_changes_at_the_threshold(batch_size):
    options = {"rho": 0.1, "batch_size": batch_size}
    result = stability_of_matrices(HESSIANS, learning_rate=0.01, **options)
    for factor, verdict in ((0.95, "stable"), (1.05, "unstable")):
        at = stability_of_matrices(HESSIANS, learning_rate=factor * result.largest_learning_rate, **options)
        assert at.verdict == verdict
        assert at.margin == 1 - at.curved_growth
        assert at.growth_interval == (at.curved_growth, at.curved_growth)
        assert_allclose(at.largest_learning_rate, result.largest_learning_rate, rtol=1e-8)
    at = stability_of_matrices(HESSIANS, learning_rate=0.02, rho=result.largest_rho, batch_size=batch_size)
    assert result.gap > 0
    assert_allclose(result.gap, result.largest_learning_rate / result.condition.largest_learning_rate - 1)


def test_a_stable_point_may_break_the_bound_on_s_2_but_not_that_on_the_top_eigenvalue():
    """The bounds on s_k are necessary for the paper's condition, not for stability."""
    factors = np.random.default_rng(0).normal(size=(10, 6, 6))
    hessians = factors @ factors.transpose(0, 2, 1)
    rate = 0.999 * stability_of_matrices(hessians, learning_rate=0.01, rho=0.0).largest_learning_rate
    result = stability_of_matrices(hessians, learning_rate=rate, rho=0.0)
    assert result.verdict == "stable"
    assert not result.condition.is_met
    assert [consequence.is_met for consequence in result.consequences[:2]] == [True, False]


def test_flat_directions_are_separated():
    """Three directions without curvature change neither verdict nor thresholds; the growth is then at least 1."""
    wide = np.zeros((10, 7, 7))
    turn = np.linalg.qr(np.random.default_rng(1).normal(size=(7, 7)))[0]
    wide[:, :4, :4] = HESSIANS
    narrow = stability_of_matrices(HESSIANS, learning_rate=0.05, rho=0.1)
    result = stability_of_matrices(turn @ wide @ turn.T, learning_rate=0.05, rho=0.1)
    assert (result.num_curved, narrow.num_curved) == (4, 4)
    assert_allclose(result.curved_growth, narrow.curved_growth, rtol=1e-9)
    assert_allclose(result.largest_learning_rate, narrow.largest_learning_rate, rtol=1e-9)
    assert_allclose(result.condition, narrow.condition, rtol=1e-9)
    assert result.growth == 1 > narrow.growth == narrow.curved_growth
    assert result.verdict == "stable"
    assert "3 of 7 directions are flat" in result.notes[0]
    assert narrow.notes == ()


def test_no_curvature_is_marginal():
    result = stability_of_matrices(np.zeros((3, 2, 2)), learning_rate=0.1, rho=0.1)
    assert (result.verdict, result.growth, result.curved_growth, result.num_curved) == ("stable", 1.0, 0.0, 0)
    assert result.largest_learning_rate == result.largest_rho == result.condition.largest_rho == math.inf
    assert "no curvature in any direction" in result.notes[0]
    linear = measure.example_problem(lambda params, example: params @ example, np.zeros(300), np.ones((3, 300)))
    assert linear_stability(linear, learning_rate=0.1, rho=0.1, key=0).notes == result.notes


def stability(data, *, learning_rate=0.1, rho=0.1, **options):
    problem = measure.example_problem(loss, {"x": np.zeros(data.shape[1])}, data)
    return linear_stability(problem, learning_rate=learning_rate, rho=rho, key=jax.random.key(0), **options)


def test_saddle_is_named():
    result = stability_of_matrices(np.array([np.diag([2.0, -0.5]), np.diag([1.0, -0.5])]), learning_rate=0.1, rho=0.0)
    assert result.verdict == "unstable"
    assert_allclose(result.growth, 1.05**2)
    assert result.smallest_eigenvalue == -0.5
    assert math.isnan(result.largest_learning_rate)
    assert "eigenvalue -0.5 < 0: params are not at a minimum" in result.notes[0]


def test_loss_of_many_parameters_is_exact_on_its_span():
    wide = np.zeros((10, 200), np.float32)
    wide[:, [3, 50, 120, 199]] = VECTORS
    options = {"learning_rate": 0.05, "rho": 0.1, "batch_size": 2}
    result = stability(wide, max_dimension=10, **options)
    exact = stability_of_matrices(HESSIANS, **options)
    assert result.is_exact
    assert (result.num_curved, result.verdict, result.growth) == (4, "stable", 1.0)
    assert_allclose(result.curved_growth, exact.curved_growth, rtol=1e-5)
    assert_allclose(result.largest_learning_rate, exact.largest_learning_rate, rtol=1e-5)
    assert_allclose(result.largest_rho, exact.largest_rho, rtol=1e-4)
    assert_allclose(result.condition[:2], exact.condition[:2], rtol=1e-4)
    for consequence, expected in zip(result.consequences, exact.consequences, strict=True):
        assert_allclose(consequence.value, expected.value, rtol=1e-4)
        assert consequence.is_met == expected.is_met


def test_larger_problems_are_simulated():
    options = {"learning_rate": 0.4, "rho": 0.05}
    result = stability(VECTORS.astype(np.float32), max_dimension=0, **options)
    exact = stability_of_matrices(HESSIANS, **options)
    assert not result.is_exact
    assert result.verdict == exact.verdict == "unstable"
    low, high = result.growth_interval
    assert low < result.curved_growth < high
    assert abs(result.curved_growth - exact.curved_growth) < 0.03 * exact.curved_growth
    assert math.isnan(result.largest_learning_rate)
    assert_allclose(result.condition.largest_learning_rate, exact.condition.largest_learning_rate, rtol=2e-3)
    assert_allclose(
        [consequence.value for consequence in result.consequences],
        [consequence.value for consequence in exact.consequences],
        rtol=1e-3,
    )
    assert_allclose(result.smallest_eigenvalue, exact.smallest_eigenvalue, rtol=1e-3)
    assert "Simulated" in result.notes[-1]


@pytest.mark.parametrize(
    ("hessians", "options", "message"),
    [
        (np.zeros((3, 2)), {}, r"shape \(3, 2\): expected \[n, P, P\]"),
        (np.full((1, 1, 1), np.nan), {}, "hessians: expected finite numbers"),
        (np.arange(4.0).reshape(1, 2, 2), {}, "expected symmetric matrices"),
        (HESSIANS, {"learning_rate": 0.0}, "learning_rate=0.0: expected a finite number > 0"),
        (HESSIANS, {"rho": -1.0}, "rho=-1.0: expected a finite number >= 0"),
        (
            HESSIANS,
            {"batch_size": 11},
            "batch_size=11: expected 1 to 10, the number of examples; with_replacement=True",
        ),
        (HESSIANS, {"batch_size": 0, "with_replacement": True}, "batch_size=0: expected 1 to 10"),
    ],
)
def test_refuses(hessians, options, message):
    with pytest.raises(ValueError, match=message):
        stability_of_matrices(hessians, **{"learning_rate": 0.1, "rho": 0.1, **options})


@pytest.mark.parametrize(
    ("data", "options", "message"),
    [
        (np.zeros((0, 4)), {}, "data: expected at least one example"),
        (VECTORS, {"max_dimension": -1}, "max_dimension=-1: expected at least 0"),
        (VECTORS, {"batch_size": 20}, "batch_size=20: expected 1 to 10"),
    ],
)
def test_loss_refuses(data, options, message):
    with pytest.raises(ValueError, match=message):
        stability(data, **options)


def test_data_that_is_not_finite_is_refused():
    for options in ({}, {"max_dimension": 2}):
        with pytest.raises(ValueError, match="the product with a vector is not finite"):
            stability(VECTORS * np.nan, **options)
