"""Graphs of a batch: always room for all, and little of it empty."""

import jax
import jax.numpy as jnp
import numpy as np
from numpy.testing import assert_array_equal

from flatwide.data import graphs

RANDOM = np.random.default_rng(0)
NODES = np.minimum(3 + RANDOM.geometric(0.06, 4000), 150)  # as uneven as molecules are
EDGES = np.maximum(NODES - 1 + RANDOM.integers(-1, 5, 4000), 0)
PADDING = graphs.padding(NODES, EDGES)


def batch_of(chosen, numbers=np):
    return {"inputs": {"num_nodes": numbers.asarray(NODES[chosen]), "num_edges": numbers.asarray(EDGES[chosen])}}


def level_of(batch):
    return PADDING.levels[np.searchsorted(PADDING.levels, np.max(PADDING.sizes(batch)))]


def test_every_batch_has_room():
    largest = np.argsort(NODES)
    batches = [RANDOM.choice(4000, size) for size in (1, 2, 5, 30, 200) for _ in range(20)]
    batches += [largest[:1], largest[-1:], largest[-50:], np.argsort(EDGES / NODES)[-40:]]
    for chosen in batches:
        batch = batch_of(chosen)
        rooms = PADDING.cut(batch, level_of(batch))["inputs"]
        assert rooms["node_capacity"].shape[0] == len(chosen)
        assert rooms["node_capacity"].shape[1] >= NODES[chosen].sum()
        assert rooms["edge_capacity"].shape[1] >= EDGES[chosen].sum()


def test_little_of_the_room_is_empty():
    used = capacity = 0
    for _ in range(100):
        batch = batch_of(RANDOM.choice(4000, 128, replace=False))
        used, capacity = used + batch["inputs"]["num_nodes"].sum(), capacity + 128 * level_of(batch)
    assert 1 - used / capacity < 0.2


def test_sizes_are_the_same_when_traced():
    for chosen in (np.arange(1), np.arange(7), np.arange(300)):
        traced = jax.jit(PADDING.sizes)(batch_of(chosen, jnp))
        assert_array_equal(traced, PADDING.sizes(batch_of(chosen)))


def test_many_nodes_take_two_bytes():
    assert graphs.node_numbers([(0, 255)], 256).dtype == np.uint8
    assert graphs.node_numbers([(0, 256)], 257).dtype == np.uint16
