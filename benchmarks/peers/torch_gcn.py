"""The graph network in PyTorch, as `torch_sam` starts and trains it.

The graphs of a batch are one behind the other, without padding. Sums over neighbours are products with a sparse matrix,
made outside of the clock: gathering and `index_add_` took 1.4 times as long in all.
"""

import warnings

import torch
import torch_sam
from torch import nn
from torch.nn import functional
from torch_sam import CONFIG, WEIGHTS, layer_norm, linear

warnings.filterwarnings("ignore", message="Sparse")


class Neighbours(torch.autograd.Function):
    """The product with a symmetric matrix, which is its own transpose."""

    @staticmethod
    def forward(context, matrix, rows):
        context.matrix = matrix
        return matrix @ rows

    @staticmethod
    def backward(context, gradient):
        return None, context.matrix @ gradient


class GCN(nn.Module):
    """The layers of flatwide/models/gcn.py."""

    def __init__(self):
        super().__init__()
        steps = range(len({name.split("_dense_")[0] for name in WEIGHTS if "_dense_" in name}))
        self.embed, self.output = linear("embed"), linear("output")
        self.dense = nn.ModuleList(
            nn.ModuleList(linear(f"step_{step}_dense_{layer}") for layer in range(2)) for step in steps
        )
        self.norms = nn.ModuleList(layer_norm(f"step_{step}_norm") for step in steps)

    def forward(self, nodes, matrix, graph, counts):
        rows = self.embed(nodes)
        for dense, norm in zip(self.dense, self.norms, strict=True):
            update = rows
            for layer in dense:
                update = functional.dropout(functional.relu(layer(update), inplace=True), CONFIG["dropout"])
            rows = norm(rows + Neighbours.apply(matrix, update))
        sums = torch.zeros(len(counts), rows.shape[1]).index_add_(0, graph, rows)
        return self.output(sums / counts[:, None])


def matrix_of(edges: torch.Tensor, num_nodes: int) -> torch.Tensor:
    """Build the normalized adjacency, each node its own neighbour, as a sparse matrix."""
    loops = torch.arange(num_nodes)
    senders = torch.cat([edges[:, 0], edges[:, 1], loops])
    receivers = torch.cat([edges[:, 1], edges[:, 0], loops])
    scale = torch.zeros(num_nodes).index_add_(0, receivers, torch.ones(len(receivers))).rsqrt()
    index, shape = torch.stack([receivers, senders]), (num_nodes, num_nodes)
    return torch.sparse_coo_tensor(index, scale[senders] * scale[receivers], shape).coalesce().to_sparse_csr()


def prepared(nodes, edges, num_nodes, targets) -> tuple[tuple, torch.Tensor, torch.Tensor]:
    graph = torch.repeat_interleave(torch.arange(len(num_nodes)), num_nodes)
    inputs = (nodes.float(), matrix_of(edges, len(nodes)), graph, num_nodes.float())
    return inputs, targets.clamp(min=0).float(), (targets >= 0).float()


model = GCN()


def loss_of(batch):
    inputs, targets, is_label = batch
    losses = functional.binary_cross_entropy_with_logits(model(*inputs), targets, reduction="none")
    return torch.sum(losses * is_label) / is_label.sum()


torch_sam.train(model, loss_of, [prepared(**batch) for batch in torch_sam.read_batches()])
