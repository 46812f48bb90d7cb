"""Moments of the Hessians of single examples against dense matrices, one example at a time."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

from flatwide import measure, trees

KEY = jax.random.key(3)
TIGHT = {"key": KEY, "tolerance": 1e-9, "smallest_tolerance": 1e-9}  # the networks fit into the basis


def normal(seed, *shape):
    return np.random.default_rng(seed).normal(size=shape)


def mlp():
    """Return a network whose last kernel is just large enough to be factored; 40 parameters, the size of the basis."""
    params = {
        "first": normal(1, 2, 3) / 2,
        "bias": normal(2, 3) / 2,
        "twice": normal(3, 3, 3) / 2,
        "last": normal(4, 7, 3),
        "scale": np.float64(1.3),
    }
    data = {"inputs": normal(5, 7, 2), "targets": np.arange(7)}
    return params, data


def mlp_loss(params, example):
    hidden = jnp.tanh(example["inputs"] @ params["first"] + params["bias"])
    hidden = jnp.tanh(hidden @ params["twice"])
    outputs = params["scale"] * (params["last"] @ jnp.tanh(hidden @ params["twice"]))
    return -jax.nn.log_softmax(outputs)[example["targets"]]


def filters_loss(params, example, averages):
    """A convolution, batch norm in evaluation mode, and a dense layer on each position."""
    images, filters = example["inputs"][None, None], params["filters"]
    maps = jax.lax.conv_general_dilated(images, filters, (2, 2), "VALID")[0]
    maps = (maps - averages["mean"][:, None, None]) / jnp.sqrt(averages["variance"][:, None, None])
    outputs = jnp.einsum("cxy,co->oxy", jnp.tanh(maps), params["dense"]).mean((1, 2))
    return jnp.sum((jnp.sin(outputs) - example["targets"]) ** 2)


def quadratic_loss(params, example):
    return 0.5 * jnp.sum(example["curvature"] * params**2)


def hessians(loss, params, data, mask=None):
    flat, unravel = ravel_pytree(params)
    kept = np.ones(flat.size, bool)
    if mask is not None:
        kept = np.asarray(ravel_pytree(jax.tree.map(lambda leaf, k: jnp.broadcast_to(k, leaf.shape), params, mask))[0])
    of_one = jax.hessian(lambda flat, example: loss(unravel(flat), example))
    return np.asarray(jax.vmap(of_one, (None, 0))(flat * kept, data)) * np.outer(kept, kept)


def ends(matrices, order):
    """Compute the extreme eigenvalues of M_k - H^k from its definition."""
    power = np.mean([np.linalg.matrix_power(matrix, order) for matrix in matrices], axis=0)
    values = np.linalg.eigvalsh(power - np.linalg.matrix_power(matrices.mean(0), order))
    return values[-1], values[0]


def assert_dense(moments, matrices, *, rtol=1e-7):
    for index, order in enumerate(moments.orders):
        largest, smallest = ends(matrices, order)
        assert moments.largest[index] == pytest.approx(largest, rel=rtol)
        assert moments.smallest[index] == pytest.approx(smallest, abs=rtol * abs(largest))
        assert moments.non_uniformity[index] == pytest.approx(np.sign(largest) * abs(largest) ** (1 / order), rel=rtol)
    assert moments.is_converged.all()


@pytest.mark.usefixtures("float64")
class TestHessianMoments:
    def test_network(self):
        params, data = mlp()
        moments = measure.hessian_moments(measure.example_problem(mlp_loss, params, data), **TIGHT)
        matrices = hessians(mlp_loss, params, data)
        assert_dense(moments, matrices)
        assert np.linalg.eigvalsh(matrices).min() < -0.01, "the examples' Hessians should be indefinite"
        power = np.mean([matrix @ matrix for matrix in matrices], axis=0)
        difference = power - matrices.mean(0) @ matrices.mean(0)
        vector = ravel_pytree(jax.tree.map(lambda leaf: leaf[0], moments.vectors))[0]
        np.testing.assert_allclose(difference @ vector, moments.largest[0] * vector, atol=1e-7)
        assert moments.cost == moments.num_products @ [3, 5, 7]

    def test_filters_mask_and_extra(self):
        params = {"filters": normal(1, 2, 1, 3, 3) / 2, "dense": normal(2, 2, 3)}
        data = {"inputs": normal(3, 5, 7, 7), "targets": normal(4, 5, 3)}
        averages = {"mean": normal(5, 2), "variance": np.array([0.7, 2.0])}
        mask = {"filters": normal(6, 2, 1, 3, 3) > -0.5, "dense": np.array([[True], [False]])}
        moments = measure.hessian_moments(
            measure.example_problem(filters_loss, params, data, mask=mask, extra=averages),
            orders=[3],
            chunk_size=3,
            **TIGHT,
        )
        matrices = hessians(lambda params, example: filters_loss(params, example, averages), params, data, mask)
        assert_dense(moments, matrices)
        vectors = jax.tree.map(lambda leaf: leaf[0], moments.vectors)
        assert jax.tree.all(jax.tree.map(jnp.array_equal, vectors, trees.apply_mask(vectors, mask)))

    def test_signs_units_and_order(self):
        # Diagonal Hessians: the eigenvalues are those of the numbers on the diagonal.
        curvature = np.array([[-3.0, -2.0], [1.0, 1.0], [2.0, 0.0]])
        data = {"curvature": curvature}
        moments = measure.hessian_moments(
            measure.example_problem(quadratic_loss, jnp.ones(2), data), orders=(3, 2), **TIGHT
        )
        cubes = (curvature**3).mean(0) - curvature.mean(0) ** 3
        assert cubes.max() < 0
        np.testing.assert_allclose(moments.non_uniformity[0], -((-cubes.max()) ** (1 / 3)))
        np.testing.assert_allclose(moments.smallest[0], cubes.min())
        np.testing.assert_allclose(moments.non_uniformity[1], np.sqrt(curvature.var(0).max()))
        np.testing.assert_allclose(moments.smallest[1], curvature.var(0).min())
        scaled = {"curvature": 5 * curvature}
        again = measure.hessian_moments(
            measure.example_problem(quadratic_loss, jnp.ones(2), scaled), orders=(3, 2), **TIGHT
        )
        np.testing.assert_allclose(again.non_uniformity, 5 * moments.non_uniformity)

    def test_same_key_same_answer(self):
        data, params = {"curvature": normal(0, 20, 100)}, jnp.ones(100)

        def measured(key):
            problem = measure.example_problem(quadratic_loss, params, data)
            return measure.hessian_moments(problem, orders=[2], smallest_tolerance=1.0, key=key)

        first, other = measured(KEY), measured(jax.random.key(4))
        np.testing.assert_array_equal(first.vectors, measured(KEY).vectors)
        assert not np.array_equal(first.vectors, other.vectors)
        np.testing.assert_allclose(first.largest, other.largest, rtol=1e-4)


def test_equal_examples_are_uniform():
    data = {"curvature": np.tile(normal(0, 1, 100), (6, 1))}
    moments = measure.hessian_moments(measure.example_problem(quadratic_loss, jnp.ones(100), data), key=KEY)
    np.testing.assert_array_equal(moments.non_uniformity, [0, 0, 0])
    np.testing.assert_array_equal(moments.smallest, [0, 0, 0])


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"data": {"curvature": np.zeros((0, 2))}}, "data: expected at least one example"),
        ({"data": {"curvature": np.array([[1.0, np.nan]])}}, "data at 'curvature': expected finite numbers"),
        ({"params": np.array([1.0, np.inf])}, "params at '': expected finite numbers"),
        ({"orders": (1, 2)}, r"orders=\(1, 2\): expected one or more of 2, 3, 4"),
        ({"orders": (2, 2)}, r"orders=\(2, 2\): .* each at most once"),
        ({"chunk_size": 0}, "chunk_size=0: expected at least 1, or None"),
        ({"tolerance": 1e-9}, "tolerance=1e-09: expected at least 1.2e-06"),
        ({"max_products": 2}, "max_products=2: expected at least 3"),
        (
            {"per_example_loss": lambda params, example: params * example["curvature"]},
            r"per_example_loss of shape \(2,\): expected a scalar",
        ),
    ],
)
def test_bad_input(changed, message):
    good = {"per_example_loss": quadratic_loss, "params": np.ones(2), "data": {"curvature": normal(0, 3, 2)}}
    arguments = [changed.get(name, value) for name, value in good.items()]
    options = {name: value for name, value in changed.items() if name not in good}
    with pytest.raises(ValueError, match=message):
        measure.hessian_moments(measure.example_problem(*arguments), key=KEY, **options)
