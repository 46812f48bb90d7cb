import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose

from flatwide.measure.stability.verdict import linear_stability, stability_of_matrices

VECTORS = np.random.default_rng(0).normal(size=(10, 4))
HESSIANS = VECTORS[:, :, None] * VECTORS[:, None, :]


def loss(params, example):
    return jnp.dot(params["x"], example) ** 2 / 2


def paths(hessians, learning_rate, rho, batch_size, num_steps, seed=0):
    """Run the linear steps of 4,000 independent paths, and give the mean of |x|^2."""
    generator = np.random.default_rng(seed)
    x = generator.normal(size=(4000, hessians.shape[1]))
    for _ in range(num_steps):
        places = np.argsort(generator.random((len(x), len(hessians))), axis=1)[:, :batch_size]
        mean = hessians[places].mean(axis=1)
        once = np.einsum("npq,nq->np", mean, x)
        x = x - learning_rate * (once + rho * np.einsum("npq,nq->np", mean, once))
    return np.mean(np.sum(x**2, axis=1))


@pytest.mark.parametrize("batch_size", [1, 4])
def test_steps_inside_the_paper_s_region_shrink(batch_size):
    found = stability_of_matrices(HESSIANS, learning_rate=0.01, rho=0.1, batch_size=batch_size)
    rate = 0.99 * found.condition.largest_learning_rate
    assert stability_of_matrices(HESSIANS, learning_rate=rate, rho=0.1, batch_size=batch_size).verdict == "stable"
    assert paths(HESSIANS, rate, 0.1, batch_size, 50) < paths(HESSIANS, rate, 0.1, batch_size, 0)


@pytest.mark.parametrize("batch_size", [1, 4])
def test_verdict_changes_at_the_threshold(batch_size):
    options = {"rho": 0.1, "batch_size": batch_size}
    found = stability_of_matrices(HESSIANS, learning_rate=0.01, **options)
    for factor, verdict in ((0.95, "stable"), (1.05, "unstable")):
        at = stability_of_matrices(HESSIANS, learning_rate=factor * found.largest_learning_rate, **options)
        assert at.verdict == verdict
        assert at.margin == 1 - at.curved_growth
        assert at.growth_interval == (at.curved_growth, at.curved_growth)
        assert_allclose(at.largest_learning_rate, found.largest_learning_rate, rtol=1e-8)
    at = stability_of_matrices(HESSIANS, learning_rate=0.02, rho=found.largest_rho, batch_size=batch_size)
    assert found.gap > 0
    assert_allclose(found.gap, found.largest_learning_rate / found.condition.largest_learning_rate - 1)


def test_a_stable_point_may_break_the_bound_on_s_2_but_not_that_on_the_top_eigenvalue():
    """The bounds on s_k are necessary for the paper's condition, not for stability."""
    factors = np.random.default_rng(0).normal(size=(10, 6, 6))
    hessians = factors @ factors.transpose(0, 2, 1)
    rate = 0.999 * stability_of_matrices(hessians, learning_rate=0.01, rho=0.0).largest_learning_rate
    found = stability_of_matrices(hessians, learning_rate=rate, rho=0.0)
    assert found.verdict == "stable"
    assert not found.condition.is_met
    assert [one.is_met for one in found.consequences[:2]] == [True, False]


def test_flat_directions_are_told_apart():
    """Three rows that nothing acts on change neither verdict nor thresholds; the growth is then at least 1."""
    wide = np.zeros((10, 7, 7))
    turn = np.linalg.qr(np.random.default_rng(1).normal(size=(7, 7)))[0]
    wide[:, :4, :4] = HESSIANS
    narrow = stability_of_matrices(HESSIANS, learning_rate=0.05, rho=0.1)
    found = stability_of_matrices(turn @ wide @ turn.T, learning_rate=0.05, rho=0.1)
    assert (found.num_curved, narrow.num_curved) == (4, 4)
    assert_allclose(found.curved_growth, narrow.curved_growth, rtol=1e-9)
    assert_allclose(found.largest_learning_rate, narrow.largest_learning_rate, rtol=1e-9)
    assert_allclose(found.condition, narrow.condition, rtol=1e-9)
    assert found.growth == 1 > narrow.growth == narrow.curved_growth
    assert found.verdict == "stable"
    assert "3 of 7 directions are flat" in found.notes[0]
    assert narrow.notes == ()


