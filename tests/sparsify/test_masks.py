"""Masks keep exactly the weights with the highest scores."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

from flatwide import sparsify, trees
from flatwide.models.mlp import mlp
from flatwide.sparsify.densities import erk_counts, kept_of
from flatwide.sparsify.masks import keep_highest

PRUNERS = ("random", "magnitude", "snip")
DENSITIES = ("uniform", "erk", "global")
KEY = jax.random.key(0)


def network(*, sizes=(12, 7, 5), seed=0):
    """Draw a multilayer perceptron's parameters and a gradient."""
    generator = np.random.default_rng(seed)

    def layers():
        return {
            f"layer_{i}": {
                "kernel": generator.normal(size=(size, size_out)).astype(np.float32),
                "bias": generator.normal(size=size_out).astype(np.float32),
            }
            for i, (size, size_out) in enumerate(itertools.pairwise(sizes))
        }

    return layers(), layers()


def masked(params, gradients=None, **options):
    options = {"pruner": "magnitude", "sparsity": 0.5, "layer_density": None, "key": KEY} | options
    return sparsify.make_mask(params, gradients=gradients, **options)


def kept(mask):
    return [count.kept for count in sparsify.layer_counts(mask).values()]


# ---- Counts.


@settings(deadline=None, max_examples=40)
@given(
    sizes=st.lists(st.integers(1, 9), min_size=2, max_size=5),
    sparsity=st.sampled_from([0.001, 0.1, 0.25, 0.5, 0.9, 0.95, 0.999]),
    pruner=st.sampled_from(PRUNERS),
    density=st.sampled_from(DENSITIES),
)
def test_counts_are_exact_for_every_pruner_and_density(sizes, sparsity, pruner, density):
    params, gradients = network(sizes=tuple(sizes))
    mask = masked(params, gradients, pruner=pruner, sparsity=sparsity, layer_density=density)
    shapes = [layer["kernel"].shape for layer in params.values()]
    sizes = [a * b for a, b in shapes]
    total = kept_of(sum(sizes), sparsity=sparsity)
    if density == "uniform":
        assert kept(mask) == [kept_of(size, sparsity=sparsity) for size in sizes]
    elif density == "erk":
        assert kept(mask) == erk_counts(shapes, total=total)
    assert density == "uniform" or sum(kept(mask)) == total
    num_nonzero = sparsify.num_nonzero_params(params, mask)
    assert num_nonzero == sum(kept(mask)) + sum(b for _, b in shapes)
    planned = sparsify.num_kept(params, pruner=pruner, sparsity=sparsity, layer_density=density)
    assert planned == num_nonzero


def test_nonzero_parameters_of_the_papers_network():
    model = mlp(jax.ShapeDtypeStruct((28, 28, 1), np.float32), 10)
    params, _ = jax.eval_shape(model.init, KEY)

    def count(**options):
        return sparsify.num_kept(params, **({"pruner": "random", "sparsity": 0.9, "layer_density": None} | options))

    assert count() == 23_520 + 3_000 + 100 + 410
    assert count(sparsity=0.0) == count(pruner="none") == sparsify.num_nonzero_params(params, None) == 266_610


def test_width_one_at_the_highest_sparsity():
    params, _ = network(sizes=(784, 1, 10))
    mask = masked(params, sparsity=0.999)
    assert sum(kept(mask)) == 1  # 0.794
    empty = masked(params, sparsity=0.999, layer_density="uniform", pruner="random")
    assert sparsify.layer_counts(empty) == {"layer_0/kernel": (1, 784), "layer_1/kernel": (0, 10)}
    assert sparsify.num_nonzero_params(params, empty) == 1 + 11
    smaller, _ = network(sizes=(64, 1, 10))
    assert sum(kept(masked(smaller, sparsity=0.999))) == 0


@pytest.mark.parametrize("options", [{"pruner": "none"}, {"sparsity": 0.0}, {"sparsity": 0}])
def test_nothing_to_prune_is_no_mask(options):
    params, _ = network()
    assert masked(params, **options) is None
    assert sparsify.layer_counts(None) == {}


# ---- Choice of weights.


def test_mask_has_the_shape_of_kernels_and_is_one_true_elsewhere():
    params, _ = network()
    mask = masked(
        params | {"norm": {"scale": np.ones(5, np.float32)}, "table": {"embedding": np.ones((4, 5), np.float32)}}
    )
    for layer in params:
        assert mask[layer]["kernel"].shape == params[layer]["kernel"].shape
        assert mask[layer]["kernel"].dtype == bool
    for leaf in (mask["layer_0"]["bias"], mask["norm"]["scale"], mask["table"]["embedding"]):
        assert leaf.shape == ()
        assert leaf.dtype == bool
        assert leaf


