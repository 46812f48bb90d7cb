import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree
from numpy.testing import assert_allclose, assert_array_equal

from flatwide.measure.subspace import line_through, plane_through, principal_subspace, random_directions, spanned_by


def tree(rng, scale=1.0):
    return {"kernel": scale * rng.normal(size=(3, 4)), "bias": scale * rng.normal(size=4)}


def flat(pytree):
    return np.asarray(ravel_pytree(pytree)[0], np.float64)


@pytest.mark.usefixtures("float64")
def test_a_line_passes_through_both_ends_with_their_extras():
    rng = np.random.default_rng(0)
    start, end = tree(rng), tree(rng)
    line = line_through(start, end, extras=({"mean": 1.0, "count": 3}, {"mean": 2.0, "count": 9}))
    assert_allclose(flat(line.point([0.25])[0]), 0.75 * flat(start) + 0.25 * flat(end))
    assert_allclose(line.point([0.25])[1]["mean"], 1.25)
    assert line.point([0.25])[1]["count"] == 3  # integers are not interpolated


@pytest.mark.usefixtures("float64")
def test_a_plane_passes_through_three_points_with_orthonormal_axes():
    rng = np.random.default_rng(0)
    points = [tree(rng) for _ in range(3)]
    plane = plane_through(*points, extras=(1.0, 2.0, 4.0))
    for index, point in enumerate(points):
        params, extra = plane.point(plane.coordinates[index])
        assert_allclose(flat(params), flat(point), atol=1e-12)
        assert_allclose(extra, [1.0, 2.0, 4.0][index])
    axes = np.stack([flat(direction[0]) for direction in plane.directions])
    assert_allclose(axes @ axes.T, np.eye(2), atol=1e-12)
    assert_allclose(plane.coordinates[1], [np.linalg.norm(flat(points[1]) - flat(points[0])), 0])
    assert plane.coordinates[2, 1] > 0


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("origin", [None, -1])
def test_principal_axes_are_the_singular_vectors(origin):
    rng = np.random.default_rng(0)
    snapshots = [tree(rng, scale) for scale in (1.0, 2.0, 3.0, 0.5, 1.0)]
    rows = np.stack([flat(snapshot) for snapshot in snapshots])
    center = rows.mean(axis=0) if origin is None else rows[origin]
    _, lengths, vectors = np.linalg.svd(rows - center, full_matrices=False)
    extras = [float(index) for index in range(5)]
    plane, shares = principal_subspace(snapshots, num_components=2, origin=origin, extras=extras)
    assert_allclose(shares, lengths[:2] ** 2 / np.sum(lengths**2))
    assert_allclose(flat(plane.origin[0]), center, atol=1e-12)
    for direction, vector in zip(plane.directions, vectors, strict=False):
        assert_allclose(abs(flat(direction[0]) @ vector), 1, rtol=1e-10)
        assert_allclose(np.linalg.norm(flat(direction[0])), 1, rtol=1e-10)
    axes = np.stack([flat(direction[0]) for direction in plane.directions])
    assert_allclose(plane.coordinates, (rows - center) @ axes.T, atol=1e-10)
    left = rows - center - plane.coordinates @ axes
    assert_allclose(plane.distances, np.linalg.norm(left, axis=1), atol=1e-7)  # the root of a rounding error
    assert np.all(plane.coordinates[np.argmax(np.abs(plane.coordinates), axis=0), [0, 1]] > 0)
    # With all components, the combination reproduces each snapshot, and so its extras.
    full, _ = principal_subspace(snapshots, num_components=4, extras=extras)
    assert_allclose([full.point(row)[1] for row in full.coordinates], extras, atol=1e-10)


def test_a_random_walk_explains_the_shares_that_are_known():
    walk = np.cumsum(np.random.default_rng(0).normal(size=(200, 5000)), axis=0).astype(np.float32)
    _, shares = principal_subspace(list(walk), num_components=2)
    assert_allclose(shares, 6 / np.pi**2 / np.array([1, 4]), rtol=0.03)


def test_far_away_snapshots_keep_their_small_differences():
    rng = np.random.default_rng(0)
    steps = 1e-3 * rng.normal(size=(4, 50))
    snapshots = [(1000 + step).astype(np.float32) for step in steps]
    space, _ = principal_subspace(snapshots, num_components=3)
    exact = np.stack(snapshots).astype(np.float64)
    _, lengths, _ = np.linalg.svd(exact - exact.mean(axis=0), full_matrices=False)
    assert_allclose(np.linalg.norm(space.coordinates, axis=0), lengths[:3], rtol=1e-6)


