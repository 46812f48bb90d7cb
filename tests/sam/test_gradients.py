"""Properties of every ascent rule, and of rules with a state."""

import functools
import re
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from flatwide import registry, sam, trees


def assert_same_bits(actual, expected):
    assert jax.tree.structure(actual) == jax.tree.structure(expected)
    for a, b in zip(jax.tree.leaves(actual), jax.tree.leaves(expected), strict=True):
        assert a.dtype == b.dtype
        assert_array_equal(a, b)


def sgd_step(value_and_grad, params, batch, learning_rate=0.1):
    value, gradient = value_and_grad(params, batch)
    return jax.tree.map(lambda w, g: w - learning_rate * g, params, gradient), value


def stateful_step(loss_fn, rule, params, state, batch, learning_rate=0.1):
    """Take a step with any rule, with or without a state."""
    value, gradient, state = sam.stateful_value_and_grad(loss_fn, rule, has_aux=True)(params, state, batch)
    return jax.tree.map(lambda w, g: w - learning_rate * g, params, gradient), state, value


# rho = 0 is the base optimizer


def test_python_zero_is_the_program_of_jax(variant, network):
    with_sam = sam.value_and_grad(network.loss_fn, variant(0.0)._replace(init=lambda params: ()), has_aux=True)
    plain = jax.value_and_grad(network.loss_fn, has_aux=True)
    programs = [str(jax.make_jaxpr(f)(network.params, network.batches[0])) for f in (with_sam, plain)]
    # The jaxpr of a call contains the name of its function, which does not affect the computation.
    assert programs[0] == programs[1]


@pytest.mark.optimized
def test_traced_zero_is_the_base_optimizer_bit_for_bit(variant, batch_norm):
    @jax.jit
    def traced(params, state, batch, rho):
        return stateful_step(batch_norm.loss_fn, variant(rho), params, state, batch)

    @jax.jit
    def plain(params, batch):
        return sgd_step(jax.value_and_grad(batch_norm.loss_fn, has_aux=True), params, batch)

    params, state, expected = batch_norm.params, variant(0.1).init(batch_norm.params), batch_norm.params
    for batch in batch_norm.batches:
        params, state, value = traced(params, state, batch, 0.0)
        expected, expected_value = plain(expected, batch)
        assert_same_bits((params, value), (expected, expected_value))
    moved, _, _ = traced(params, state, batch_norm.batches[0], 0.1)
    assert trees.norm(trees.subtract(moved, plain(params, batch_norm.batches[0])[0])) > 1e-4


# The two passes


def test_value_and_statistics_are_those_of_the_clean_pass(variant, batch_norm):
    """For a rule that needs no clean gradient: those of the only pass, at w + eps."""
    network = batch_norm
    rule, params, batch = variant(0.5), network.params, network.batches[0]
    step = jax.jit(lambda *args: stateful_step(network.loss_fn, rule, *args))
    _, state, _ = step(params, rule.init(params), batch)
    _, _, reported = step(params, state, batch)
    if not rule.needs_clean_gradient:
        clean, params = params, trees.add(params, rule.perturb(None, params, state, 0.5)[0])
        assert abs(reported[0] - network.loss_fn(clean, batch)[0]) > 1e-3
    expected = jax.jit(lambda *arguments: network.loss_fn(*arguments))(params, batch)
    jax.tree.map(lambda a, b: assert_allclose(a, b, rtol=1e-5), reported, expected)


def test_both_passes_use_the_same_dropout_key():
    """With the masks of two keys, the second gradient would not vanish where the first one does."""
    w = jnp.arange(1.0, 101.0)

    def loss_fn(w, inputs, key):
        return jnp.sum(jax.random.bernoulli(key, 0.5, w.shape) * inputs * w**2) / 2

    value_and_grad = jax.jit(sam.value_and_grad(loss_fn, sam.unnormalized(0.5)))
    for seed in range(3):
        key = jax.random.key(seed)
        mask = np.asarray(jax.random.bernoulli(key, 0.5, w.shape))
        _, gradient = value_and_grad(w, jnp.ones(100), key)
        assert_allclose(gradient, mask * w * 1.5, rtol=1e-6)


