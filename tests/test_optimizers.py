"""Optimizers against optax, against their formulas, and together with SAM's ascent and pruned weights."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from flatwide import optimizers, registry, sam, trees

LEARNING_RATE = 0.1


@pytest.fixture
def params(float64):
    random = np.random.default_rng(0)
    shapes = {"kernel": (3, 2), "bias": (2,), "scale": (2,)}
    return {"layer": {name: jnp.asarray(random.normal(size=shape)) for name, shape in shapes.items()}}


def loss_fn(params):
    """Have a gradient that is not linear in the parameters."""
    return sum(jnp.sum(jnp.cosh(leaf + 0.3)) for leaf in jax.tree.leaves(params))


PLAIN = jax.value_and_grad(loss_fn)


ELSEWHERE = {"friendly", "momentum", "functional"}  # rules whose steps, or whose losses, tests/sam checks


def run(optimizer, params, *, num_steps=10, weight_decay=0.0, value_and_grad=PLAIN):
    @jax.jit
    def step(params, state, weight_decay):
        _, gradient = value_and_grad(params)
        direction, state = optimizer.update(gradient, state, params, weight_decay)
        return optimizers.apply(params, direction, LEARNING_RATE), state

    state = optimizer.init(params)
    for _ in range(num_steps):
        params, state = step(params, state, weight_decay)
    return params


def run_optax(transformation, params, *, num_steps=10):
    @jax.jit
    def step(params, state):
        updates, state = transformation.update(jax.grad(loss_fn)(params), state, params)
        return optax.apply_updates(params, updates), state

    state = transformation.init(params)
    for _ in range(num_steps):
        params, state = step(params, state)
    return params


def assert_close(actual, expected):
    jax.tree.map(lambda a, b: assert_allclose(a, b, rtol=1e-12), actual, expected)


ADAM = {"adam_betas": (0.8, 0.95), "adam_epsilon": 1e-3}
SAME = [
    ("sgd", {}, 0.0, lambda: optax.sgd(LEARNING_RATE)),
    ("sgd", {"momentum": 0.9}, 0.0, lambda: optax.sgd(LEARNING_RATE, 0.9)),
    ("sgd", {"momentum": 0.9, "nesterov": True}, 0.0, lambda: optax.sgd(LEARNING_RATE, 0.9, nesterov=True)),
    ("adam", ADAM, 0.0, lambda: optax.adam(LEARNING_RATE, 0.8, 0.95, 1e-3)),
    ("adamw", ADAM, 0.2, lambda: optax.adamw(LEARNING_RATE, 0.8, 0.95, 1e-3, weight_decay=0.2)),
    ("sgd", {"momentum": 0.9}, 0.2, lambda: decayed(optax.sgd(LEARNING_RATE, 0.9))),
    ("adam", ADAM, 0.2, lambda: decayed(optax.adam(LEARNING_RATE, 0.8, 0.95, 1e-3))),
]


def decayed(transformation):
    return optax.chain(optax.add_decayed_weights(0.2), transformation)


@pytest.mark.parametrize(("name", "fields", "weight_decay", "reference"), SAME)
def test_ten_steps_agree_with_optax(params, name, fields, weight_decay, reference):
    trained = run(optimizers.build(name, **fields), params, weight_decay=weight_decay)
    assert_close(trained, run_optax(reference(), params))


# The place of decay


@pytest.mark.parametrize("name", optimizers.OPTIMIZERS)
def test_all_leaves_decay_unless_a_mask_says_which(params, name):
    zero = jax.tree.map(jnp.zeros_like, params)
    for decay_mask, decaying in ((None, {"kernel", "bias", "scale"}), (trees.kernels, {"kernel"})):
        optimizer = optimizers.build(name, decay_mask=decay_mask)
        direction, _ = optimizer.update(zero, optimizer.init(params), params, 0.5)
        assert {key for key, leaf in direction["layer"].items() if jnp.any(leaf != 0)} == decaying


@pytest.mark.parametrize("variant", sorted(set(sam.VARIANTS) - {"layerwise", "norm_layers", "subset", *ELSEWHERE}))
def test_decay_is_not_ascended(float64, variant):
    """One step by hand on loss a w^2 / 2: the ascent sees the gradient of the loss alone, the decay w as it is."""
    kernel, a, decay, rho = 2.0, 3.0, 0.4, 0.1
    rule = registry.find("", variant, sam.VARIANTS)(rho)
    lengths = {"unnormalized": rho * a * kernel, "adaptive": rho * (kernel + 0.01)}
    epsilon = lengths.get(variant, rho)
    params = {"kernel": jnp.full((1, 1), kernel)}
    value_and_grad = sam.value_and_grad(lambda p: a * jnp.sum(p["kernel"] ** 2) / 2, rule)
    trained = run(optimizers.build("sgd"), params, num_steps=1, weight_decay=decay, value_and_grad=value_and_grad)
    expected = kernel - LEARNING_RATE * (a * (kernel + epsilon) + decay * kernel)
    assert_allclose(trained["kernel"][0, 0], expected, rtol=1e-11)


# The place of clipping


def test_clipping_is_by_global_norm_before_decay_and_momentum(params):
    optimizer = optimizers.build("sgd", momentum=0.9, gradient_clip=0.5)
    gradient = jax.tree.map(lambda leaf: 10 * leaf, params)
    clipped = jax.tree.map(lambda g: 0.5 * g / trees.norm(gradient), gradient)
    direction, state = optimizer.update(gradient, optimizer.init(params), params, 0.2)
    decayed = jax.tree.map(lambda c, w: c + 0.2 * w, clipped, params)
    assert_close(direction, decayed)
    direction, _ = optimizer.update(gradient, state, params, 0.2)
    assert_close(direction, jax.tree.map(lambda d: 1.9 * d, decayed))


@pytest.mark.parametrize("name", optimizers.OPTIMIZERS)
def test_short_and_zero_gradients_are_not_clipped(params, name):
    clipping, plain = optimizers.build(name, gradient_clip=1e3), optimizers.build(name)
    for factor in (0.0, 1.0):
        gradient = jax.tree.map(lambda leaf: factor * leaf, params)  # noqa: B023
        clipped, expected = (jax.jit(o.update)(gradient, o.init(params), params, 0.0)[0] for o in (clipping, plain))
        jax.tree.map(assert_array_equal, clipped, expected)
        assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(clipped))


def test_clipping_acts_on_the_final_gradient_and_not_on_the_ascent(params):
    value_and_grad = sam.value_and_grad(loss_fn, sam.unnormalized(0.05))
    _, gradient = value_and_grad(params)
    assert trees.norm(gradient) > 1
    expected = jax.tree.map(lambda w, g: w - LEARNING_RATE * g / trees.norm(gradient), params, gradient)
    optimizer = optimizers.build("sgd", gradient_clip=1.0)
    assert_close(run(optimizer, params, num_steps=1, value_and_grad=value_and_grad), expected)


# Pruned weights


OPTIONS = {"layerwise": {"layer_scales": (".*/kernel=0.5",)}, "subset": {"ascent_layers": (".*/kernel",)}}
STEPPERS = [
    ("sgd", {"momentum": 0.9, "nesterov": True, "gradient_clip": 0.5}),
    ("adam", {}),
    ("adamw", {"gradient_clip": 0.5}),
]


@pytest.mark.parametrize(("name", "fields"), STEPPERS)
@pytest.mark.parametrize("variant", sorted(set(sam.VARIANTS) - ELSEWHERE))
def test_pruned_weights_stay_exactly_zero(params, variant, name, fields):
    mask = {"layer": {"kernel": jnp.array([[1, 0], [0, 1], [1, 0]], bool), "bias": True, "scale": True}}
    rule = functools.partial(registry.find("", variant, sam.VARIANTS), **OPTIONS.get(variant, {}))(0.5)
    value_and_grad = sam.value_and_grad(lambda p: loss_fn(trees.apply_mask(p, mask)), rule)
    start = trees.apply_mask(params, mask)
    trained = run(optimizers.build(name, **fields), start, num_steps=3, weight_decay=0.1, value_and_grad=value_and_grad)
    moved = jax.tree.map(lambda a, b: np.asarray(a != b), trained, start)["layer"]
    assert_array_equal(np.asarray(trained["layer"]["kernel"] == 0), ~np.asarray(mask["layer"]["kernel"]))
    assert_array_equal(moved["kernel"], mask["layer"]["kernel"])
    assert np.all(moved["bias"])


# Interface


def test_decay_and_rate_are_traced(params):
    optimizer, traces = optimizers.build("sgd", momentum=0.9), []

    @jax.jit
    def step(params, state, weight_decay, learning_rate):
        traces.append(1)
        direction, state = optimizer.update(jax.grad(loss_fn)(params), state, params, weight_decay)
        return optimizers.apply(params, direction, learning_rate)

    results = [step(params, optimizer.init(params), w, r) for w, r in ((0.0, 0.1), (0.1, 0.1), (0.1, 0.2))]
    assert len(traces) == 1
    assert len({float(trees.norm(result)) for result in results}) == 3


@pytest.mark.parametrize("name", optimizers.OPTIMIZERS)
def test_parameters_and_state_keep_their_types(float64, name):
    params = {"kernel": jnp.ones((2, 2), jnp.float32)}
    optimizer = optimizers.build(name, momentum=0.9, gradient_clip=1.0)
    state = optimizer.init(params)
    direction, after = jax.jit(optimizer.update)(params, state, params, jnp.float64(0.1))
    assert optimizers.apply(params, direction, np.float64(0.1))["kernel"].dtype == jnp.float32
    assert jax.tree.map(jnp.result_type, after) == jax.tree.map(jnp.result_type, state)


CHANGES = {"momentum": 0.5, "nesterov": True, "adam_betas": (0.5, 0.6), "adam_epsilon": 0.1}


@pytest.mark.parametrize("name", optimizers.OPTIMIZERS)
@pytest.mark.parametrize("field", CHANGES)
def test_an_optimizer_reads_the_fields_that_it_declares(params, name, field):
    base = {"momentum": 0.9}
    changed = run(optimizers.build(name, **{**base, field: CHANGES[field]}), params, num_steps=3)
    expected = run(optimizers.build(name, **base), params, num_steps=3)
    same = all(jax.tree.leaves(jax.tree.map(lambda a, b: bool(jnp.all(a == b)), changed, expected)))
    assert same == (field not in optimizers.FIELDS[name])


@pytest.mark.parametrize(
    ("name", "fields", "message"),
    [
        ("adamm", {}, r"optimizer='adamm' is not known\. Did you mean 'adam'\? Known: adam, adamw, sgd\."),
        ("sgd", {"momentum": 1.0}, r"momentum=1\.0: expected a number in \[0, 1\)\."),
        ("sgd", {"momentum": float("nan")}, r"momentum=nan: expected"),
        ("adam", {"adam_betas": (0.9, 1.0)}, r"adam_betas=\(0\.9, 1\.0\): expected two numbers in \[0, 1\)"),
        ("adam", {"adam_betas": (0.9,)}, r"adam_betas=\(0\.9,\): expected two numbers"),
        ("adam", {"adam_epsilon": 0.0}, r"adam_epsilon=0\.0: expected a number > 0"),
        ("sgd", {"gradient_clip": 0.0}, r"gradient_clip=0\.0: expected a number > 0, or None for no clipping\."),
    ],
)
def test_numbers_out_of_range_are_refused(name, fields, message):
    with pytest.raises(ValueError, match=message):
        optimizers.build(name, **fields)
