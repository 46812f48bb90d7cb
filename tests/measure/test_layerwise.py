"""Blocks of layers against blocks of the dense Hessian in 64 bits."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree
from numpy.testing import assert_allclose

from flatwide import measure, trees

DROPPED = {"kernel": np.False_, "bias": np.False_}
GROUPS = {"first": "0/*", "kernels": ["*/kernel"]}


@pytest.fixture
def members(mlp):
    """Return the flat indices of each group's entries: {name: indices}."""
    names = [
        np.full(leaf.size, trees.path_name(path)) for path, leaf in jax.tree_util.tree_leaves_with_path(mlp.params)
    ]
    flat = np.concatenate(names)
    indices = {str(layer): [i for i, name in enumerate(flat) if name.startswith(f"{layer}/")] for layer in range(3)}
    indices |= {"first": indices["0"], "kernels": [i for i, name in enumerate(flat) if name.endswith("kernel")]}
    return {name: np.array(entries) for name, entries in indices.items()}


def test_every_layers_numbers_are_those_of_its_dense_block(mlp, members):
    dense = mlp.hessian()
    slope = np.asarray(ravel_pytree(jax.grad(mlp.loss_fn)(mlp.params, mlp.batch))[0])
    measured = measure.layers(mlp.problem(), key=0, rho=0.05, num_probes=60)
    assert list(measured.layers) == ["0", "1", "2"]
    for name, layer in measured.layers.items():
        block = dense[np.ix_(members[name], members[name])]
        assert layer.num_params == len(block)
        assert layer.top_eigenvalue == pytest.approx(np.linalg.eigvalsh(block)[-1], rel=1e-6)
        assert layer.residual <= 1e-3 * layer.top_eigenvalue
        assert abs(layer.trace.value - np.trace(block)) < 4 * layer.trace.standard_error
        assert 0 < layer.trace.standard_error < 0.2 * abs(np.trace(dense))
        share = np.sum(slope[members[name]] ** 2) / np.sum(slope**2)
        assert layer.ascent_share == pytest.approx(share, rel=1e-9)
        linear = 0.05 * np.linalg.norm(slope[members[name]])
        assert linear * 0.9 < layer.sharpness < linear + 0.05**2 * layer.top_eigenvalue
    assert measured.cost > 0


def test_groups_are_shell_patterns_and_may_overlap(mlp, members):
    operator = measure.hessian_operator(mlp.problem())
    blocks, dense = measure.blocks(operator, GROUPS), mlp.hessian()
    traces = measure.block_traces(operator, GROUPS, key=0, num_deflated=len(dense))
    for name, block in blocks.items():
        truth = dense[np.ix_(members[name], members[name])]
        top = measure.top_eigenvalues(block, 2, key=1)
        assert_allclose(abs(top.values), np.sort(abs(np.linalg.eigvalsh(truth)))[::-1][:2], rtol=1e-6)
        assert block.size == len(truth)
        assert traces[name].value == pytest.approx(np.trace(truth), rel=1e-9)
        assert traces[name].standard_error == 0
        outside = np.delete(np.asarray(ravel_pytree(jax.tree.map(lambda v: v[0], top.vectors))[0]), members[name])
        assert not np.any(outside)


def test_a_mask_drops_entries_of_every_block(mlp):
    mask = jax.tree.map(lambda leaf: np.arange(leaf.size).reshape(leaf.shape) % 2 == 0, mlp.params)
    operator = measure.hessian_operator(mlp.problem(mask=mask))
    block = measure.blocks(operator)["1"]
    assert block.size == 14  # of 6 x 4 and 4
    assert measure.ascent_shares(mlp.problem(mask=mask))["1"] > 0
    operator = measure.hessian_operator(mlp.problem(mask=[mask[0], mask[1], DROPPED]))
    assert list(measure.blocks(operator)) == ["0", "1"]
    nothing = jax.tree.map(lambda leaf: np.zeros(leaf.shape, bool), mlp.params)
    nothing[0] = mask[0]
    with pytest.raises(ValueError, match="expected at least one kept weight; the mask keeps none of"):
        measure.blocks(measure.hessian_operator(mlp.problem(mask=nothing)), {"last": "2/*"})


