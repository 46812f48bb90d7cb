"""Graphs as arrays of one size each, and the room that the graphs of a batch take together."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np

from flatwide.data import splits
from flatwide.data.splits import Resident
from flatwide.types import Batch, Dataset, Padding, PyTree

# Capacity for the nodes of a batch, as multiples of what it takes on average: nearly all batches of 100 graphs or more
# need the first or the second. The last level, which holds a batch of the largest graphs, serves the rest.
CAPACITY_FACTORS = (1.03, 1.2)
MISSING = -1  # a label that a graph does not have


@dataclass(frozen=True)
class Graphs:
    """Graphs one after another, as they are read.

    nodes: [nodes of all graphs, F] uint8.
    edges: [edges of all, 2], numbers of nodes within their graph, each edge once.
    num_nodes, num_edges: [N], of each graph.
    labels: [N, T] int8: 0, 1 or -1, which is missing.
    """

    nodes: np.ndarray
    edges: np.ndarray
    num_nodes: np.ndarray
    num_edges: np.ndarray
    labels: np.ndarray


@dataclass(frozen=True)
class Share:
    """The rows that a batch takes, divided equally among its graphs: raw batch -> [B].

    So the graphs of a batch are packed one after another, whatever their sizes: a batch is a uniform draw, and little
    of the computation is spent on padding.

    edges_per_node: on average; edges have as many times more rows.
    """

    edges_per_node: float

    def __call__(self, batch: Batch):
        """Return the mean number of rows for nodes of a graph of the batch, rounded up."""
        inputs = batch["inputs"]
        numbers = jnp if isinstance(inputs["num_nodes"], jax.Array) else np
        nodes, edges = (numbers.sum(inputs[name], dtype=np.int32) for name in ("num_nodes", "num_edges"))
        rows = numbers.maximum(nodes, numbers.ceil(edges / self.edges_per_node).astype(np.int32))
        graphs = len(inputs["num_nodes"])
        return numbers.broadcast_to(-(-rows // graphs), (graphs,))


@dataclass(frozen=True)
class Capacity:
    """The numbers of rows of a batch, written as the shapes of two arrays: (raw batch, level) -> batch.

    A part of the batch keeps the rows of the whole, which suffice.
    """

    edges_per_node: float

    def __call__(self, batch: Batch, level: int) -> Batch:
        """Add "node_capacity" and "edge_capacity", which the model reads the shapes of."""
        graphs = len(batch["inputs"]["num_nodes"])
        nodes = graphs * level
        edges = math.ceil(nodes * self.edges_per_node) + 1  # the size was rounded in 32 bits
        sizes = {"node_capacity": nodes, "edge_capacity": edges}
        arrays = {name: jnp.zeros((graphs, size), bool) for name, size in sizes.items()}
        return batch | {"inputs": batch["inputs"] | arrays}


def dataset(graphs: Graphs, train: np.ndarray, test: np.ndarray) -> Dataset:
    """Make a data set of graphs with labels.

    Args:
      train, test: numbers of the graphs of each split.
    """
    most_nodes, most_edges = int(graphs.num_nodes.max()), max(1, int(graphs.num_edges.max()))
    parts = [_split(graphs, chosen, most_nodes, most_edges) for chosen in (train, test)]
    real = jax.dtypes.canonicalize_dtype(float)
    number = jax.ShapeDtypeStruct((), np.int32)
    example = {
        "nodes": jax.ShapeDtypeStruct((most_nodes, graphs.nodes.shape[1]), real),
        "edges": jax.ShapeDtypeStruct((most_edges, 2), np.int32),
        "num_nodes": number,
        "num_edges": number,
    }
    made = splits.dataset(*parts, prepare=prepare, num_outputs=graphs.labels.shape[1], example=example)
    return made._replace(padding=padding(graphs.num_nodes, graphs.num_edges))


def padding(num_nodes: np.ndarray, num_edges: np.ndarray) -> Padding:
    """Describe the numbers of rows that batches of such graphs are packed into."""
    mean = float(num_nodes.mean())
    edges_per_node = max(float(num_edges.mean()), 1.0) / mean
    largest = max(int(num_nodes.max()), math.ceil(num_edges.max() / edges_per_node))
    levels = sorted({math.ceil(factor * mean) for factor in CAPACITY_FACTORS})
    return Padding((*(n for n in levels if n < largest), largest), Share(edges_per_node), Capacity(edges_per_node))


def prepare(batch: Batch, key, *, train: bool) -> Batch:
    """Turn the bytes of a batch into numbers; nothing is augmented."""
    del key, train
    inputs: PyTree = dict(batch["inputs"])
    inputs["nodes"] = jnp.asarray(inputs["nodes"], float)
    for name in ("edges", "num_nodes", "num_edges"):
        inputs[name] = jnp.asarray(inputs[name], jnp.int32)
    return batch | {"inputs": inputs}


def _split(graphs: Graphs, chosen: np.ndarray, most_nodes: int, most_edges: int) -> Resident:
    inputs = {
        "nodes": _padded(graphs.nodes, graphs.num_nodes, chosen, most_nodes),
        "edges": _padded(graphs.edges, graphs.num_edges, chosen, most_edges),
        "num_nodes": graphs.num_nodes[chosen].astype(np.uint16),
        "num_edges": graphs.num_edges[chosen].astype(np.uint16),
    }
    return Resident({"inputs": inputs, "targets": graphs.labels[chosen]})


def _padded(rows: np.ndarray, counts: np.ndarray, chosen: np.ndarray, most: int) -> np.ndarray:
    """Return the rows of each chosen graph, followed by zeros; [graphs, most, ...]."""
    first = np.cumsum(counts) - counts
    padded = np.zeros((len(chosen), most, *rows.shape[1:]), rows.dtype)
    owner = np.repeat(np.arange(len(chosen)), counts[chosen])
    within = np.arange(len(owner)) - np.repeat(np.cumsum(counts[chosen]) - counts[chosen], counts[chosen])
    padded[owner, within] = rows[first[chosen][owner] + within]
    return padded


def node_numbers(edges: np.ndarray | Sequence[tuple[int, int]], most_nodes: int) -> np.ndarray:
    """Hold numbers of nodes in the smallest type: [E, 2] uint8, or uint16 where a graph has more than 256 nodes."""
    return np.asarray(edges, np.uint8 if most_nodes <= 256 else np.uint16).reshape(-1, 2)
