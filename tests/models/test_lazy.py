"""Linearized and centred networks against their definitions, computed by other derivatives in float64."""

import functools

import jax
import jax.flatten_util
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from flatwide import experiment, objectives, runner, trees, workloads
from flatwide.models import lazy
from flatwide.models.mlp import mlp
from flatwide.models.resnet import resnet18
from flatwide.runs import identity
from flatwide.runs.build import shape
from flatwide.runs.load import load_run
from flatwide.workloads import Workload

IMAGE = jax.ShapeDtypeStruct((4, 4, 1), np.float64)
FIELDS = {"num_neurons": (5,), "num_train_steps": 4, "batch_size": 100, "loss": "squared", "learning_rate": 0.05}


def build(name):
    example = jax.ShapeDtypeStruct(IMAGE.shape, jnp.zeros(()).dtype)
    if name == "MLP":
        return mlp(example, 3, num_neurons=(4,))
    return resnet18(example, 3, num_filters=1, num_blocks=(1,))


def moved(params, seed=0, size=0.3):
    generator = np.random.default_rng(seed)
    return jax.tree.map(lambda leaf: leaf + size * generator.normal(size=leaf.shape), params)


def images(count=4):
    return jnp.asarray(np.random.default_rng(7).normal(size=(count, *IMAGE.shape)))


def expansion(model, params, stats, start, inputs):
    """Add up the outputs at w0 and the dense derivative, by reverse mode, times the way from w0."""

    def outputs(params):
        return model.apply(params, stats, inputs, train=False, key=None)[0]

    derivative = jax.jacrev(outputs)(start)
    terms = jax.tree.map(lambda leaf, now, then: jnp.tensordot(leaf, now - then, now.ndim), derivative, params, start)
    change = sum(jax.tree.leaves(terms))
    return outputs(start), change


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize(("name", "scale"), [("MLP", None), ("MLP", 10.0), ("ResNet18", None)])
def test_linearized_outputs_are_the_first_order_expansion(name, scale):
    model = build(name)
    start, stats = jax.jit(model.init)(jax.random.key(0))
    wrapped = lazy.linearize(model, scale=scale)
    params, wrapped_stats = jax.jit(wrapped.init)(jax.random.key(0))
    jax.tree.map(assert_array_equal, params, start)
    there, change = jax.jit(functools.partial(expansion, model))(moved(start), stats, start, images())
    expected = there + change if scale is None else scale * change
    for train in (False, True):  # batch norm stands still in both modes
        outputs, after = jax.jit(functools.partial(wrapped.apply, train=train, key=None))(
            moved(start), wrapped_stats, images()
        )
        assert_allclose(outputs, expected, rtol=1e-9, atol=1e-11)
        jax.tree.map(assert_array_equal, after, wrapped_stats)


@pytest.mark.usefixtures("float64")
def test_hessian_of_a_linearized_network_is_gauss_newton_anywhere():
    """For the squared loss it is (2 / n) sum J' J at w0, constant; the network's own Hessian is neither."""
    model = build("ResNet18")
    start, stats = jax.jit(model.init)(jax.random.key(0))
    wrapped = lazy.linearize(model)
    _, wrapped_stats = jax.jit(wrapped.init)(jax.random.key(0))
    flat, unflatten = jax.flatten_util.ravel_pytree(start)
    batch = {"inputs": images(), "targets": jnp.array([0, 2, 1, 1])}
    workload = Workload(lambda batch, key, *, train: batch, wrapped, objectives.squared(3))

    def loss(flat):
        return workloads.loss(workload, unflatten(flat), batch, stats=wrapped_stats, train=True, key=None)[0]

    @jax.jit
    def derivative(flat):
        return jax.jacrev(lambda w: model.apply(unflatten(w), stats, images(), train=False, key=None)[0])(flat)

    rows = np.asarray(derivative(flat)).reshape(-1, flat.size)
    expected = 2 / 4 * rows.T @ rows
    directions = np.random.default_rng(1).normal(size=(3, flat.size))
    points = np.asarray(flat)[None] + np.random.default_rng(2).normal(size=(3, flat.size))

    def product(point, direction):
        return jax.jvp(jax.grad(loss), (point,), (direction,))[1]

    assert_allclose(jax.jit(jax.vmap(product))(points, directions), directions @ expected, rtol=1e-9, atol=1e-10)
    linear = jax.jit(lambda directions: jax.vmap(jax.linearize(jax.grad(loss), flat)[1])(directions))
    assert_allclose(linear(directions), directions @ expected, rtol=1e-9, atol=1e-10)


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("train", [False, True])
def test_centred_outputs_are_the_scaled_difference_and_zero_at_the_start(train):
    model = build("ResNet18")
    start, stats = jax.jit(model.init)(jax.random.key(0))
    wrapped = lazy.centre(model, scale=7.0)
    _, wrapped_stats = jax.jit(wrapped.init)(jax.random.key(0))
    apply = jax.jit(wrapped.apply, static_argnames=("train", "key"))
    outputs, updated = apply(start, wrapped_stats, images(), train=train, key=None)
    assert_array_equal(outputs, np.zeros((4, 3)))
    # With averages that both copies have moved alike, it is zero in evaluation mode too.
    assert_array_equal(apply(start, updated, images(), train=False, key=None)[0], np.zeros((4, 3)))
    moved_outputs, _ = apply(moved(start), wrapped_stats, images(), train=train, key=None)
    inside = jax.jit(functools.partial(model.apply, train=train, key=None))
    now, then = (inside(weights, stats, images())[0] for weights in (moved(start), start))
    assert_allclose(moved_outputs, 7 * (np.asarray(now) - then), rtol=1e-12)