def test_runs_that_differ_in_rho_share_a_program(variant, mlp):
    traces = []

    @jax.jit
    def step(params, state, batch, rho):
        traces.append(rho)
        return stateful_step(mlp.loss_fn, variant(rho), params, state, batch)

    # From the state after a step at rho 0, since a rule may do nothing in its first step.
    _, state, _ = step(mlp.params, variant(0.1).init(mlp.params), mlp.batches[0], 0.0)
    results = [step(mlp.params, state, mlp.batches[0], rho)[0] for rho in (0.0, 0.1, 0.2)]
    assert len(traces) == 1
    assert len({float(trees.norm(params)) for params in results}) == 3


@pytest.mark.parametrize("is_float64", [False, True])
def test_dtypes_are_those_of_the_parameters(variant, mlp, is_float64):
    dtype = np.float64 if is_float64 else np.float32
    params, batch = jax.tree.map(np.asarray, (mlp.params, mlp.batches[0]))
    with jax.enable_x64(is_float64):
        params = jax.tree.map(lambda leaf: jnp.asarray(leaf, dtype), params)
        batch = {**batch, "inputs": jnp.asarray(batch["inputs"], dtype)}
        step = jax.jit(lambda *args: stateful_step(mlp.loss_fn, variant(jnp.float32(0.1)), *args))
        params, _, (value, _) = step(params, variant(0.1).init(params), batch)
        assert {leaf.dtype for leaf in (*jax.tree.leaves(params), value)} == {np.dtype(dtype)}


def test_any_signature_of_the_loss_is_kept():
    def loss_fn(w, a, is_squared, *, offset=0.0):
        return jnp.sum(a * w**2 if is_squared else a * w) + jnp.sum(w) * offset

    value_and_grad = sam.value_and_grad(loss_fn, sam.unnormalized(0.5))
    value, gradient = value_and_grad(jnp.array([1.0]), 3.0, True, offset=2.0)
    assert_allclose(value, 5.0)
    assert_allclose(gradient, [6 * (1 + 0.5 * 8) + 2])


# Cost


PIECES = [({}, 1), ({"accumulation_steps": 4}, 4), ({"microbatch": 8}, 2)]


def evaluations(variant, rho, *, is_traced=False, **options):
    """Count how often a compiled gradient evaluates its loss."""
    count = []

    def loss_fn(w, batch):
        jax.debug.callback(lambda: count.append(1))
        return jnp.mean(w * batch)

    def gradient(rho):
        rule, w = variant(rho), jnp.ones(())
        return sam.stateful_value_and_grad(loss_fn, rule, **options)(w, rule.init(w), jnp.arange(16.0))

    jax.jit(gradient, static_argnums=() if is_traced else 0)(rho)
    jax.effects_barrier()
    return len(count)


@pytest.mark.parametrize(("rho", "expected"), [(0, 1), (0.1, 2), (np.float32(0), 1)])
@pytest.mark.parametrize(("options", "num_pieces"), PIECES)
def test_the_loss_is_evaluated_as_often_as_documented(rho, expected, options, num_pieces):
    assert evaluations(sam.normalized, rho, **options) == expected * num_pieces
    assert evaluations(sam.momentum_sam, rho, **options) == num_pieces


@pytest.mark.parametrize(("options", "num_pieces"), PIECES)
def test_skipping_at_zero_saves_the_second_gradient(options, num_pieces):
    def counts(skip_at_zero):
        options_here = options | {"is_traced": True, "skip_at_zero": skip_at_zero}
        return [evaluations(sam.normalized, rho, **options_here) for rho in (0.0, 0.1)]

    assert counts(True) == [num_pieces, 2 * num_pieces]
    assert counts(False) == [2 * num_pieces] * 2


@pytest.mark.optimized
@pytest.mark.parametrize("rule", [sam.normalized, sam.unnormalized, sam.adaptive])
def test_compiler_keeps_both_passes(rule, mlp):
    """Three products forward and five backward (the inputs need no gradient), once or twice."""

    def products(rho):
        value_and_grad = jax.jit(sam.value_and_grad(mlp.loss_fn, rule(rho), has_aux=True))
        compiled = value_and_grad.lower(mlp.params, mlp.batches[0]).compile()
        return len(re.findall(r" dot\(", compiled.as_text()))

    assert products(0) == 8
    assert products(0.1) == 16


# Rules with a state


class LookState(NamedTuple):
    step: jax.Array
    sharpness: dict  # component of the perturbed gradient orthogonal to the clean one


