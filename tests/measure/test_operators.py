import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree
from numpy.testing import assert_allclose, assert_array_equal

from flatwide import measure, trees
from flatwide.measure import operators

STORED = pytest.mark.parametrize("is_stored", [True, False])


def dense(operator) -> np.ndarray:
    """Return the dense matrix, from products with all unit vectors."""
    flat, unflatten = ravel_pytree(operator.params)
    columns = [ravel_pytree(operator(unflatten(unit)))[0] for unit in jnp.eye(flat.size, dtype=flat.dtype)]
    return np.stack(columns, axis=1)


def pieces(batch, *sizes):
    ends = np.cumsum(sizes)
    return [jax.tree.map(lambda leaf, a=a, b=b: leaf[a:b], batch) for a, b in zip(ends - sizes, ends, strict=True)]


@STORED
def test_hessian_is_the_dense_one(mlp, is_stored):
    operator = measure.hessian_operator(mlp.problem(), is_stored=is_stored)
    assert operator.size == 79
    assert_allclose(dense(operator), mlp.hessian(), atol=1e-14)


@STORED
def test_a_mask_keeps_rows_and_columns_at_the_masked_params(mlp, is_stored):
    kernel = np.random.default_rng(2).random((5, 6)) < 0.5
    mask = [{"kernel": kernel, "bias": True}, {"kernel": True, "bias": np.array([True, False, True, True])}]
    mask.append({"kernel": True, "bias": False})
    operator = measure.hessian_operator(mlp.problem(mask=mask), is_stored=is_stored)
    kept = ravel_pytree(jax.tree.map(lambda leaf, keep: jnp.broadcast_to(keep, leaf.shape) * 1.0, mlp.params, mask))[0]
    masked = mlp._replace(params=trees.apply_mask(mlp.params, mask))
    expected = kept[:, None] * masked.hessian() * kept[None]
    assert_allclose(dense(operator), expected, atol=1e-14)
    assert operator.size == 79 - int((~kernel).sum()) - 1 - 3


def test_batches_of_any_sizes_give_the_mean_over_examples(mlp):
    expected = mlp.hessian()
    for batches, batch_size in [
        (pieces(mlp.batch, 9, 9, 2), None),
        (pieces(mlp.batch, 2, 9, 9), None),
        (mlp.batch, 9),
        (pieces(mlp.batch, 11, 9), 9),
    ]:
        operator = measure.hessian_operator(measure.problem(mlp.loss_fn, mlp.params, batches, batch_size=batch_size))
        assert_allclose(dense(operator), expected, atol=1e-14)


def test_weights_of_batches_are_the_ones_given(mlp):
    parts = pieces(mlp.batch, 4, 16)
    operator = measure.hessian_operator(
        measure.problem(mlp.loss_fn, mlp.params, parts, weigh=lambda batch: 3.0 if len(batch[1]) == 4 else 1.0)
    )
    first, second = (mlp._replace(batch=part).hessian() for part in parts)
    assert_allclose(dense(operator), (3 * first + second) / 4, atol=1e-14)


def test_more_than_the_stored_limit_is_computed_again(mlp, monkeypatch):
    assert measure.hessian_operator(mlp.problem()).open_product.is_stored
    monkeypatch.setattr(operators, "_STORED_BYTES", 1000)
    assert not measure.hessian_operator(mlp.problem()).open_product.is_stored


def test_a_second_operator_of_one_shape_compiles_nothing(mlp, caplog):
    def measured(params, batch):
        operator = measure.hessian_operator(measure.problem(mlp.loss_fn, params, batch))
        measure.top_eigenvalues(operator, 2, key=jax.random.key(0))
        measure.trace(operator, key=jax.random.key(0), num_probes=2, num_deflated=3)
        measure.spectral_density(operator, key=jax.random.key(0), num_probes=2, num_steps=4)

    measured(mlp.params, mlp.batch)
    params, batch = jax.tree.map(lambda leaf: 2 * leaf, mlp.params), (mlp.batch[0] + 1, mlp.batch[1])
    with jax.log_compiles():
        measured(params, batch)
    assert [record.message for record in caplog.records if "Finished XLA compilation" in record.message] == []


def test_an_operator_of_your_own_is_masked(float64):
    matrix = jnp.asarray(np.random.default_rng(0).normal(size=(3, 3)))
    operator = measure.operator(lambda v, matrix: matrix @ v, jnp.zeros(3), matrix, mask=np.array([True, False, True]))
    expected = np.array(matrix)
    expected[1] = expected[:, 1] = 0
    assert_array_equal(dense(operator), expected)
    assert operator.size == 2


def test_signs_and_normals_are_independent_and_masked(float64):
    params = {"a": jnp.zeros((3, 50)), "b": jnp.zeros(1000)}
    mask = {"a": True, "b": np.arange(1000) < 950}
    operator = measure.operator(lambda v: v, params, mask=mask)
    for draw, fourth in ((operators.random_signs, 1), (operators.random_normal, 3)):
        rows = np.stack([ravel_pytree(draw(operator, key))[0] for key in jax.random.split(jax.random.key(0), 400)])
        assert_array_equal(rows[:, 1100:], 0)
        kept = rows[:, :1100]
        # Each of these is a mean of n numbers; the limits are 5 standard errors.
        assert abs(np.mean(kept)) < 5 / kept.size**0.5
        assert abs(np.mean(kept**4) - fourth) < 5 * 96**0.5 / kept.size**0.5
        products = kept.T @ kept / 400
        assert abs(np.mean(products[~np.eye(1100, dtype=bool)] ** 2) * 400 - 1) < 0.02


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"params": [{"kernel": jnp.full((2, 2), jnp.nan)}]}, "params at '0/kernel': expected finite numbers"),
        ({"params": []}, "params: expected at least one parameter."),
        ({"params": jnp.arange(3)}, "params of type int32: expected real floating-point numbers of one type"),
        ({"mask": {"other": True}}, "mask: expected the structure of params"),
        ({"mask": False}, "mask: expected at least one kept weight; it keeps none."),
        ({"mask": np.ones(4, bool)}, "mask at '' of shape (4,): expected one that broadcasts to the shape (3,)"),
        ({"mask": np.ones((2, 3), bool)}, "mask at '' of shape (2, 3): expected one that broadcasts"),
        ({"batches": jnp.zeros((0, 2))}, "batches: expected at least one example; the data set is empty."),
        ({"batches": []}, "batches: expected at least one example; the data set is empty."),
        ({"batches": (jnp.zeros(3), jnp.zeros(4))}, "batch of shapes [(3,), (4,)]: expected arrays with one common"),
        ({"batches": jnp.zeros(())}, "batch of shapes [()]: expected arrays with one common"),
        ({"batch_size": 0}, "batch_size=0: expected at least 1, or None"),
        ({"weigh": lambda _: -1.0}, "weigh: gave [-1.0]; expected weights >= 0 with a positive sum."),
        ({"weigh": lambda _: float("nan")}, "weigh: gave [nan]; expected weights >= 0"),
    ],
)
def test_bad_input_is_refused_at_once(change, message):
    arguments = {"params": jnp.zeros(3), "batches": jnp.ones((2, 3))} | change
    with pytest.raises(ValueError) as refused:
        measure.problem(lambda params, batch: jnp.sum(batch) * jnp.sum(params), **arguments)
    assert message in str(refused.value)
