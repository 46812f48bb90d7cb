import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from flatwide import measure, sam, trees
from flatwide.measure.loss_rise import sharpness

KEY = jax.random.key(0)


def quadratic(params, batch):
    """Compute the mean over examples of a quadratic with slope and curvature."""
    w = jnp.concatenate([params["kernel"].reshape(-1), params["bias"]])
    return jnp.mean(batch["slope"] @ w + jnp.einsum("i,bij,j->b", w, batch["curvature"], w) / 2)


def of(params, batch, **options):
    return measure.problem(quadratic, params, batch, **options)


def quadratics(shift=0.0, num_examples=4, slope=0.3):
    rng = np.random.default_rng(1)
    half = rng.normal(size=(num_examples, 6, 6)) / 2
    batch = {
        "slope": slope * rng.normal(size=(num_examples, 6)),
        "curvature": (half + half.transpose(0, 2, 1)) / 2 + shift * np.eye(6),
    }
    params = {"kernel": jnp.asarray(rng.normal(size=(2, 2))), "bias": jnp.asarray(rng.normal(size=2))}
    return params, batch


def flat(tree):
    return np.concatenate([np.ravel(tree["kernel"]), np.ravel(tree["bias"])])


def slope_and_curvature(params, batch):
    curvature = batch["curvature"].mean(axis=0)
    return batch["slope"].mean(axis=0) + curvature @ flat(params), curvature


def highest(slope, curvature, rho):
    """Compute the maximum of slope' e + e' curvature e / 2 over |e| <= rho, by the secular equation."""
    values, vectors = np.linalg.eigh(curvature)
    along = vectors.T @ slope
    if values[-1] < 0 and np.linalg.norm(along / values) <= rho:
        e = -along / values
    else:
        low, high = max(values[-1], 0), max(values[-1], 0) + np.linalg.norm(slope) / rho
        for _ in range(200):
            middle = (low + high) / 2
            low, high = (middle, high) if np.linalg.norm(along / (middle - values)) > rho else (low, middle)
        e = along / (high - values)
    return along @ e + e @ (values * e) / 2


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("shift", [0.0, 2.0, -2.0])  # indefinite, convex, concave: the last with the maximum inside
def test_worst_is_the_exact_maximum_of_a_quadratic(shift):
    params, batch = quadratics(shift)
    result = sharpness(of(params, batch), rho=0.7, key=KEY, num_steps=200, num_starts=3, tolerance=1e-7)
    assert_allclose(result.value, highest(*slope_and_curvature(params, batch), 0.7), rtol=1e-5)
    assert 0 <= result.gap <= 1e-7 * result.value
    moved = trees.add(params, result.perturbation)
    assert_allclose(quadratic(moved, batch) - quadratic(params, batch), result.value, rtol=1e-12)
    assert result.loss == pytest.approx(float(quadratic(params, batch)), rel=1e-12)
    assert float(trees.norm(result.perturbation)) <= 0.7 * (1 + 1e-12)
    assert math.isnan(result.standard_error)
    assert result.values.shape == (3,)
    assert result.value == max(result.values)


@pytest.mark.usefixtures("float64")
def test_gap_bounds_the_maximum_of_a_concave_loss():
    params, batch = quadratics(-2.0)
    result = sharpness(of(params, batch), rho=0.7, num_starts=1, num_steps=1, tolerance=0)
    truth = highest(*slope_and_curvature(params, batch), 0.7)
    assert result.value < truth * 0.999
    assert truth <= result.value + result.gap


@pytest.mark.usefixtures("float64")
def test_worst_agrees_with_a_grid_over_the_disc():
    def wavy(params, batch):
        x, y = params
        return jnp.mean(batch) * (jnp.sin(3 * x) * jnp.cos(2 * y + x) + 0.3 * x)

    at = (jnp.array(0.4), jnp.array(-0.2))
    radius, angle = np.meshgrid(np.linspace(0, 0.8, 400), np.linspace(0, 2 * np.pi, 2000))
    x, y = 0.4 + radius * np.cos(angle), -0.2 + radius * np.sin(angle)
    truth = np.max(np.sin(3 * x) * np.cos(2 * y + x) + 0.3 * x) - float(wavy(at, jnp.ones(1)))
    result = sharpness(measure.problem(wavy, at, jnp.ones(1)), rho=0.8, key=KEY, num_starts=6, tolerance=1e-6)
    assert_allclose(result.value, truth, rtol=1e-4)


