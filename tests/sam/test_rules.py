"""Each ascent rule against its formula in NumPy; the base optimizer would fail the same test."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree
from numpy.testing import assert_allclose, assert_array_equal

from flatwide import sam

RHO = 0.3


class Quadratic:
    """loss = w'Aw / 2 + b'w over a tree with a dense and a norm layer; all formulas on flat NumPy vectors."""

    def __init__(self):
        random = np.random.default_rng(0)
        self.params = {
            "dense": {"bias": jnp.array(random.normal(size=2)), "kernel": jnp.array(random.normal(size=(2, 3)))},
            "norm": {"bias": jnp.array(random.normal(size=2)), "scale": jnp.array(random.normal(size=2))},
        }
        flat, self.unravel = ravel_pytree(self.params)
        self.w = np.asarray(flat)
        root = random.normal(size=(12, 12))
        self.a, self.b = root @ root.T, random.normal(size=12)
        # Leaves lie in the order dense/bias, dense/kernel, norm/bias, norm/scale.
        self.is_kernel = np.repeat([False, True, False, False], [2, 6, 2, 2])
        self.is_norm = np.repeat([False, False, True, True], [2, 6, 2, 2])

    def loss(self, params):
        w, _ = ravel_pytree(params)
        return w @ jnp.asarray(self.a) @ w / 2 + jnp.asarray(self.b) @ w

    def gradient(self, w):
        return self.a @ w + self.b


@pytest.fixture
def quadratic(float64) -> Quadratic:
    return Quadratic()


def normalized(problem, g):
    return RHO * g / np.sqrt(np.sum(g**2))


def unnormalized(problem, g):
    return RHO * g


def adaptive(problem, g):
    t = np.where(problem.is_kernel, np.abs(problem.w) + 0.01, 1.0)
    return RHO * t**2 * g / np.sqrt(np.sum((t * g) ** 2))


def layerwise(problem, g):
    scales = np.where(problem.is_kernel, 0.5, 3.0)
    return RHO * scales * g / np.sqrt(np.sum(g**2))


def norm_layers(problem, g):
    chosen = np.where(problem.is_norm, g, 0)
    return RHO * chosen / np.sqrt(np.sum(chosen**2))


def kernels_alone(problem, g):
    chosen = np.where(problem.is_kernel, g, 0)
    return RHO * chosen / np.sqrt(np.sum(chosen**2))


LAYER_SCALES = ("dense/kernel=0.5", ".*=3")
CASES = [
    (sam.normalized(RHO), normalized),
    (sam.unnormalized(RHO), unnormalized),
    (sam.adaptive(RHO), adaptive),
    (sam.layerwise(RHO, layer_scales=LAYER_SCALES), layerwise),
    (sam.layerwise(RHO, {"dense": {"bias": 3.0, "kernel": 0.5}, "norm": {"bias": 3.0, "scale": 3.0}}), layerwise),
    (sam.norm_layers(RHO), norm_layers),
    (sam.subset(RHO, ascent_layers=(".*/kernel",)), kernels_alone),
]
IDS = ["normalized", "unnormalized", "adaptive", "layerwise-text", "layerwise-tree", "norm_layers", "subset"]


@pytest.mark.parametrize(("rule", "formula"), CASES, ids=IDS)
def test_gradient_is_that_at_the_perturbed_point(quadratic, rule, formula):
    value, gradient = jax.jit(sam.value_and_grad(quadratic.loss, rule))(quadratic.params)
    clean = quadratic.gradient(quadratic.w)
    expected = quadratic.gradient(quadratic.w + formula(quadratic, clean))
    computed = np.asarray(ravel_pytree(gradient)[0])
    assert computed.dtype == np.float64
    assert_allclose(computed, expected, rtol=1e-10)  # 1e-12 in the norm, against norms of order 10
    assert np.max(np.abs(computed - clean)) > 0.1  # the base optimizer would fail
    assert_allclose(value, quadratic.w @ quadratic.a @ quadratic.w / 2 + quadratic.b @ quadratic.w, rtol=1e-14)


def unit(vector):
    return vector / np.sqrt(np.sum(vector**2))


def friendly_steps(problem, w, num_steps, *, sigma=0.8, decay=0.6):
    """Yield the gradients of Friendly SAM, with the mean as a sum over all gradients so far."""
    seen = []
    for _ in range(num_steps):
        seen.append(problem.gradient(w))
        mean = sum((1 - decay) * decay ** (len(seen) - 1 - i) * g for i, g in enumerate(seen))
        yield (gradient := problem.gradient(w + RHO * unit(seen[-1] - sigma * mean)))
        w = w - 0.02 * gradient


def gsam_steps(problem, w, num_steps, *, alpha=0.7):
    """Yield the gradients of GSAM, with the orthogonal component by projection on the orthogonal plane."""
    for _ in range(num_steps):
        clean = problem.gradient(w)
        perturbed = problem.gradient(w + RHO * unit(clean))
        across = (np.eye(w.size) - np.outer(unit(perturbed), unit(perturbed))) @ clean
        yield (gradient := perturbed - alpha * across)
        w = w - 0.02 * gradient


def momentum_steps(problem, w, num_steps, *, mu=0.7):
    """Yield the gradients of Momentum-SAM, with the momentum as a sum over all gradients so far."""
    taken = []
    for _ in range(num_steps):
        momentum = sum(mu ** (len(taken) - 1 - i) * g for i, g in enumerate(taken))
        taken.append(problem.gradient(w - RHO * unit(momentum) if len(taken) else w))
        yield taken[-1]
        w = w - 0.02 * taken[-1]


@pytest.mark.parametrize(
    ("rule", "steps"),
    [
        (sam.friendly(RHO, mean_gradient_weight=0.8, mean_gradient_decay=0.6), friendly_steps),
        (sam.gsam(RHO, surrogate_gap_weight=0.7), gsam_steps),
        (sam.momentum_sam(RHO, momentum=0.7), momentum_steps),
    ],
    ids=["friendly", "gsam", "momentum"],
)
def test_steps_of_a_rule_with_a_memory_or_a_mixture_are_those_of_its_formula(quadratic, rule, steps):
    step = jax.jit(sam.stateful_value_and_grad(quadratic.loss, rule))
    plain = jax.jit(sam.value_and_grad(quadratic.loss, sam.normalized(RHO)))
    params, state = quadratic.params, rule.init(quadratic.params)
    for number, expected in enumerate(steps(quadratic, quadratic.w, 5)):
        _, gradient, state = step(params, state)
        computed = np.asarray(ravel_pytree(gradient)[0])
        assert_allclose(computed, expected, rtol=1e-9)
        if number:
            assert np.max(np.abs(computed - ravel_pytree(plain(params)[1])[0])) > 1e-3
        params = jax.tree.map(lambda w, g: w - 0.02 * g, params, gradient)


def test_gsam_flattens_no_leaf():
    """Flattening would gather a leaf that is split over devices."""
    tree = {"kernel": jnp.ones((3, 4))}
    combine = sam.gsam(RHO).combine
    assert "reshape" not in str(jax.make_jaxpr(lambda a, b: combine(a, b, a, ())[0])(tree, tree))


def total(function, *operands):
    """Sum a function of corresponding leaves."""
    return sum(jnp.sum(leaf) for leaf in jax.tree.leaves(jax.tree.map(function, *operands)))


def test_functional_sam_moves_the_jacobian_and_not_the_criterion(float64):
    """Two layers z = relu(x W) v with the loss mean (z - y)^2 / 2, differentiated by hand."""
    random = np.random.default_rng(0)
    x, y, w, v = (random.normal(size=shape) for shape in ((8, 3), (8,), (3, 4), (4,)))

    def outputs(w, v):
        return np.maximum(x @ w, 0) @ v

    def gradient(w, v, slopes):
        hidden = x @ w
        return x.T @ (slopes[:, None] * (hidden > 0) * v), np.maximum(hidden, 0).T @ slopes

    def slopes(w, v):
        return (outputs(w, v) - y) / len(y)

    clean = gradient(w, v, slopes(w, v))
    moved = [a + RHO * g / np.sqrt(sum(np.sum(g**2) for g in clean)) for a, g in zip((w, v), clean, strict=True)]
    loss = sam.SplitLoss(
        lambda params: (jax.nn.relu(jnp.asarray(x) @ params["w"]) @ params["v"], ()),
        lambda z: jnp.mean((z - jnp.asarray(y)) ** 2) / 2,
    )
    params = {"w": jnp.asarray(w), "v": jnp.asarray(v)}
    for rule, at in ((sam.functional, (w, v)), (sam.normalized, moved)):
        (value, _), found = jax.jit(sam.value_and_grad(loss, rule(RHO), has_aux=True))(params)
        assert_allclose(value, np.mean((outputs(w, v) - y) ** 2) / 2, rtol=1e-12)
        expected = gradient(*moved, slopes(*at))
        assert_allclose(found["w"], expected[0], rtol=1e-10)
        assert_allclose(found["v"], expected[1], rtol=1e-10)
    with pytest.raises(ValueError, match=r"this loss is one function; give sam\.SplitLoss"):
        sam.value_and_grad(lambda params: loss(params)[0], sam.functional(RHO))


def test_the_outputs_of_the_clean_pass_are_computed_once(mlp):
    """Functional SAM costs what SAM costs: the compiler merges the two clean passes."""

    def operations(rule):
        step = jax.jit(sam.value_and_grad(mlp.loss_fn, rule, has_aux=True))
        return step.lower(mlp.params, mlp.batches[0]).compile().cost_analysis()["flops"]

    assert operations(sam.functional(RHO)) < 1.02 * operations(sam.normalized(RHO))


@pytest.mark.parametrize(("rule", "formula"), CASES, ids=IDS)
def test_zero_gradient_gives_a_zero_perturbation(quadratic, rule, formula):
    zero = jax.tree.map(jnp.zeros_like, quadratic.params)
    ascent, _ = jax.jit(lambda p: rule.perturb(zero, p, (), RHO))(quadratic.params)
    assert all(jnp.all(leaf == 0) for leaf in jax.tree.leaves(ascent))


@pytest.mark.parametrize("is_mapped", [False, True], ids=["jit", "vmap"])
def test_zero_gradient_gives_a_finite_update(variant, mlp, gradient_of, is_mapped):
    def gradient(params, rho):
        distance = lambda w: total(lambda a, b: (a - b) ** 2, w, mlp.params)  # noqa: E731
        return gradient_of(variant(rho), distance, params)[1]

    if is_mapped:
        gradient = jax.vmap(gradient, in_axes=(None, 0))
    derivative = jax.jit(gradient)(mlp.params, jnp.array([0.0, 0.1, 10.0]) if is_mapped else 10.0)
    assert all(jnp.all(jnp.isfinite(leaf)) for leaf in jax.tree.leaves(derivative))


def test_zero_gradient_is_finite_in_reverse_mode(variant, mlp, gradient_of):
    start = jax.tree.map(jnp.zeros_like, mlp.params)  # |w| has no derivative at 0 either

    def after_a_step(params, rho):
        _, gradient = gradient_of(variant(rho), lambda w: total(jnp.square, w), params)
        return total(lambda w, g: w - 0.1 * g, params, gradient)

    derivative = jax.jit(jax.grad(after_a_step, argnums=(0, 1)))(start, 0.1)
    assert all(jnp.all(jnp.isfinite(leaf)) for leaf in jax.tree.leaves(derivative))


def test_reverse_mode_through_steps_agrees_with_finite_differences(variant, float64):
    """Take two steps, since a rule may do nothing in its first step."""
    problem = Quadratic()
    loss = sam.SplitLoss(lambda params: (problem.loss(params), ()), lambda value: value)

    @jax.jit
    def after_steps(rho):
        step = sam.stateful_value_and_grad(loss, variant(rho), has_aux=True)
        _, _, state = step(problem.params, variant(rho).init(problem.params))
        _, gradient, _ = step(problem.params, state)
        return total(jnp.sin, gradient)

    numeric = (after_steps(0.3 + 1e-6) - after_steps(0.3 - 1e-6)) / 2e-6
    assert_allclose(jax.grad(after_steps)(0.3), numeric, rtol=1e-6)  # central differences, errors of order 1e-8
    assert abs(numeric) > 0.01


def test_pruned_weights_take_no_part_in_the_perturbation(variant, mlp, gradient_of):
    """The values of pruned weights change no number."""
    random = np.random.default_rng(1)
    mask = jax.tree.map(
        lambda w: jnp.asarray(random.random(w.shape) < 0.5) if w.ndim > 1 else jnp.ones(w.shape, bool), mlp.params
    )
    masked = jax.tree.map(lambda w, is_kept: jnp.where(is_kept, w, 0), mlp.params, mask)
    garbage = jax.tree.map(lambda w, is_kept: jnp.where(is_kept, w, 1e3), mlp.params, mask)

    def loss_fn(params, batch):
        return mlp.loss_fn(jax.tree.map(lambda w, is_kept: jnp.where(is_kept, w, 0), params, mask), batch)[0]

    actual, expected = (gradient_of(variant(0.5), loss_fn, params, mlp.batches[0]) for params in (garbage, masked))
    for a, b in zip(jax.tree.leaves(actual), jax.tree.leaves(expected), strict=True):
        assert_array_equal(a, b)
    for gradient, is_kept in zip(jax.tree.leaves(actual[1]), jax.tree.leaves(mask), strict=True):
        assert np.all(np.asarray(gradient)[~np.asarray(is_kept)] == 0)


def perturbation(gradient, *layer_scales):
    rule = sam.layerwise(5.0, layer_scales=layer_scales)
    assert rule.init(gradient) == ()
    return rule.perturb(gradient, gradient, (), rule.rho)[0]


def test_first_matching_pattern_decides_and_others_get_one():
    gradient = {"a": {"kernel": jnp.array([[3.0]]), "bias": jnp.array([4.0])}, "b": jnp.zeros(2) + 12 / 2**0.5}
    scaled = perturbation(gradient, "a/kernel=10", "a/.*=2")  # the norm is 13
    assert_allclose(scaled["a"]["kernel"], [[10 * 15 / 13]], rtol=1e-6)
    assert_allclose(scaled["a"]["bias"], [2 * 20 / 13], rtol=1e-6)
    assert_allclose(scaled["b"], [60 / 13 / 2**0.5] * 2, rtol=1e-6)


def test_pattern_must_match_the_whole_name():
    gradient = {"kernel": jnp.array([[3.0]]), "kernel2": jnp.array([4.0])}
    scaled = perturbation(gradient, "kernel=0")
    assert_allclose(scaled["kernel"], [[0.0]])
    assert_allclose(scaled["kernel2"], [4.0], rtol=1e-6)


MALFORMED = ["kernel", "kernel=", "=0.5", "kernel=half", "kernel=-1", "kernel=nan", "kernel=inf", "(=1"]


@pytest.mark.parametrize("text", MALFORMED)
def test_malformed_scales_are_refused_at_once(text):
    with pytest.raises(ValueError, match="layer_scales entry") as error:
        sam.layerwise(0.1, layer_scales=(".*/bias=1", text))
    assert repr(text) in str(error.value)
    assert '"pattern=factor"' in str(error.value)


@pytest.mark.parametrize(
    "idle", ["layer1/weights=2", "layer0/kernel=2"], ids=["no-such-leaf", "an-earlier-one-decides"]
)
def test_pattern_that_decides_nothing_is_refused_with_the_names_of_the_leaves(mlp, idle):
    rule = sam.layerwise(0.1, layer_scales=(".*/kernel=0.5", idle))
    message = rf"'{idle[:-2]}' decides no leaf.*Leaves: layer0/bias, layer0/kernel"
    with pytest.raises(ValueError, match=message):
        rule.init(mlp.params)
    with pytest.raises(ValueError, match=message):
        sam.value_and_grad(mlp.loss_fn, rule, has_aux=True)(mlp.params, mlp.batches[0])


def test_rule_for_norm_layers_needs_norm_layers():
    params = {"dense": {"bias": jnp.ones(2), "kernel": jnp.ones((2, 2))}}
    with pytest.raises(ValueError, match=r"no norm layers; expected leaves named scale.*dense/bias, dense/kernel"):
        sam.norm_layers(0.1).init(params)


def test_subset_needs_patterns_that_match(mlp):
    with pytest.raises(ValueError, match=r"ascent_layers=\(\): expected one or more regular expressions"):
        sam.subset(0.1)
    for text, message in (("(", "missing"), ("", "expected one of the regular expressions")):
        with pytest.raises(ValueError, match=rf"ascent_layers entry {re.escape(repr(text))}: {message}"):
            sam.subset(0.1, ascent_layers=(text,))
    with pytest.raises(ValueError, match=r"pattern 'kernel' matches no leaf.*Leaves: layer0/bias, layer0/kernel"):
        sam.subset(0.1, ascent_layers=(".*/bias", "kernel")).init(mlp.params)


def test_layerwise_takes_exactly_one_form_of_scales(mlp):
    with pytest.raises(ValueError, match=r"layer_scales=\(\) and no tree of scales: expected one of the two"):
        sam.layerwise(0.1)
    with pytest.raises(ValueError, match=r"and a tree of scales: expected one of the two"):
        sam.layerwise(0.1, mlp.params, layer_scales=(".*=1",))
