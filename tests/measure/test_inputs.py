"""User input: non-numeric leaves, 16 bits, integer keys, loaders, losses without data, sums."""

import warnings
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.sparse
from numpy.testing import assert_allclose

from flatwide import measure

X = np.random.default_rng(0).normal(size=(6, 3)).astype(np.float32)
Y = np.random.default_rng(1).normal(size=6).astype(np.float32)
GRAM = 2 * X.T @ X / 6  # the Hessian of the mean squared error


def squared(params, batch):
    return jnp.mean((batch[0] @ params["w"] - batch[1]) ** 2)


def top(operator, **options):
    return float(measure.top_eigenvalues(operator, key=0, **options).values[0])


TRUTH = float(np.linalg.eigvalsh(GRAM.astype(np.float64))[-1])
W = {"w": jnp.zeros(3)}


def test_a_list_of_bare_arrays_is_refused():
    with pytest.raises(ValueError, match=r"a list of 2 bare arrays .* Pass a tuple \(x, y\)"):
        measure.problem(squared, W, [X, Y])


class Loader:
    """A loader that yields batches as lists, and can be read repeatedly."""

    def __iter__(self):
        return iter([[X[:4], Y[:4]], [X[4:], Y[4:]]])


@pytest.mark.parametrize("batches", [(X, Y), [(X[:4], Y[:4]), (X[4:], Y[4:])], Loader()])
def test_batches_come_in_any_form(batches):
    assert top(measure.hessian_operator(measure.problem(squared, W, batches))) == pytest.approx(TRUTH, rel=1e-4)


def bowl(params):
    return 0.5 * params @ jnp.diag(jnp.array([3.0, 1.0])) @ params


def test_a_loss_may_read_no_data():
    at = jnp.array([1.0, 0.0])
    problem = measure.problem(bowl, at)
    assert top(measure.hessian_operator(problem)) == pytest.approx(3, rel=1e-4)
    assert measure.sharpness(problem, rho=0.1, kind="sam").value == pytest.approx(0.3 + 0.015, rel=1e-4)
    assert measure.smoothness_and_pl(problem, 2 * at).smoothness == pytest.approx(3, rel=1e-4)
    line = measure.line_through(at, -at)
    assert_allclose(measure.surface(bowl, line, [np.array([0.0, 0.5, 1.0])]), [1.5, 0, 1.5], atol=1e-6)
    assert measure.barrier(bowl, at, -at).value == 0
    assert measure.layers(problem, key=0, rho=0.1).layers[""].num_params == 2


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
def test_numbers_of_16_bits_are_measured_as_32(dtype):
    params = {"w": jnp.zeros(3, dtype), "b": jnp.zeros(1)}
    problem = measure.problem(lambda p, b: squared(p, b) + jnp.sum(p["b"] ** 2) * 50, params, (X, Y))
    operator = measure.hessian_operator(problem)
    assert operator.params["w"].dtype == jnp.float32
    assert top(operator) == pytest.approx(100, rel=1e-4)


class Module(NamedTuple):
    """A module with functions and strings as leaves, as in Equinox."""

    weight: jax.Array
    activation: object
    name: str
    bias: None = None


def module_loss(module, batch):
    assert module.name == "layer"
    return jnp.mean((module.activation(batch[0] @ module.weight) - batch[1]) ** 2)


def test_leaves_that_cannot_be_compiled_in_are_refused():
    with pytest.raises(ValueError, match="pass it to the loss as `extra`"):
        measure.problem(squared, W | {"key": jax.random.key(0)}, (X, Y))
    with pytest.raises(
        ValueError, match=r"float32, int32: .* pass arrays that are not parameters to the loss as `extra`"
    ):
        measure.problem(squared, W | {"count": jnp.arange(2)}, (X, Y))


def example_loss(module, example):
    return module_loss(module, (example[0][None], example[1]))


def test_leaves_that_are_no_numbers_stay_what_they_are():
    module = Module(jnp.full(3, 0.1), jnp.tanh, "layer")
    operator = measure.hessian_operator(measure.problem(module_loss, module, (X, Y)))
    truth = jax.hessian(lambda w: module_loss(module._replace(weight=w), (X, Y)))(module.weight)
    pairs = measure.top_eigenvalues(operator, 1, key=0)
    assert pairs.values[0] == pytest.approx(np.abs(np.linalg.eigvalsh(truth)).max(), rel=1e-4)
    assert pairs.vectors.weight.shape == (1, 3)
    assert pairs.vectors.activation is None
    mask = Module(np.array([True, False, True]), True, True)
    assert measure.hessian_operator(measure.problem(module_loss, module, (X, Y), mask=mask)).size == 2
    sam = measure.sharpness(measure.problem(module_loss, module, (X, Y)), rho=0.1, kind="sam")
    assert sam.perturbation.weight.shape == (3,)
    moments = measure.hessian_moments(measure.example_problem(example_loss, module, (X, Y)), key=0, orders=(2,))
    assert moments.non_uniformity[0] > 0


