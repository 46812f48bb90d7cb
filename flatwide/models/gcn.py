"""The graph convolutional network of Flax's ogbg-molpcba example."""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn

from flatwide.models import linen
from flatwide.models.dropout import dropout
from flatwide.types import Array, Model, PyTree

DROPOUT = 0.1
NUM_STEPS = 5
NUM_DENSE = 2  # of the network that updates the nodes in each step
_ARRAYS = {"nodes": 2, "edges": 2, "num_nodes": 0, "num_edges": 0}  # axes of an example's


class Packed(NamedTuple):
    """The graphs of a batch, concatenated to one graph of M rows; the rows behind the last node are padding."""

    nodes: Array  # [M, F]
    graph: Array  # [M], which graph a row belongs to; B for padding
    item: Array  # [M], the number of the node in its graph
    senders: Array  # [2 E], each edge in both directions
    receivers: Array  # [2 E]; M for padding, which no sum counts
    scale: Array  # [M, 1], 1 / sqrt(degree), where each node is its own neighbour too


class GCN(nn.Module):
    """Layers `embed`, `step_0_dense_0`, `step_0_dense_1`, `step_0_norm`, `step_1_dense_0`, ..., `output`."""

    hidden_size: int
    num_layers: int
    num_outputs: int
    dropout: float
    half_precision: bool

    @nn.compact
    def __call__(self, inputs, *, train: bool):
        dtypes = linen.dtypes(half_precision=self.half_precision)
        dense = functools.partial(linen.dense, dtypes=dtypes)

        def drop(rows: Array) -> Array:
            if not train or self.dropout == 0:
                return rows
            return dropout(
                rows, rate=self.dropout, key=self.make_rng("dropout"), example=graphs.graph, item=graphs.item
            )

        graphs, num_graphs = pack(inputs), len(inputs["num_nodes"])
        rows = dense(self.hidden_size, name="embed")(graphs.nodes).astype(dtypes.full)
        for step in range(self.num_layers):
            update = rows
            for layer in range(NUM_DENSE):
                update = drop(jax.nn.relu(dense(self.hidden_size, name=f"step_{step}_dense_{layer}")(update)))
            rows = rows + _neighbours(graphs, update.astype(dtypes.full))
            rows = nn.LayerNorm(dtype=dtypes.full, param_dtype=dtypes.full, name=f"step_{step}_norm")(rows)
        sums = jax.ops.segment_sum(rows, graphs.graph, num_graphs, indices_are_sorted=True)
        means = sums / jnp.maximum(inputs["num_nodes"], 1).astype(sums.dtype)[:, None]
        return dense(self.num_outputs, name="output")(means).astype(dtypes.full)


def pack(inputs: PyTree) -> Packed:
    """Concatenate the graphs of a batch.

    Args:
      inputs: "nodes" [B, n, F], "edges" [B, e, 2] of node numbers, each edge once, "num_nodes" [B], "num_edges" [B];
        and, in a batch that was cut, "node_capacity" [B, M] and "edge_capacity" [B, E], whose shapes give the rows for
        all nodes and all edges of the batch. Without them M = B n and E = B e.
    """
    nodes, edges = inputs["nodes"], inputs["edges"]
    graph, item, first = _rows(inputs["num_nodes"], _capacity(inputs, "node_capacity", nodes))
    owner, number, _ = _rows(inputs["num_edges"], _capacity(inputs, "edge_capacity", edges))
    last = len(nodes) - 1
    is_edge = owner <= last
    owner = jnp.minimum(owner, last)
    ends = edges[owner, number] + first[owner][:, None]
    senders, receivers = (jnp.where(is_edge, end, len(graph)) for end in (ends[:, 0], ends[:, 1]))
    senders, receivers = jnp.concatenate([senders, receivers]), jnp.concatenate([receivers, senders])
    degrees = 1 + jax.ops.segment_sum(jnp.ones(receivers.shape, nodes.dtype), receivers, len(graph))
    features = jnp.where((graph <= last)[:, None], nodes[jnp.minimum(graph, last), item], 0)
    return Packed(
        nodes=features,
        graph=graph,
        item=item,
        senders=senders,
        receivers=receivers,
        scale=jax.lax.rsqrt(degrees)[:, None],
    )


def _capacity(inputs: PyTree, name: str, array: Array) -> int:
    """Return the number of rows that hold a batch, or a part of one."""
    most = array.shape[0] * array.shape[1]
    return min(inputs[name].shape[1], most) if name in inputs else most


def _rows(counts: Array, capacity: int) -> tuple[Array, Array, Array]:
    """Return for each row its example and its number within the example, and the first row of each example."""
    ends = jnp.cumsum(counts)
    first = ends - counts
    rows = jnp.arange(capacity, dtype=ends.dtype)
    example = jnp.searchsorted(ends, rows, side="right")
    number = rows - first[jnp.minimum(example, len(counts) - 1)]
    return example, jnp.where(example < len(counts), number, 0), first


def _neighbours(graphs: Packed, rows: Array) -> Array:
    """Add up each node and its neighbours, each divided by the roots of both degrees."""
    rows = rows * graphs.scale
    sent = rows.at[graphs.senders].get(mode="fill", fill_value=0)
    return (rows + jax.ops.segment_sum(sent, graphs.receivers, len(rows))) * graphs.scale


def gcn(
    example: PyTree,
    num_outputs: int,
    *,
    hidden_size: int = 128,
    num_layers: int | None = None,
    dropout: float | None = None,
    half_precision: bool = False,
) -> Model:
    """Build a graph convolutional network with skip connections, layer norm and mean pooling.

    Args:
      example: one graph: "nodes" [n, F], "edges" [e, 2], "num_nodes" and "num_edges".
      hidden_size: d, the width of everything between the first and the last layer.
      num_layers: steps of message passing; None is 5.
      dropout: after each ReLU, in training; None is 0.1.
      half_precision: multiply in bfloat16; parameters, sums over neighbours and outputs stay in float32.
    Returns: Model; outputs [B, num_outputs]. LeCun-normal kernels, zero biases. It has no `preactivations`, since
      the number of ReLUs differs between graphs.
    Raises: ValueError for inputs that are not graphs.
    Equation: h = W_0 x + b_0; in each step h = LayerNorm(h + S u), where u is h after two layers with ReLU and dropout,
      S = D^(-1/2) (A + I) D^(-1/2), A counts the edges between two nodes and D is the diagonal of A + I's row sums;
      outputs = W mean_nodes(h) + b. d F + d + num_layers (2 d^2 + 4 d) + (d + 1) num_outputs parameters.
    Source: Flax's ogbg-molpcba example, GraphConvNet; Kipf and Welling (2017). The example's virtual node is left out,
      and each node is its own neighbour once, there twice.
    """
    size = linen.check_size("hidden_size", hidden_size)
    steps = NUM_STEPS if num_layers is None else linen.check_size("num_layers", num_layers)
    linen.check_graphs("GCN", example, _ARRAYS)
    rate = DROPOUT if dropout is None else dropout
    return linen.from_linen(GCN(size, steps, num_outputs, rate, half_precision), example)
