import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose

from flatwide.measure.landscape import barrier, surface
from flatwide.measure.subspace import line_through, plane_through, spanned_by

pytestmark = pytest.mark.usefixtures("float64")

BATCHES = [np.full((3, 1), 1.0), np.full((2, 1), 6.0)]  # of mean 3


def bowl(params, batch):
    return {"loss": jnp.mean(batch) * jnp.vdot(params, params), "height": params[2]}


def test_a_surface_holds_the_values_of_the_grid_for_every_number():
    plane = spanned_by(jnp.zeros(3), [jnp.array([1.0, 0.0, 0.0]), jnp.array([0.0, 1.0, 1.0])])
    x, y = np.linspace(-1, 1, 4), np.linspace(0, 2, 3)
    for batch_size in (None, 2):
        values = surface(bowl, plane, (x, y), lambda: iter(BATCHES), batch_size=batch_size)
        assert_allclose(values["loss"], 3 * (x[:, None] ** 2 + 2 * y[None] ** 2), atol=1e-12)
        assert_allclose(values["height"], np.tile(y, (4, 1)), atol=1e-12)


def test_a_surface_through_checkpoints_has_their_losses_there():
    rng = np.random.default_rng(0)
    points = [rng.normal(size=3) for _ in range(3)]
    plane = plane_through(*points)
    for point, (x, y) in zip(points, plane.coordinates, strict=True):
        assert_allclose(
            surface(bowl, plane, ([x], [y]), lambda: iter(BATCHES))["loss"], [[3 * point @ point]], rtol=1e-10
        )


def double_well(params, batch):
    return jnp.mean(batch) / 3 * ((params[0] ** 2 - 1) ** 2 + 0.5 * params[0])


def test_the_barrier_of_a_double_well_is_found_between_the_points_of_the_grid():
    start, end = jnp.array([-1.0, 4.0]), jnp.array([1.0, 4.0])
    # On the line the excess over the chord is (x^2 - 1)^2: 1 at the middle, which is not among 10 points.
    rough = barrier(double_well, start, end, lambda: iter(BATCHES), num_points=10, num_refinements=0)
    assert rough.value < 0.98
    refined = barrier(double_well, start, end, lambda: iter(BATCHES), num_points=10, num_refinements=2)
    assert_allclose(refined.value, 1, rtol=1e-4)
    assert_allclose(refined.position, 0.5, atol=0.01)
    assert_allclose(refined.distance, 2)
    assert_allclose(refined.losses[[0, -1]], [-0.5, 0.5], atol=1e-12)
    assert np.all(np.diff(refined.positions) > 0)
    assert_allclose(
        barrier(double_well, end, start, lambda: iter(BATCHES), num_points=10, num_refinements=2).value, refined.value
    )


def test_there_is_no_barrier_in_a_bowl_and_an_infinite_one_across_an_overflow():
    def loss_fn(params, batch):
        return jnp.mean(batch) * (
            jnp.vdot(params, params) + jnp.where(jnp.abs(params[0]) < 0.3, jnp.nan, 0) * params[1]
        )

    bowl_only = barrier(lambda p, b: jnp.mean(b) * jnp.vdot(p, p), -jnp.ones(2), jnp.ones(2), lambda: iter(BATCHES))
    assert bowl_only.value == 0
    assert barrier(loss_fn, -jnp.ones(2), jnp.ones(2), lambda: iter(BATCHES)).value == np.inf


def test_a_network_that_is_not_finite_has_no_barrier():
    with pytest.raises(ValueError, match="expected finite numbers; the network has diverged or is damaged"):
        barrier(
            lambda p, b: jnp.mean(b) * jnp.vdot(p, p), jnp.ones(2), jnp.array([1.0, jnp.nan]), lambda: iter(BATCHES)
        )


def normalized(params, batch, extra):
    """A layer with batch norm in evaluation mode: with recomputed averages, its output has mean 0 and variance 1."""
    outputs = (batch @ params - extra["mean"]) / jnp.sqrt(extra["variance"])
    return jnp.mean(outputs**2)


def averages(params, batch, extra):
    outputs = batch @ params
    return {"mean": jnp.mean(outputs), "variance": jnp.var(outputs)}


def test_averages_are_interpolated_or_taken_afresh_at_each_point():
    rng = np.random.default_rng(0)
    batch = rng.normal(size=(200, 2))
    ends = (jnp.array([1.0, 0.0]), jnp.array([-0.8, 0.6]))
    extras = tuple(averages(end, batch, None) for end in ends)
    interpolated = barrier(normalized, *ends, batch, extras=extras)
    assert interpolated.value == 0  # the outputs' true variance is small between the two, the interpolated one is not
    middle = surface(normalized, line_through(*ends, extras=extras), ([0.5],), batch)
    outputs = batch @ np.array([0.1, 0.3])
    mean, variance = (float(extras[0][name] + extras[1][name]) / 2 for name in ("mean", "variance"))
    assert_allclose(middle, [np.mean((outputs - mean) ** 2) / variance], rtol=1e-10)
    line = line_through(*ends, extras=extras)
    recomputed = surface(normalized, line, (np.linspace(0, 1, 5),), batch, extra_fn=averages)
    assert_allclose(recomputed, 1, rtol=1e-10)


def test_what_does_not_fit_is_refused():
    line = line_through(jnp.zeros(2), jnp.ones(2))
    with pytest.raises(ValueError, match=r"axes of shapes \[\(2,\), \(2,\)\]: expected 1 arrays of one axis"):
        surface(double_well, line, (np.ones(2), np.ones(2)), lambda: iter(BATCHES))
    with pytest.raises(ValueError, match="extra_fn: expected a subspace with extra"):
        surface(double_well, line, (np.ones(2),), lambda: iter(BATCHES), extra_fn=averages)
    with pytest.raises(ValueError, match="num_points=2: expected at least 3"):
        barrier(double_well, jnp.zeros(2), jnp.ones(2), lambda: iter(BATCHES), num_points=2)
    with pytest.raises(ValueError, match="num_refinements=-1: expected at least 0"):
        barrier(double_well, jnp.zeros(2), jnp.ones(2), lambda: iter(BATCHES), num_refinements=-1)