@pytest.mark.usefixtures("float64")
def test_worst_at_a_minimum_is_the_top_eigenvalue():
    params, batch = quadratics(2.0, slope=0.0)
    minimum = jax.tree.map(jnp.zeros_like, params)
    result = sharpness(measure.problem(quadratic, minimum, batch), rho=0.1, key=KEY, num_steps=200, tolerance=1e-8)
    assert_allclose(result.value, 0.01 * np.linalg.eigvalsh(batch["curvature"].mean(axis=0))[-1] / 2, rtol=1e-6)
    assert result.values[0] == 0  # SAM's perturbation is 0 at a minimum


@pytest.mark.usefixtures("float64")
def test_the_adaptive_ball_and_the_point_of_sam_are_those_of_the_ascent_rules():
    params, batch = quadratics()
    gradient = jax.grad(quadratic)(params, batch)
    for adaptive, rule in ((False, sam.normalized(0.3)), (True, sam.adaptive(0.3))):
        expected, _ = rule.perturb(gradient, params, (), 0.3)
        result = sharpness(of(params, batch), rho=0.3, kind="sam", adaptive=adaptive)
        assert_allclose(flat(result.perturbation), flat(expected), rtol=1e-10)
        assert_allclose(result.value, quadratic(trees.add(params, expected), batch) - result.loss, rtol=1e-10)
        assert result.standard_error == 0
    sizes = np.concatenate([np.abs(np.ravel(params["kernel"])) + 0.01, np.ones(2)])
    slope, curvature = slope_and_curvature(params, batch)
    truth = highest(sizes * slope, sizes[:, None] * curvature * sizes, 0.3)
    worst = sharpness(of(params, batch), rho=0.3, adaptive=True, key=KEY, tolerance=1e-7, num_steps=200)
    assert_allclose(worst.value, truth, rtol=1e-5)
    assert np.linalg.norm(flat(worst.perturbation) / sizes) <= 0.3 * (1 + 1e-9)


@pytest.mark.usefixtures("float64")
def test_average_is_the_trace_within_its_standard_error():
    params, batch = quadratics(1.0, slope=50.0)  # a slope that would drown the curvature, did it not cancel
    sizes = np.concatenate([np.abs(np.ravel(params["kernel"])) + 0.01, np.ones(2)])
    _, curvature = slope_and_curvature(params, batch)
    scaled = sizes[:, None] * curvature * sizes
    truth = 0.04 * np.trace(scaled) / 12
    exact_error = 0.04 / 12 * np.sqrt(2 * np.sum(scaled**2) / 400)  # Var z'Az = 2 |A|^2
    options = {"rho": 0.2, "kind": "average", "adaptive": True, "num_samples": 400}
    results = [sharpness(of(params, batch), key=jax.random.key(seed), **options) for seed in (0, 1, 2, 3, 0)]
    for result in results:
        assert abs(result.value - truth) < 4 * exact_error
        assert_allclose(result.standard_error, exact_error, rtol=0.2)
        assert result.num_evaluations == 801
    assert_array_equal(results[0].values, results[-1].values)
    assert len({result.value for result in results}) == 4


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("kind", ["worst", "average"])
def test_pruned_weights_stay_zero_and_do_not_count(kind):
    params, batch = quadratics(1.0)
    mask = {"kernel": jnp.array([[True, False], [False, True]]), "bias": jnp.array(True)}
    kept = np.array([0, 3, 4, 5])
    small = {"slope": batch["slope"][:, kept], "curvature": batch["curvature"][:, kept][:, :, kept]}

    def smaller(params, batch):
        w = params["w"]
        return jnp.mean(batch["slope"] @ w + jnp.einsum("i,bij,j->b", w, batch["curvature"], w) / 2)

    options = {"rho": 0.5, "kind": kind, "key": KEY, "num_samples": 2000, "num_steps": 200, "tolerance": 1e-7}
    result = sharpness(of(params, batch, mask=mask), **options)
    other = sharpness(measure.problem(smaller, {"w": jnp.asarray(flat(params)[kept])}, small), **options)
    assert_allclose(result.loss, other.loss, rtol=1e-12)
    if kind == "average":
        assert abs(result.value - other.value) < 4 * np.hypot(result.standard_error, other.standard_error)
    else:
        assert_allclose(result.value, other.value, rtol=1e-5)
        assert_array_equal(flat(result.perturbation)[[1, 2]], 0)