def test_magnitude_keeps_the_largest_of_all_kernels():
    params, _ = network()
    mask = masked(params, sparsity=0.7)
    flat = np.concatenate([np.abs(layer["kernel"]).ravel() for layer in params.values()])
    expected = np.zeros(flat.size, bool)
    expected[np.argsort(-flat, kind="stable")[: kept_of(flat.size, sparsity=0.7)]] = True
    assert_array_equal(np.concatenate([mask[layer]["kernel"].ravel() for layer in params]), expected)


def test_default_densities():
    params, gradients = network()
    params["layer_0"]["kernel"] *= 1000  # so that the other kernel loses if all compete
    assert kept(masked(params, pruner="random")) == [42, 18]  # 17.5 goes to the even neighbour
    assert kept(masked(params, pruner="magnitude")) == [60, 0]
    assert kept(masked(params, gradients, pruner="snip"))[0] > 55


@pytest.mark.parametrize("density", DENSITIES)
def test_among_equal_scores_the_earlier_weights_are_kept(density):
    params = {"a": {"kernel": np.ones((2, 3))}, "b": {"kernel": -np.ones((3, 2))}}
    mask = masked(params, sparsity=0.5, layer_density=density)
    first_half = [True] * 3 + [False] * 3
    expected = [[True] * 6, [False] * 6] if density == "global" else [first_half, first_half]
    assert_array_equal(mask["a"]["kernel"].ravel(), expected[0])
    assert_array_equal(mask["b"]["kernel"].ravel(), expected[1])


@given(scores=st.lists(st.integers(0, 4), min_size=1, max_size=30), part=st.floats(0, 1))
def test_keep_highest_agrees_with_a_stable_sort(scores, part):
    num_kept = round(part * len(scores))
    expected = np.zeros(len(scores), bool)
    expected[np.argsort(-np.array(scores), kind="stable")[:num_kept]] = True
    cut = len(scores) // 2
    marked = keep_highest([np.array(scores[:cut]), np.array(scores[cut:])], num_kept=num_kept)
    assert_array_equal(np.concatenate(marked), expected)


def test_random_mask_is_a_function_of_the_key_and_of_the_kernels_name():
    params, _ = network()
    first, again = masked(params, pruner="random"), masked(params, pruner="random")
    jax.tree.map(assert_array_equal, first, again)
    other = masked(params, pruner="random", key=jax.random.key(1))
    alone = masked({"layer_1": params["layer_1"]}, pruner="random")
    assert not np.array_equal(first["layer_0"]["kernel"], other["layer_0"]["kernel"])
    assert_array_equal(first["layer_1"]["kernel"], alone["layer_1"]["kernel"])
    same_shapes = {"a": {"kernel": np.ones((9, 9))}, "b": {"kernel": np.ones((9, 9))}}
    mask = masked(same_shapes, pruner="random")
    assert not np.array_equal(mask["a"]["kernel"], mask["b"]["kernel"])


def test_random_mask_favours_no_position_and_no_weight():
    kernel = np.repeat([[1.0], [100.0]], 5000, axis=0)
    mask = masked({"kernel": kernel}, pruner="random", sparsity=0.9)["kernel"]
    # Of 1,000 weights kept of 10,000, the number in one half is hypergeometric: 500, standard deviation 15.
    assert abs(int(mask[:5000].sum()) - 500) < 60
    assert abs(int(mask[::2].sum()) - 500) < 60


def test_random_mask_is_the_same_in_64_bit_mode():
    params, _ = network()
    narrow = masked(params, pruner="random")
    with jax.enable_x64(True):
        wide = masked(params, pruner="random", key=jax.random.key(0))
    jax.tree.map(assert_array_equal, narrow, wide)


# ---- SNIP.


def squared_error(params, batch):
    return jnp.mean((batch["inputs"] @ params["kernel"] - batch["targets"]) ** 2)


def example(*inputs, target):
    return {"inputs": np.array([inputs], np.float32), "targets": np.array([[target]], np.float32)}