def look(rho, *, interval: int = 3, strength: float = 0.7) -> sam.AscentRule:
    """LookSAM (Liu et al., 2022): ascend every few steps and reuse the change of the gradient in between."""

    def is_due(state):
        return state.step % interval == 0

    def combine(clean, perturbed, params, state):
        along = trees.scale(inner(clean, perturbed) / (trees.norm(clean) ** 2 + 1e-12), clean)
        sharpness = jax.tree.map(jnp.subtract, perturbed, along)
        factor = strength * trees.norm(clean) / (trees.norm(state.sharpness) + 1e-12)
        remembered = trees.add(clean, trees.scale(factor, state.sharpness))
        # is_due was called with the state before this step, whose count is unchanged here.
        select = lambda yes, no: jax.tree.map(lambda a, b: jnp.where(is_due(state), a, b), yes, no)  # noqa: E731
        return select(perturbed, remembered), LookState(state.step + 1, select(sharpness, state.sharpness))

    return sam.AscentRule(
        rho,
        sam.normalized(rho).perturb,
        init=lambda params: LookState(jnp.zeros((), jnp.int32), jax.tree.map(jnp.zeros_like, params)),
        combine=combine,
        is_due=is_due,
    )


def inner(a, b):
    return sum(jnp.vdot(x, y) for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True))


def averaged(rho, *, decay: float = 0.9) -> sam.AscentRule:
    """Ascend along a running mean of the gradients."""

    def perturb(gradient, params, state, rho):
        state = jax.tree.map(lambda m, g: decay * m + (1 - decay) * g, state, gradient)
        return trees.scale(rho / (trees.norm(state) + 1e-12), state), state

    return sam.AscentRule(rho, perturb, init=lambda params: jax.tree.map(jnp.zeros_like, params))


def quadratic_loss(w):
    return w @ (jnp.array([1.0, 4.0]) * w) / 2


def test_state_reaches_the_next_step(float64):
    rule, w = averaged(0.5), jnp.array([3.0, 1.0])
    state, mean, curvature = rule.init(w), np.zeros(2), np.array([1.0, 4.0])
    step = jax.jit(sam.stateful_value_and_grad(quadratic_loss, rule))
    for _ in range(5):
        mean = 0.9 * mean + 0.1 * curvature * w
        expected = curvature * (w + 0.5 * mean / np.sqrt(np.sum(mean**2)))
        _, gradient, state = step(w, state)
        assert_allclose(gradient, expected, rtol=1e-10)
        w = w - 0.1 * gradient
    assert_allclose(state, mean, rtol=1e-12)


def test_steps_that_are_not_due_cost_one_gradient_and_reuse_the_last_ascent(float64):
    rule, w, curvature, count = look(0.5), np.array([3.0, 1.0]), np.array([1.0, 4.0]), []

    def loss_fn(w):
        jax.debug.callback(lambda: count.append(1))
        return quadratic_loss(w)

    step, state, across = jax.jit(sam.stateful_value_and_grad(loss_fn, rule)), rule.init(w), None
    for number in range(7):
        clean = curvature * w
        if number % 3 == 0:
            expected = curvature * (w + 0.5 * clean / np.sqrt(clean @ clean))
            across = expected - clean * (clean @ expected) / (clean @ clean)
        else:
            expected = clean + 0.7 * across * np.sqrt((clean @ clean) / (across @ across))
        _, gradient, state = step(w, state)
        assert_allclose(gradient, expected, rtol=1e-9)
        w = w - 0.1 * np.asarray(gradient)
    jax.effects_barrier()
    assert len(count) == 7 + 3


def test_whether_a_step_is_due_is_asked_before_the_perturbation():
    def perturb(gradient, params, state, rho):
        return rho * gradient, state + 1

    rule = sam.AscentRule(1.0, perturb, init=lambda w: jnp.zeros((), int), is_due=lambda state: state == 0)
    step, w = jax.jit(sam.stateful_value_and_grad(quadratic_loss, rule)), jnp.array([3.0, 1.0])
    _, first, state = step(w, rule.init(w))
    _, second, _ = step(w, state)
    assert_array_equal(first, [6.0, 20.0])
    assert_array_equal(second, [3.0, 4.0])