@pytest.mark.usefixtures("float64")
def test_microbatches_have_a_perturbation_each():
    params, batch = quadratics(1.0, num_examples=5)
    parts = [jax.tree.map(lambda leaf, at=at: leaf[at : at + 2], batch) for at in (0, 2, 4)]
    options = {"rho": 0.5, "key": KEY, "num_steps": 200, "tolerance": 1e-8}
    result = sharpness(of(params, batch, batch_size=2), is_by_batch=True, **options)
    each = [sharpness(measure.problem(quadratic, params, part), **options).value for part in parts]
    assert_allclose(result.value, (2 * each[0] + 2 * each[1] + each[2]) / 5, rtol=1e-5)
    assert result.perturbation is None
    # Each point is worse for its batch than a common one would be.
    common = highest(*slope_and_curvature(params, batch), 0.5)
    assert result.value > common
    assert_allclose(result.loss, quadratic(params, batch))


def test_a_flat_loss_a_loss_that_overflows_and_a_peak():
    def loss_fn(w, batch):
        growth, peak = jnp.mean(batch, axis=0)
        return growth * jnp.exp(jnp.sum(w)) - peak * jnp.vdot(w, w)

    def measured(growth, peak, rho):
        return sharpness(measure.problem(loss_fn, jnp.zeros(3), jnp.array([[growth, peak]])), rho=rho, key=KEY)

    flat_loss = measured(0.0, 0.0, 1.0)
    assert flat_loss.value == 0 == flat_loss.gap
    assert measured(1.0, 0.0, 100.0).value == math.inf
    peak = measured(0.0, 1.0, 1.0)
    assert 0 <= peak.value < 1e-6
    assert np.all(np.abs(peak.perturbation) < 1e-2)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rho": 0.0}, r"rho=0.0: expected a finite number > 0"),
        ({"kind": "best"}, r"kind='best': expected one of worst, average, sam"),
        ({"kind": "average", "is_by_batch": True}, r"is_by_batch=True with kind='average': the average does not"),
        ({"num_steps": 0}, r"num_steps=0: expected at least 1"),
        ({"num_samples": 1}, r"num_samples=1: expected at least 2"),
        ({"tolerance": -1.0}, r"tolerance=-1.0: expected at least 0"),
        ({"key": None}, r"key=None with kind='worst': expected a PRNG key"),
    ],
)
def test_options_out_of_range_are_refused(options, message):
    params, batch = quadratics()
    with pytest.raises(ValueError, match=message):
        sharpness(of(params, batch), **{"rho": 0.1, "key": KEY, **options})


@pytest.mark.parametrize("kind", ["worst", "average"])
def test_a_loss_that_is_not_finite_at_params_is_refused(kind):
    params, batch = quadratics()
    damaged = jax.tree.map(lambda leaf: leaf * jnp.nan, batch)
    with pytest.raises(ValueError, match="the loss at params is nan: expected a finite number"):
        sharpness(measure.problem(quadratic, params, damaged), rho=0.5, kind=kind, key=KEY, num_samples=2, num_steps=1)


@pytest.mark.parametrize("kind", ["worst", "average"])
def test_a_ball_that_leaves_the_losss_domain_has_an_infinite_rise(kind):
    result = sharpness(
        measure.problem(lambda w: -jnp.mean(jnp.log(w)), jnp.array([1.0, 0.3, 2.0])), rho=0.6, kind=kind, key=0
    )
    assert result.value == np.inf
    assert not np.any(np.isnan(result.values))
    assert result.gap == np.inf if kind == "worst" else np.isnan(result.standard_error)
    assert result.loss == pytest.approx(-np.mean(np.log([1.0, 0.3, 2.0])), rel=1e-5)