def test_a_path_says_which_leaf_is_no_array():
    with pytest.raises(ValueError, match="params at 'name' of type str: expected an array"):
        measure.random_directions({"name": "layer"}, key=0)


def test_a_whole_number_is_a_key():
    operator = measure.hessian_operator(measure.problem(squared, W, (X, Y)))
    for call in (measure.trace, measure.spectral_density):
        from_number, from_key = call(operator, key=3), call(operator, key=jax.random.key(3))
        assert_allclose(from_number[0], from_key[0], rtol=0)
    assert top(operator) == measure.top_eigenvalues(operator, key=jax.random.key(0)).values[0]
    with pytest.raises(ValueError, match=r"key='0': expected a PRNG key such as jax.random.key\(0\), or an integer"):
        measure.trace(operator, key="0")


@pytest.mark.parametrize("matrix", [GRAM, scipy.sparse.csr_array(GRAM)], ids=["numpy", "scipy"])
def test_products_may_be_those_of_numpy(matrix):
    operator = measure.operator(lambda v: matrix @ v, jnp.zeros(3))
    assert top(operator) == pytest.approx(TRUTH, rel=1e-4)
    assert measure.trace(operator, key=0).value == pytest.approx(np.trace(GRAM), rel=1e-4)


def test_a_product_of_other_shapes_is_refused():
    with pytest.raises(ValueError, match=r"the product has shapes \(3, 1\): expected those of params, \(3,\)"):
        measure.operator(lambda v: v[:, None], jnp.zeros(3))


def test_a_pytree_that_cannot_be_compared_is_like_itself():
    class Pair:
        def __init__(self, *leaves):
            self.leaves = leaves

    jax.tree_util.register_pytree_node(Pair, lambda pair: (pair.leaves, None), lambda _, leaves: Pair(*leaves))
    operator = measure.operator(lambda v: Pair(2 * v.leaves[0], v.leaves[1]), Pair(jnp.zeros(3), jnp.zeros(())))
    assert top(operator, start=Pair(jnp.ones(3), jnp.ones(()))) == pytest.approx(2)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("share", [1.0, 0.1])
def test_an_asymmetric_product_is_refused(float64, dtype, share):
    random = np.random.default_rng(0).normal(size=(30, 30))
    matrix = jnp.asarray(random + random.T + share * (random - random.T), dtype)
    operator = measure.operator(lambda v, m: m @ v, jnp.zeros(30, dtype), matrix)
    for call in (measure.top_eigenvalues, measure.trace, measure.spectral_density):
        with pytest.raises(ValueError, match="the product is not symmetric"):
            call(operator, key=0)


def test_a_sum_over_examples_warns():
    def total(params, batch):
        return jnp.sum((batch[0] @ params["w"] - batch[1]) ** 2)

    with pytest.warns(UserWarning, match="loss_fn looks like a sum over examples: .* return the mean over the batch"):
        measure.problem(total, W, (X, Y))
    with pytest.warns(UserWarning, match="looks like a sum"):
        measure.problem(lambda p, b: total(p, b) + 1e-3 * jnp.sum(p["w"]), W, (X, Y))


def test_a_mean_with_weight_decay_or_of_one_size_is_no_sum():
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        decayed = measure.problem(lambda p, b: squared(p, b) + jnp.sum((p["w"] + 1) ** 2), W, (X, Y))
        linear = measure.problem(lambda p, b: jnp.sum((b[0] @ p["w"]) * jnp.ones(6)) / 6, W, (X, Y))
    assert caught == []
    assert top(measure.hessian_operator(decayed)) == pytest.approx(TRUTH + 2, rel=1e-4)
    assert_allclose(measure.hessian_operator(linear)({"w": jnp.ones(3)})["w"], 0)


def test_products_of_numpy_keep_64_bits(float64):
    matrix = np.diag([1.0, 2.0, 3.0]) + 1e-9
    pairs = measure.top_eigenvalues(measure.operator(lambda v: matrix @ v, jnp.zeros(3)), 3, key=0, tolerance=1e-12)
    np.testing.assert_allclose(pairs.values, np.linalg.eigvalsh(matrix)[::-1], rtol=1e-13)


def test_long_products_of_numpy_do_not_wait_for_their_own_thread():
    # A callback that copies its arguments on the only thread of this process would deadlock.
    diagonal = np.linspace(0, 1, 300_000, dtype=np.float32)
    operator = measure.operator(lambda v: diagonal * v, jnp.zeros(300_000))
    estimate = measure.trace(operator, key=0, num_probes=2, num_deflated=1)
    assert abs(estimate.value - 150_000) < 4 * estimate.standard_error + 1