def test_no_curvature_is_marginal():
    found = stability_of_matrices(np.zeros((3, 2, 2)), learning_rate=0.1, rho=0.1)
    assert (found.verdict, found.growth, found.curved_growth, found.num_curved) == ("stable", 1.0, 0.0, 0)
    assert found.largest_learning_rate == found.largest_rho == found.condition.largest_rho == math.inf
    assert "curves in no direction" in found.notes[0]


def test_saddle_is_named():
    found = stability_of_matrices(np.array([np.diag([2.0, -0.5]), np.diag([1.0, -0.5])]), learning_rate=0.1, rho=0.0)
    assert found.verdict == "unstable"
    assert_allclose(found.growth, 1.05**2)
    assert found.smallest_eigenvalue == -0.5
    assert math.isnan(found.largest_learning_rate)
    assert "eigenvalue -0.5 < 0: params are at no minimum" in found.notes[0]


def test_loss_of_many_parameters_is_exact_on_its_span():
    wide = np.zeros((10, 200), np.float32)
    wide[:, [3, 50, 120, 199]] = VECTORS
    options = {"learning_rate": 0.05, "rho": 0.1, "batch_size": 2}
    found = linear_stability(loss, {"x": np.zeros(200)}, wide, key=jax.random.key(0), max_dimension=10, **options)
    exact = stability_of_matrices(HESSIANS, **options)
    assert found.is_exact
    assert (found.num_curved, found.verdict, found.growth) == (4, "stable", 1.0)
    assert_allclose(found.curved_growth, exact.curved_growth, rtol=1e-5)
    assert_allclose(found.largest_learning_rate, exact.largest_learning_rate, rtol=1e-5)
    assert_allclose(found.largest_rho, exact.largest_rho, rtol=1e-4)
    assert_allclose(found.condition[:2], exact.condition[:2], rtol=1e-4)
    for one, other in zip(found.consequences, exact.consequences, strict=True):
        assert_allclose(one.value, other.value, rtol=1e-4)
        assert (one.is_met, one.is_implied) == (other.is_met, other.is_implied)


def test_larger_problems_are_simulated():
    options = {"learning_rate": 0.4, "rho": 0.05}
    found = linear_stability(
        loss, {"x": np.zeros(4)}, VECTORS.astype(np.float32), key=jax.random.key(0), max_dimension=0, **options
    )
    exact = stability_of_matrices(HESSIANS, **options)
    assert not found.is_exact
    assert found.verdict == exact.verdict == "unstable"
    low, high = found.growth_interval
    assert low < found.curved_growth < high
    assert abs(found.curved_growth - exact.curved_growth) < 0.03 * exact.curved_growth
    assert math.isnan(found.largest_learning_rate)
    assert_allclose(found.condition.largest_learning_rate, exact.condition.largest_learning_rate, rtol=2e-3)
    assert_allclose([one.value for one in found.consequences], [one.value for one in exact.consequences], rtol=1e-3)
    assert_allclose(found.smallest_eigenvalue, exact.smallest_eigenvalue, rtol=1e-3)
    assert "Simulated" in found.notes[-1]


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
        linear_stability(loss, {"x": np.zeros(4)}, data, learning_rate=0.1, rho=0.1, key=jax.random.key(0), **options)


def test_data_that_is_not_finite_is_refused():
    for options in ({}, {"max_dimension": 2}):
        with pytest.raises(ValueError, match="the product with a vector is not finite"):
            linear_stability(
                loss, {"x": np.zeros(4)}, VECTORS * np.nan, learning_rate=0.1, rho=0.1, key=jax.random.key(0), **options
            )
