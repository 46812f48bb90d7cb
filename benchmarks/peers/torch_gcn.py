"""A plain PyTorch loop of SAM around Adam on the graph network.

Started as `torch_gcn.py THREADS FOLDER DROPOUT`, where FOLDER has weights.npz and batches.npz; reads numbers of
steps, one a line, and answers each with the wall and the processor seconds that they took and the loss of each.

The graphs of a batch are one behind the other, without padding. Sums over neighbours are products with a sparse matrix,
made outside of the clock: gathering and `index_add_` took 1.4 times as long in all.
"""

import sys
import time
import warnings
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn import functional

RHO, LEARNING_RATE = 0.05, 1e-3  # as in gcn_step.py

warnings.filterwarnings("ignore", message="Sparse")
torch.set_num_threads(int(sys.argv[1]))
FOLDER, DROPOUT = Path(sys.argv[2]), float(sys.argv[3])
GIVEN = dict(np.load(FOLDER / "weights.npz"))


def linear(name: str) -> nn.Linear:
    layer = nn.Linear(*GIVEN[f"{name}/kernel"].shape)
    layer.weight = nn.Parameter(torch.from_numpy(GIVEN[f"{name}/kernel"].T).contiguous())
    layer.bias = nn.Parameter(torch.from_numpy(GIVEN[f"{name}/bias"]))
    return layer


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
        num_steps = len({name.split("_dense_")[0] for name in GIVEN if "_dense_" in name})
        self.embed, self.output = linear("embed"), linear("output")
        self.dense = nn.ModuleList(
            nn.ModuleList(linear(f"step_{step}_dense_{layer}") for layer in range(2)) for step in range(num_steps)
        )
        self.norms = nn.ModuleList(nn.LayerNorm(self.embed.out_features, eps=1e-6) for _ in range(num_steps))

    def forward(self, nodes, matrix, graph, counts):
        rows = self.embed(nodes)
        for dense, norm in zip(self.dense, self.norms, strict=True):
            update = rows
            for layer in dense:
                update = functional.dropout(functional.relu(layer(update), inplace=True), DROPOUT)
            rows = norm(rows + Neighbours.apply(matrix, update))
        sums = torch.zeros(len(counts), rows.shape[1]).index_add_(0, graph, rows)
        return self.output(sums / counts[:, None])


def matrix_of(edges: torch.Tensor, num_nodes: int) -> torch.Tensor:
    """Build the normalized adjacency, each node its own neighbour, as a sparse matrix."""
    loops = torch.arange(num_nodes)
    senders = torch.cat([edges[:, 0], edges[:, 1], loops])
    receivers = torch.cat([edges[:, 1], edges[:, 0], loops])
    scale = torch.zeros(num_nodes).index_add_(0, receivers, torch.ones(len(receivers))).rsqrt()
    places, shape = torch.stack([receivers, senders]), (num_nodes, num_nodes)
    return torch.sparse_coo_tensor(places, scale[senders] * scale[receivers], shape).coalesce().to_sparse_csr()


def read_batches() -> list[tuple[torch.Tensor, ...]]:
    found = dict(np.load(FOLDER / "batches.npz"))
    batches = []
    for step in range(1 + max(int(name.split("/")[0]) for name in found)):
        names = ("nodes", "edges", "num_nodes", "targets")
        nodes, edges, counts, targets = (torch.from_numpy(found[f"{step}/{name}"].copy()) for name in names)
        graph = torch.repeat_interleave(torch.arange(len(counts)), counts)
        matrix = matrix_of(edges, len(nodes))
        is_label = targets >= 0
        batches.append((nodes.float(), matrix, graph, counts.float(), targets.clamp(min=0).float(), is_label.float()))
    return batches


def total_norm(tensors) -> torch.Tensor:
    return torch.linalg.vector_norm(torch.stack(torch._foreach_norm(tensors)))


def main() -> None:
    model = GCN().train()
    parameters, batches = list(model.parameters()), read_batches()
    optimizer = torch.optim.Adam(parameters, LEARNING_RATE, (0.9, 0.999), fused=True)

    def loss_of(batch):
        *graphs, targets, is_label = batch
        losses = functional.binary_cross_entropy_with_logits(model(*graphs), targets, reduction="none")
        return torch.sum(losses * is_label) / is_label.sum()

    def step(batch, seed: int) -> torch.Tensor:
        torch.manual_seed(seed)
        loss = loss_of(batch)
        loss.backward()
        with torch.no_grad():
            gradients = [parameter.grad for parameter in parameters]
            ascent = torch._foreach_mul(gradients, (RHO / (total_norm(gradients) + 1e-12)).item())
            torch._foreach_add_(parameters, ascent)
        optimizer.zero_grad()
        torch.manual_seed(seed)  # the second pass drops what the first did
        loss_of(batch).backward()
        with torch.no_grad():
            torch._foreach_sub_(parameters, ascent)
        optimizer.step()
        optimizer.zero_grad()
        return loss

    print(f"torch {torch.__version__}", flush=True)
    done = 0
    for line in sys.stdin:
        wall, processor = time.perf_counter(), time.process_time()
        losses = []
        for _ in range(int(line)):
            losses.append(step(batches[done % len(batches)], done))
            done += 1
        losses = [loss.item() for loss in losses]
        print(time.perf_counter() - wall, time.process_time() - processor, *losses, flush=True)


main()