@pytest.mark.parametrize("rule", [sam.normalized, sam.friendly])
def test_skipped_steps_are_those_of_the_base_optimizer_and_leave_the_state_alone(mlp, rule):
    @jax.jit
    def step(state, rho):
        value_and_grad = sam.stateful_value_and_grad(mlp.loss_fn, rule(rho), has_aux=True, skip_at_zero=True)
        return value_and_grad(mlp.params, state, mlp.batches[0])

    clean = jax.jit(jax.grad(lambda w: mlp.loss_fn(w, mlp.batches[0])[0]))(mlp.params)
    state = step(rule(0.0).init(mlp.params), 0.3)[2]
    _, ascended, moved = step(state, 0.3)
    _, skipped, state_after = step(state, 0.0)
    jax.tree.map(lambda a, b: assert_allclose(a, b, rtol=1e-5, atol=1e-8), skipped, clean)
    assert trees.norm(trees.subtract(ascended, clean)) > 1e-2
    assert_same_bits(state_after, state)
    assert all(np.any(a != b) for a, b in zip(*map(jax.tree.leaves, (moved, state)), strict=True))


def test_the_momentum_of_a_rule_of_one_pass_has_the_gradients_of_skipped_steps(mlp):
    rule = sam.momentum_sam(jnp.array(0.0), momentum=0.5)
    step = sam.stateful_value_and_grad(mlp.loss_fn, rule, has_aux=True, skip_at_zero=True)
    momentum, expected = rule.init(mlp.params), trees.scale(0.0, mlp.params)
    for batch in mlp.batches[:3]:
        clean = jax.grad(lambda w, batch=batch: mlp.loss_fn(w, batch)[0])(mlp.params)
        _, gradient, momentum = step(mlp.params, momentum, batch)
        jax.tree.map(functools.partial(assert_allclose, rtol=1e-5, atol=1e-8), gradient, clean)
        expected = trees.add(trees.scale(0.5, expected), clean)
    jax.tree.map(functools.partial(assert_allclose, rtol=1e-5, atol=1e-7), momentum, expected)


def test_rule_of_one_pass_cannot_be_due_now_and_then():
    rule = sam.momentum_sam(0.1)._replace(is_due=lambda state: True)
    with pytest.raises(ValueError, match="is_due with needs_clean_gradient=False; expected one of the two"):
        sam.stateful_value_and_grad(quadratic_loss, rule)


def test_rule_with_a_state_needs_the_general_form():
    with pytest.raises(ValueError, match="expected an ascent rule without a state; use sam"):
        sam.value_and_grad(quadratic_loss, averaged(0.1))(jnp.array([3.0, 1.0]))


# Faults and names


@pytest.mark.parametrize("rho", [-0.1, float("nan"), float("inf"), np.float32(-1)])
def test_radius_out_of_range_is_refused(variant, rho):
    message = rf"rho={rho}: expected a finite number >= 0 \(0 is the base optimizer\)"
    with pytest.raises(ValueError, match=message):
        variant(rho)
    with pytest.raises(ValueError, match=message):  # of a rule that does not check it itself
        sam.value_and_grad(quadratic_loss, variant(0.1)._replace(rho=rho))


@pytest.mark.parametrize("rule", [0.05, "normalized", sam.normalized])
def test_what_is_no_rule_is_refused(rule):
    with pytest.raises(ValueError, match=r"rule=.*: expected an ascent rule, such as sam\.normalized\(0\.05\)\."):
        sam.value_and_grad(quadratic_loss, rule)


@pytest.mark.parametrize("value", [0, -1, 2.5, "8"])
@pytest.mark.parametrize(
    ("option", "alternative"),
    [("microbatch", "None for the whole batch"), ("accumulation_steps", "1 for the whole batch")],
)
def test_counts_out_of_range_are_refused(option, alternative, value):
    with pytest.raises(ValueError, match=rf"{option}={value!r}: expected an integer >= 1, or {alternative}"):
        sam.value_and_grad(quadratic_loss, sam.normalized(0.1), **{option: value})


def test_rule_in_ones_own_file_is_found_by_its_path(tmp_path):
    (tmp_path / "own.py").write_text(
        "from flatwide.sam import AscentRule\n"
        "def backward(rho, *, strength: float = 1.0):\n"
        "    return AscentRule(rho, lambda gradient, params, state, rho: (-rho * strength * gradient, state))\n"
    )
    builder = registry.find("config.sam_variant", f"{tmp_path}/own.py:backward", sam.VARIANTS)
    assert list(registry.fields(builder)) == ["strength"]
    _, gradient = sam.value_and_grad(quadratic_loss, builder(0.5, strength=0.1))(jnp.array([3.0, 1.0]))
    assert_allclose(gradient, [3 * 0.95, 4 * 0.8], rtol=1e-6)
