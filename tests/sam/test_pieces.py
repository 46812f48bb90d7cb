"""Batches in pieces: microbatches, which have their own perturbations, and accumulation, which saves memory."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from flatwide import sam


def split_linear(random, num_examples=12):
    """Build a linear regression whose loss is a mean over items, with unequal numbers of items an example."""
    return {
        "inputs": jnp.asarray(random.normal(size=(num_examples, 4))),
        "targets": jnp.asarray(random.normal(size=num_examples)),
        "weights": jnp.asarray(random.integers(0, 4, num_examples).astype(float)),
    }


def outputs(params, batch):
    layer = params["layer"]
    return batch["inputs"] @ layer["kernel"][:, 0] * layer["scale"] + layer["bias"], ()


def criterion(outputs, batch):
    return jnp.sum(batch["weights"] * (outputs - batch["targets"]) ** 2) / jnp.sum(batch["weights"])


loss_fn = sam.SplitLoss(outputs, criterion)


def weigh(batch):
    return jnp.sum(batch["weights"])


def start(random):
    kernel, bias, scale = random.normal(size=(4, 1)), random.normal(), random.normal()
    return {"layer": {"kernel": jnp.asarray(kernel), "bias": jnp.asarray(bias), "scale": jnp.asarray(scale)}}


def assert_close(actual, expected, rtol):
    jax.tree.map(lambda a, b: assert_allclose(a, b, rtol=rtol), actual, expected)


def distance(a, b):
    return max(float(jnp.max(jnp.abs(x - y))) for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True))


@pytest.mark.parametrize("num_pieces", [2, 3])
def test_accumulation_changes_memory_only(gradient_of, variant, float64, num_pieces):
    random = np.random.default_rng(0)
    params, batch = start(random), split_linear(random)
    whole = gradient_of(variant(0.3), loss_fn, params, batch)
    accumulated = gradient_of(variant(0.3), loss_fn, params, batch, accumulation_steps=num_pieces, weigh=weigh)
    assert_close(accumulated, whole, rtol=1e-12)
    # Without weights a mean of means over unequal pieces would be another number.
    assert distance(gradient_of(variant(0.3), loss_fn, params, batch, accumulation_steps=num_pieces), whole) > 1e-3


def test_each_microbatch_is_perturbed_by_its_own_gradient(gradient_of, variant, float64):
    random = np.random.default_rng(0)
    params, batch = start(random), split_linear(random)
    step = jax.jit(sam.stateful_value_and_grad(loss_fn, variant(0.3), has_aux=True))
    state, alone = variant(0.3).init(params), []
    pieces = [{name: array[i : i + 4] for name, array in batch.items()} for i in (0, 4, 8)]
    for piece in pieces:  # the state of a rule passes from piece to piece
        (value, _), gradient, state = step(params, state, piece)
        alone.append((value, gradient))
    shares = [weigh(piece) / weigh(batch) for piece in pieces]
    expected = jax.tree.map(lambda *leaves: sum(w * leaf for w, leaf in zip(shares, leaves, strict=True)), *alone)
    averaged = gradient_of(variant(0.3), loss_fn, params, batch, microbatch=4, weigh=weigh)
    assert_close(averaged, expected, rtol=1e-12)
    whole = gradient_of(variant(0.3), loss_fn, params, batch)
    if variant(0.3).needs_clean_gradient:
        assert_close(averaged[0], whole[0], rtol=1e-12)  # the clean loss is the same
    assert distance(averaged[1], whole[1]) > 1e-3


def test_both_cut_each_microbatch(gradient_of, variant, float64):
    random = np.random.default_rng(0)
    params, batch = start(random), split_linear(random)
    batch["weights"] = batch["weights"] + 1
    expected = gradient_of(variant(0.3), loss_fn, params, batch, microbatch=6, weigh=weigh)
    averaged = gradient_of(variant(0.3), loss_fn, params, batch, microbatch=6, accumulation_steps=3, weigh=weigh)
    assert_close(averaged, expected, rtol=1e-12)


@pytest.mark.optimized
def test_one_microbatch_is_the_whole_batch_bit_for_bit(gradient_of, variant, mlp):
    def dropped(params, batch, key):
        inputs = batch["inputs"] * jax.random.bernoulli(key, 0.5, batch["inputs"].shape)
        return mlp.loss_fn(params, {**batch, "inputs": inputs})[0]

    arguments = (dropped, mlp.params, mlp.batches[0], jax.random.key(0))
    whole, single_piece = gradient_of(variant(0.3), *arguments), gradient_of(variant(0.3), *arguments, microbatch=16)
    jax.tree.map(assert_array_equal, single_piece, whole)


@pytest.mark.parametrize("options", [{"microbatch": 4}, {"accumulation_steps": 3}])
def test_empty_piece_is_ignored_whatever_it_holds(gradient_of, variant, float64, options):
    """Its loss is 0/0."""
    random = np.random.default_rng(0)
    params, batch = start(random), split_linear(random)
    rows = slice(0, 4) if "microbatch" in options else slice(0, None, 3)  # every third row is a piece
    others = np.delete(np.arange(12), np.r_[rows] if "microbatch" in options else np.arange(12)[rows])
    batch["weights"] = (batch["weights"] + 1).at[rows].set(0)
    rest = {name: array[others] for name, array in batch.items()}
    fewer = {"microbatch": 4} if "microbatch" in options else {"accumulation_steps": 2}
    in_pieces = gradient_of(variant(0.3), loss_fn, params, batch, weigh=weigh, **options)
    assert_close(in_pieces, gradient_of(variant(0.3), loss_fn, params, rest, weigh=weigh, **fewer), rtol=1e-12)


@pytest.mark.parametrize("options", [{"microbatch": 4}, {"accumulation_steps": 3}])
def test_no_weight_at_all_gives_zero(gradient_of, variant, options):
    random = np.random.default_rng(0)
    params, batch = start(random), split_linear(random)
    batch["weights"] = jnp.zeros(12)
    in_pieces = gradient_of(variant(0.3), loss_fn, params, batch, weigh=weigh, **options)
    assert all(jnp.all(leaf == 0) for leaf in jax.tree.leaves(in_pieces))


def test_empty_microbatch_leaves_the_state_alone():
    def perturb(gradient, params, state, rho):
        return rho * gradient, state + gradient

    rule = sam.AscentRule(0.1, perturb, init=jnp.zeros_like)
    step = sam.stateful_value_and_grad(
        lambda w, batch: jnp.sum(w * batch) / jnp.sum(batch), rule, microbatch=2, weigh=jnp.sum
    )
    _, _, state = step(jnp.array(1.0), jnp.array(0.0), jnp.array([0.0, 0.0, 1.0, 2.0]))
    assert state == 1


def test_state_passes_from_each_microbatch_to_the_next():
    def perturb(gradient, params, state, rho):
        return rho * state, state * 10 + gradient

    rule = sam.AscentRule(1.0, perturb, init=jnp.zeros_like)
    step = sam.stateful_value_and_grad(lambda w, batch: w**2 * jnp.mean(batch) / 2, rule, microbatch=1)
    _, gradient, state = step(jnp.array(1.0), jnp.array(0.0), jnp.array([3.0, 5.0]))
    assert state == 3 * 10 + 5
    assert gradient == (3 * 1 + 5 * (1 + 3)) / 2


# Value, aux and keys


def test_aux_is_the_weighted_mean_over_pieces(gradient_of):
    def with_aux(params, batch):
        return loss_fn(params, batch)[0], {"sum": jnp.sum(batch["inputs"], axis=0), "total": weigh(batch)}

    random = np.random.default_rng(0)
    params, batch = start(random), split_linear(random)
    (_, aux), _ = gradient_of(sam.normalized(0.3), with_aux, params, batch, has_aux=True, microbatch=4, weigh=weigh)
    inputs, weights = (np.asarray(batch[name]).reshape(3, 4, -1) for name in ("inputs", "weights"))
    share = weights.sum((1, 2)) / weights.sum()
    assert_allclose(aux["sum"], np.einsum("p,pd->d", share, inputs.sum(1)), rtol=1e-5)
    assert_allclose(aux["total"], np.sum(share * weights.sum((1, 2))), rtol=1e-6)


def test_aux_that_has_no_mean_is_refused():
    def with_count(w, batch):
        return jnp.mean(w * batch), {"correct": jnp.sum(batch > 0)}

    value_and_grad = sam.value_and_grad(with_count, sam.normalized(0.1), has_aux=True, microbatch=2)
    with pytest.raises(ValueError, match=r"aux leaf '1/correct' of type int(32|64): expected floating point"):
        value_and_grad(1.0, jnp.arange(4.0))


@pytest.mark.parametrize("options", [{"microbatch": 50}, {"accumulation_steps": 2}])
@pytest.mark.parametrize("is_keyword", [False, True])
def test_each_piece_has_its_own_dropout_mask_in_both_passes(options, is_keyword):
    def dropped(w, batch, key, stats):
        return jnp.mean(jax.random.bernoulli(key, 0.5, (50,)) * batch * w**2) / 2 + 0 * stats

    key, w = jax.random.key(0), jnp.arange(1.0, 51.0)
    arguments = ({"key": key, "stats": 1.0}, ()) if is_keyword else ({}, (key, 1.0))
    value_and_grad = sam.value_and_grad(dropped, sam.unnormalized(1.0), **options)
    _, gradient = value_and_grad(w, jnp.ones(100), *arguments[1], **arguments[0])
    first, second = (np.asarray(jax.random.bernoulli(jax.random.fold_in(key, i), 0.5, (50,))) / 50 for i in range(2))
    assert np.any(first != second)
    if "microbatch" in options:
        expected = (first * (1 + first) + second * (1 + second)) / 2 * w
    else:
        expected = (first + second) / 2 * (1 + (first + second) / 2) * w
    assert_allclose(gradient, expected, rtol=1e-6)


@pytest.mark.optimized
def test_memory_is_that_of_a_piece():
    def temporary_bytes(**options):
        # One wide hidden layer: activations are nearly all of the memory.
        params = {"kernel": jnp.ones((8, 256)), "out": jnp.ones((256, 1))}
        value_and_grad = sam.value_and_grad(
            lambda p, x: jnp.mean(jnp.tanh(x @ p["kernel"]) @ p["out"]), sam.normalized(0.1), **options
        )
        compiled = jax.jit(value_and_grad).lower(params, jnp.ones((4096, 8))).compile()
        return compiled.memory_analysis().temp_size_in_bytes

    whole = temporary_bytes()
    assert whole > 4096 * 256 * 4
    assert temporary_bytes(accumulation_steps=16) < whole / 6
    assert temporary_bytes(microbatch=256) < whole / 6


# Faults


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"microbatch": 5}, r"microbatch=5: expected a divisor of the batch size 12"),
        ({"microbatch": 24}, r"microbatch=24: expected a divisor of the batch size 12"),
        ({"accumulation_steps": 5}, r"accumulation_steps=5: expected a divisor of the 12 examples that share"),
        ({"accumulation_steps": 3, "microbatch": 4}, r"accumulation_steps=3: expected a divisor of the 4 examples"),
    ],
)
def test_batch_that_cannot_be_cut_is_refused(options, message):
    random = np.random.default_rng(0)
    with pytest.raises(ValueError, match=message):
        sam.value_and_grad(loss_fn, sam.normalized(0.1), has_aux=True, **options)(start(random), split_linear(random))


@pytest.mark.parametrize("wrong", [jnp.ones(11), jnp.ones(())])
def test_batch_without_a_common_leading_axis_is_refused(wrong):
    random = np.random.default_rng(0)
    batch = {**split_linear(random), "weights": wrong}
    with pytest.raises(ValueError, match=r"batch with leaves of shapes .*'weights': \((11,)?\).*one leading axis"):
        sam.value_and_grad(loss_fn, sam.normalized(0.1), has_aux=True, microbatch=4)(start(random), batch)