def test_snip_by_hand():
    """The output is 11.5, so the gradient is 23 x; |w * gradient| ranks neither as |w| nor as |gradient| does."""
    params = {"kernel": jnp.array([[3.0], [2.0], [0.1]])}
    gradient = sparsify.snip_gradient(squared_error, params, [example(1, 4, 5, target=0)])
    assert_allclose(gradient["kernel"].ravel(), [23, 92, 115], rtol=1e-6)
    for sparsity, expected in ((0.6, [False, True, False]), (0.3, [True, True, False])):
        mask = masked(params, gradient, pruner="snip", sparsity=sparsity)
        assert_array_equal(mask["kernel"].ravel(), expected)


def test_snip_averages_gradients_and_not_their_sizes():
    """Each batch alone would rank the first weight first, but their gradients of it cancel."""
    params = {"kernel": jnp.array([[1.0], [1.0]])}
    batches = [example(4, 1, target=4), example(4, -3, target=2)]  # residuals 1 and -1
    for used, gradient, expected in (
        (batches[:1], [8, 2], [True, False]),
        (batches[1:], [-8, 6], [True, False]),
        (batches, [0, 4], [False, True]),
    ):
        mean_gradient = sparsify.snip_gradient(squared_error, params, iter(used))
        assert_allclose(mean_gradient["kernel"].ravel(), gradient, rtol=1e-6)
        assert_array_equal(masked(params, mean_gradient, pruner="snip")["kernel"].ravel(), expected)


def test_snip_compiles_a_loss_once():
    traced = []

    def loss_fn(params, batch):
        traced.append(batch)
        return squared_error(params, batch)

    params = {"kernel": jnp.array([[1.0], [1.0]])}
    for batch in (example(4, 1, target=4), example(4, -3, target=2)):
        sparsify.snip_gradient(loss_fn, params, [batch])
    assert len(traced) == 1


def test_snip_ranks_products_that_underflow_in_float32():
    params, gradients = {"kernel": np.float32([[1e-30, 2e-30]])}, {"kernel": np.float32([[1e-20, 1e-20]])}
    mask = masked(params, gradients, pruner="snip", sparsity=0.5)
    assert_array_equal(mask["kernel"], [[False, True]])


def test_snip_warns_if_it_cannot_rank():
    params, gradients = network()
    gradients["layer_0"]["kernel"] *= 0
    with pytest.warns(UserWarning, match=r"exactly 0 in all of 1 of 2 kernels \(the first: layer_0/kernel\)"):
        mask = masked(params, gradients, pruner="snip", sparsity=0.5)
    assert sum(kept(mask)) == 60


# ---- Errors.


def test_snip_without_gradients_or_batches_is_an_error():
    params, _ = network()
    with pytest.raises(ValueError, match=r"pruner='snip' needs gradients: pass gradients=snip_gradient"):
        masked(params, pruner="snip")
    with pytest.raises(ValueError, match=r"config.snip_batches=0: expected at least one batch"):
        sparsify.snip_gradient(squared_error, params, [])


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_score_that_is_not_finite_is_an_error(bad):
    params, gradients = network()
    gradients["layer_1"]["kernel"][2, 3] = bad
    with pytest.raises(ValueError, match=r"config.pruner='snip': 1 of 35 scores of layer_1/kernel are not finite"):
        masked(params, gradients, pruner="snip")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"pruner": "snap"},
            "config.pruner='snap' is not known. Did you mean 'snip'? Known: magnitude, none, random, snip.",
        ),
        ({"layer_density": "unifrom"}, "config.layer_density='unifrom' is not known. Did you mean 'uniform'?"),
        ({"sparsity": 1.0}, "config.sparsity=1.0: expected a number in [0, 1) (0 prunes nothing)."),
        ({"sparsity": -0.5}, "config.sparsity=-0.5: expected a number in [0, 1) (0 prunes nothing)."),
    ],
)
def test_unknown_names_and_bad_sparsities_are_errors(options, message):
    params, _ = network()
    options = {"pruner": "random", "sparsity": 0.5, "layer_density": None} | options
    with pytest.raises(ValueError) as caught:
        sparsify.make_mask(params, **options, key=KEY)
    assert str(caught.value).startswith(message)
    with pytest.raises(ValueError) as caught:
        sparsify.num_kept(params, **options)
    assert str(caught.value).startswith(message)


def test_masked_weights_are_zero_and_the_others_untouched():
    params, _ = network()
    mask = masked(params, pruner="random")
    applied = trees.apply_mask(params, mask)
    kernel, keeps = params["layer_0"]["kernel"], np.asarray(mask["layer_0"]["kernel"])
    assert_array_equal(applied["layer_0"]["kernel"], np.where(keeps, kernel, 0))
    assert_array_equal(applied["layer_0"]["bias"], params["layer_0"]["bias"])