def test_adaptive_shares_weigh_by_the_size_of_kernels():
    params = {"a": {"kernel": jnp.full((1, 1), 3.0)}, "b": {"bias": jnp.full((1,), 7.0)}}

    def loss(params):
        return jnp.sum(params["a"]["kernel"]) + jnp.sum(params["b"]["bias"])

    shares = measure.ascent_shares(measure.problem(loss, params), adaptive=True)
    assert shares["a"] == pytest.approx(3.01**4 / (3.01**4 + 1), rel=1e-5)
    flat = measure.ascent_shares(measure.problem(lambda p: 0 * loss(p), params))
    assert set(flat.values()) == {0.0}


def test_an_unknown_pattern_lists_the_leaves():
    params = {"a": jnp.ones(2), "b": jnp.ones(2)}
    with pytest.raises(ValueError, match=r"pattern 'c\*' matches no leaf of params; known: a, b"):
        measure.ascent_shares(measure.problem(lambda p: jnp.sum(p["a"]), params), groups={"c": "c*"})
    with pytest.raises(ValueError, match="expected at least one group"):
        measure.ascent_shares(measure.problem(lambda p: jnp.sum(p["a"]), params), groups={})


def test_sharpness_within_a_group_moves_no_other_weight():
    params = {"a": jnp.zeros(2), "b": jnp.zeros(3)}

    def loss(params):
        return params["a"] @ jnp.array([3.0, 4.0]) + 100 * jnp.sum(params["b"]) + jnp.sum(params["a"] ** 2)

    worst = measure.sharpness(measure.problem(loss, params), rho=0.1, within="a", key=0)
    assert worst.value == pytest.approx(0.5 + 0.01, rel=1e-3)
    assert not np.any(worst.perturbation["b"])
    average = measure.sharpness(
        measure.problem(loss, params), rho=0.1, kind="average", within=["a"], key=0, num_samples=2000
    )
    assert abs(average.value - 0.01) < 4 * average.standard_error


@pytest.mark.parametrize("num_deflated", [0, 15])
def test_the_diagonal_is_that_of_the_dense_hessian(mlp, num_deflated):
    operator, truth = measure.hessian_operator(mlp.problem()), np.diag(mlp.hessian())
    estimate = measure.diagonal(operator, key=0, num_probes=100, num_deflated=num_deflated)
    values, errors = (np.asarray(ravel_pytree(tree)[0]) for tree in (estimate.values, estimate.standard_errors))
    assert np.all(abs(values - truth) < 5 * errors + 1e-12)
    # The stated errors agree with the actual ones, whose mean square over 79 entries is known to a fifth.
    assert 0.6 < np.mean((values - truth) ** 2) / np.mean(errors**2) < 1.6
    assert estimate.num_products == 100 + num_deflated


def test_deflation_lowers_the_error_of_the_diagonal(of_spectrum, float64):
    operator = of_spectrum([100, 50, *np.linspace(0, 1, 38)])
    rough, fine = (measure.diagonal(operator, key=0, num_deflated=m).standard_errors for m in (0, 15))
    assert np.mean(fine) < 0.1 * np.mean(rough)


def test_a_diagonal_matrix_and_a_whole_space_are_exact(float64):
    truth = jnp.arange(5.0)
    diagonal = measure.diagonal(measure.operator(lambda v: truth * v, truth), key=0, num_probes=2, num_deflated=0)
    assert_allclose(diagonal.values, truth, atol=1e-12)
    assert_allclose(diagonal.standard_errors, 0, atol=1e-12)
    whole = measure.diagonal(measure.operator(lambda v: truth * v, truth), key=0, num_deflated=9)
    assert_allclose(whole.values, truth, atol=1e-12)
    assert whole.num_products == 5
    mask = np.array([True, True, False, True, True])
    masked = measure.diagonal(measure.operator(lambda v: truth * v, truth, mask=mask), key=0, num_deflated=0)
    assert_allclose(masked.values, [0, 1, 0, 3, 4], atol=1e-12)
