"""The graph network: the paper's sizes, a dense oracle in NumPy, padding that changes nothing, second derivatives."""

import jax
import jax.flatten_util
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose

from flatwide import objectives, trees, workloads
from flatwide.data import graphs
from flatwide.models.gcn import gcn
from flatwide.models.mlp import mlp
from flatwide.types import Categories

NUM_TASKS = 3


def made(seed=0, num_graphs=6, num_features=9):
    """Make graphs of 1 to 8 nodes, some without edges, with labels."""
    random = np.random.default_rng(seed)
    num_nodes = random.integers(1, 9, num_graphs)
    num_nodes[:2] = (1, 8)
    num_edges = np.where(num_nodes == 1, 0, random.integers(0, 10, num_graphs))
    edges = [random.integers(0, nodes, (edges, 2)) for nodes, edges in zip(num_nodes, num_edges, strict=True)]
    edges = [np.where(pair[:, :1] == pair[:, 1:], (0, 1), pair) for pair in edges]
    collected = graphs.Graphs(
        random.integers(0, 12, (num_nodes.sum(), num_features)).astype(np.uint8),
        graphs.node_numbers(np.concatenate(edges), 8),
        num_nodes,
        num_edges,
        random.integers(-1, 2, (num_graphs, NUM_TASKS)).astype(np.int8),
    )
    everything = np.arange(num_graphs)
    return graphs.dataset(collected, everything, everything)


def prepared(dataset, batch=None):
    return dataset.prepare(dataset.train.arrays if batch is None else batch, None, train=False)


def weights(model, seed=1):
    params, stats = jax.jit(model.init)(jax.random.key(0))
    flat, unflatten = jax.flatten_util.ravel_pytree(params)
    return unflatten(flat + 0.3 * np.random.default_rng(seed).normal(size=flat.size)), stats


@pytest.mark.parametrize(("hidden_size", "count"), [(128, 184_192), (256, 695_936), (512, 2_702_464)])
def test_number_of_parameters(hidden_size, count):
    model = gcn(made().example, 128, hidden_size=hidden_size)
    params = jax.eval_shape(model.init, jax.random.key(0))[0]
    assert trees.size(params) == count
    d = hidden_size
    assert count == d * 9 + d + 5 * (2 * d * d + 4 * d) + (d + 1) * 128


@pytest.mark.usefixtures("float64")
def test_outputs_are_those_of_dense_matrices():
    dataset = made()
    model = gcn(dataset.example, NUM_TASKS, hidden_size=5, num_layers=2)
    params, stats = weights(model)
    outputs = jax.jit(lambda batch: model.apply(params, stats, prepared(dataset, batch)["inputs"], train=False)[0])(
        dataset.train.arrays
    )

    def dense(rows, name):
        return rows @ np.asarray(params[name]["kernel"]) + np.asarray(params[name]["bias"])[None]

    def norm(rows, name):
        rows = rows - rows.mean(axis=1, keepdims=True)
        rows = rows / np.sqrt((rows**2).mean(axis=1, keepdims=True) + 1e-6)
        return rows * np.asarray(params[name]["scale"])[None] + np.asarray(params[name]["bias"])[None]

    arrays = dataset.train.arrays["inputs"]
    for graph, output in enumerate(outputs):
        nodes, edges = arrays["num_nodes"][graph], arrays["edges"][graph, : arrays["num_edges"][graph]]
        adjacency = np.eye(nodes)
        for source, target in edges:
            adjacency[source, target] += 1
            adjacency[target, source] += 1
        root = np.sqrt(adjacency.sum(axis=1))
        rows = dense(arrays["nodes"][graph, :nodes].astype(float), "embed")
        for step in range(2):
            update = rows
            for layer in range(2):
                update = np.maximum(dense(update, f"step_{step}_dense_{layer}"), 0)
            rows = norm(rows + (adjacency / root[:, None] / root[None]) @ update, f"step_{step}_norm")
        assert_allclose(output, dense(rows.mean(axis=0)[None], "output")[0], rtol=1e-10, atol=1e-10)


@pytest.mark.usefixtures("float64")
def test_padding_and_company_change_nothing():
    dataset = made()
    model = gcn(dataset.example, NUM_TASKS, hidden_size=4, num_layers=1, dropout=0.3)
    params, stats = weights(model)
    raw, padding = dataset.train.arrays, dataset.padding
    level = int(np.max(padding.sizes(raw)))
    assert level < padding.levels[-1]

    @jax.jit
    def outputs(batch):
        return model.apply(params, stats, prepared(dataset, batch)["inputs"], train=False)[0]

    @jax.jit
    def gradient(batch, seed):
        def loss(params):
            inputs = prepared(dataset, batch)["inputs"]
            outputs = model.apply(params, stats, inputs, train=True, key=jax.random.key(seed))
            return jnp.sum(outputs[0] ** 2)

        return jax.flatten_util.ravel_pytree(jax.grad(loss)(params))[0]

    whole, cut = outputs(raw), padding.cut(raw, level)
    for graph, output in enumerate(whole):
        alone = jax.tree.map(lambda array, at=graph: array[at : at + 1], raw)
        assert_allclose(outputs(alone)[0], output, rtol=1e-12)
    assert_allclose(outputs(cut), whole, rtol=1e-12)
    part = jax.tree.map(lambda array: array[2:5], cut)  # as microbatches part it
    assert_allclose(outputs(part), whole[2:5], rtol=1e-12)
    assert_allclose(gradient(cut, 3), gradient(raw, 3), rtol=1e-9, atol=1e-12)  # the same units are dropped
    assert not np.allclose(gradient(cut, 4), gradient(cut, 3))


@pytest.mark.usefixtures("float64")
@pytest.mark.slow
def test_second_derivatives_are_those_of_the_dense_hessian():
    dataset = made(num_features=2)
    model = gcn(dataset.example, NUM_TASKS, hidden_size=2, num_layers=1)
    params, stats = weights(model)
    flat, unflatten = jax.flatten_util.ravel_pytree(params)
    workload = workloads.Workload(dataset.prepare, model, objectives.binary_cross_entropy(NUM_TASKS), dataset.padding)
    batch = prepared(dataset)

    def loss(flat):
        return workloads.loss(workload, unflatten(flat), batch, stats=stats, train=False, key=None)[0]

    vector = jnp.asarray(np.random.default_rng(2).normal(size=flat.size))
    product = jax.jit(lambda flat: jax.jvp(jax.grad(loss), (flat,), (vector,))[1])(flat)
    # Differences of gradients know nothing of second derivatives.
    step = 1e-5
    gradient = jax.jit(jax.grad(loss))
    difference = (gradient(flat + step * vector) - gradient(flat - step * vector)) / (2 * step)
    assert_allclose(product, difference, rtol=1e-5, atol=1e-8)
    assert_allclose(product, jax.jit(jax.hessian(loss))(flat) @ vector, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("example", [jax.ShapeDtypeStruct((8, 8, 1), np.float32), Categories((5,), 7)])
def test_other_inputs_are_refused(example):
    with pytest.raises(ValueError, match=r"config.model='GCN' reads graphs, with nodes, edges, .*choose a data set of"):
        gcn(example, 2)


def test_other_models_refuse_graphs():
    with pytest.raises(ValueError, match=r"config.model='MLP' reads one array an example; this data set gives 4"):
        mlp(made().example, 2)