@pytest.mark.usefixtures("float64")
def test_random_directions_have_filters_as_long_as_the_weights():
    rng = np.random.default_rng(0)
    params = {
        "conv": {"kernel": rng.normal(size=(2, 2, 3, 4)), "bias": rng.normal(size=4)},
        "dense": {"kernel": rng.normal(size=(4, 5))},
        "norm": {"scale": np.ones(4)},
    }
    params["dense"]["kernel"][:, 2] = 0
    mask = jax.tree.map(lambda leaf: np.ones(leaf.shape, bool), params)
    mask["conv"]["kernel"][0] = False
    drawn = random_directions(params, key=jax.random.key(0), num_directions=2, mask=mask)
    assert len(drawn) == 2
    for direction in drawn:
        kept = np.where(mask["conv"]["kernel"], params["conv"]["kernel"], 0)
        assert_array_equal(direction["conv"]["kernel"][0], 0)
        for name, weights in (("conv", kept), ("dense", params["dense"]["kernel"])):
            filters, moved = (np.reshape(x, (-1, x.shape[-1])) for x in (weights, direction[name]["kernel"]))
            assert_allclose(np.linalg.norm(moved, axis=0), np.linalg.norm(filters, axis=0), rtol=1e-12)
        assert_array_equal(direction["conv"]["bias"], 0)
        assert_array_equal(direction["norm"]["scale"], 0)
    assert np.any(np.asarray(drawn[0]["dense"]["kernel"]) != np.asarray(drawn[1]["dense"]["kernel"]))
    again = random_directions(params, key=jax.random.key(0), num_directions=2, mask=mask)
    assert_array_equal(again[1]["dense"]["kernel"], drawn[1]["dense"]["kernel"])
    (everywhere,) = random_directions(params, key=jax.random.key(0), num_directions=1, is_kernels_only=False)
    assert_allclose(np.linalg.norm(everywhere["norm"]["scale"]), 2, rtol=1e-12)


def test_given_directions():
    plane = spanned_by(jnp.ones(3), [jnp.array([1.0, 0.0, 0.0]), jnp.array([0.0, 2.0, 0.0])], extra=jnp.array(5.0))
    params, extra = plane.point([3.0, 4.0])
    assert_array_equal(params, [4, 9, 1])
    assert extra == 5


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda x: line_through(x, x[:2]), r"parameters 1: expected the structure and shapes of parameters 0"),
        (lambda x: line_through(x, x, extras=(1.0,)), r"1 extras: expected one for each of the 2 sets of parameters"),
        (lambda x: plane_through(x, 2 * x, 4 * x), r"expected three sets of parameters that do not lie on one line"),
        (lambda x: plane_through(x, x, 2 * x), r"expected three sets of parameters that do not lie on one line"),
        (lambda x: principal_subspace([x, x]), r"num_components=2: expected 1 to 1, one less than the snapshots"),
        (lambda x: principal_subspace([x, 2 * x, 3 * x]), r"num_components=2: expected at most as many"),
        (lambda x: principal_subspace([x, x], num_components=1), r"num_components=1: expected at most as many"),
        (lambda x: principal_subspace([x, x, x], origin=3), r"origin=3: expected the index of one of 3 snapshots"),
        (lambda x: principal_subspace([x]), r"1 sets of parameters: expected at least 2"),
        (
            lambda x: random_directions(x, key=jax.random.key(0), num_directions=0),
            r"num_directions=0: expected at least",
        ),
    ],
)
def test_invalid_subspaces_are_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call(np.array([1.0, 2.0, 3.0]))


def test_the_nearest_point_of_a_plane_is_that_of_least_squares():
    generator = np.random.default_rng(0)
    rows = generator.normal(size=(4, 7))
    plane = spanned_by({"w": rows[0]}, [{"w": rows[1]}, {"w": rows[2]}])  # neither orthogonal nor of length 1
    coordinates, distance = plane.project({"w": rows[3]})
    expected, (square,), *_ = np.linalg.lstsq(rows[1:3].T, rows[3] - rows[0])
    np.testing.assert_allclose(coordinates, expected, rtol=1e-5)
    assert distance == pytest.approx(square**0.5, rel=1e-5)
    inside, beside = plane.project({"w": rows[0] + 2 * rows[1] - rows[2]})
    np.testing.assert_allclose(inside, [2, -1], rtol=1e-5)
    assert beside == pytest.approx(0, abs=1e-3)
    with pytest.raises(ValueError, match="structure and shapes"):
        plane.project({"w": rows[3][:6]})