def test_a_large_scale_trains_as_the_linearized_network_does():
    """The gap to the linearized path shrinks as 1 / alpha (Chizat et al. 2019), in weights moved by about 1 / alpha."""

    def distance(scale):
        paths = []
        for linearized in (False, True):
            built = experiment.build(FIELDS | {"output_scale": scale, "linearized": linearized, "rho": 0.0})
            state = first = built.init()
            first = jax.device_get(first.params)
            for step in range(4):
                state, _ = built.train_step(state, built.batch(step))
            paths.append(jax.tree.map(lambda now, then: np.asarray(now) - then, jax.device_get(state.params), first))
        gap = float(trees.norm(jax.tree.map(jnp.subtract, *paths)))
        return gap / float(trees.norm(paths[1]))

    near, far = distance(1.0), distance(30.0)
    assert far < near / 10
    assert near > 1e-3


def test_loss_of_a_scaled_network_is_that_of_the_paper():
    """(1 / alpha^2) ||alpha f - y||^2 = ||f - y / alpha||^2, and the metric is not scaled."""
    plain = experiment.build(FIELDS)
    scaled = experiment.build(FIELDS | {"output_scale": 5.0})
    params = jax.tree.map(lambda leaf: leaf + 0.1, plain.init().params)
    batch = scaled.workload.prepare(scaled.batch(0), None, train=False)
    outputs = [
        plain.model.apply(w, {}, batch["inputs"], train=False, key=None)[0] for w in (params, plain.init().params)
    ]
    wanted = np.eye(10)[np.asarray(batch["targets"])] / 5
    expected = np.mean(np.sum((np.asarray(outputs[0]) - np.asarray(outputs[1]) - wanted) ** 2, axis=1))
    assert_allclose(scaled.loss(params, scaled.init().stats, scaled.batch(0)), expected, rtol=1e-5)
    assert scaled.workload.objective.metric is plain.workload.objective.metric


@pytest.mark.parametrize("fields", [{"linearized": True}, {"output_scale": 3.0}])
def test_pruned_weights_are_zero_at_the_start_too_and_survive_a_checkpoint(fields, tmp_path):
    config = FIELDS | fields | {"pruner": "snip", "sparsity": 0.5, "rho": 0.1}
    state = experiment.build(config).init()
    jax.tree.map(assert_array_equal, state.stats["start"], state.params)
    kept = np.asarray(state.mask["hidden_0"]["kernel"])
    assert 0 < np.sum(~kept) < kept.size
    assert not np.asarray(state.stats["start"]["hidden_0"]["kernel"])[~kept].any()
    result = runner.run(config, tmp_path, quiet=True)
    trained = load_run(next((tmp_path / "runs").iterdir()))
    jax.tree.map(assert_array_equal, trained.stats["start"], state.params)
    assert not np.asarray(trained.params["hidden_0"]["kernel"])[~kept].any()
    assert result["num_params"] == 64 * 5 + 5 + 5 * 10 + 10  # the start is no parameter


def test_weights_of_your_own_are_the_start_unless_you_bring_a_start_too():
    built = experiment.build(FIELDS | {"linearized": True})
    drawn = jax.device_get(built.init())
    given = jax.tree.map(lambda leaf: leaf + 1, drawn.params)
    alone, with_start = built.init(params=given), built.init(params=given, stats=drawn.stats)
    starts = {"drawn": drawn.params, "own": given}
    for name, tree in (("own", alone.stats["start"]), ("drawn", with_start.stats["start"]), ("own", with_start.params)):
        is_equal = {start: jax.tree.all(jax.tree.map(np.array_equal, tree, params)) for start, params in starts.items()}
        assert is_equal == {"drawn": name == "drawn", "own": name == "own"}


def test_runs_of_another_scale_are_other_runs_and_the_defaults_rename_none():
    plain = experiment.build(FIELDS)
    default_identity = identity.identity(plain.config, "data")
    assert not {"linearized", "output_scale"} & set(default_identity)
    for fields in ({"linearized": True}, {"output_scale": 1.0}, {"output_scale": 2.0}):
        other = experiment.build(FIELDS | fields)
        assert identity.identity(other.config, "data") == default_identity | fields
        assert other.step is not plain.step
        assert other.workload is not plain.workload
        assert shape(other.config) != shape(plain.config)
