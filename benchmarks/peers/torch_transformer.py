"""A plain PyTorch loop of SAM around AdamW on the tagging Transformer.

Started as `torch_transformer.py THREADS FOLDER DROPOUT`, where FOLDER has weights.npz and batches.npz; reads numbers of
steps, one a line, and answers each with the wall and the processor seconds that they took and the loss of each.
"""

import math
import sys
import time
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn import functional

RHO, LEARNING_RATE, WEIGHT_DECAY = 0.05, 1e-4, 0.1  # as in transformer_step.py

torch.set_num_threads(int(sys.argv[1]))
FOLDER, DROPOUT = Path(sys.argv[2]), float(sys.argv[3])
GIVEN = dict(np.load(FOLDER / "weights.npz"))


def given(name: str) -> nn.Parameter:
    return nn.Parameter(torch.from_numpy(GIVEN[name]))


def linear(name: str) -> nn.Linear:
    layer = nn.Linear(*GIVEN[f"{name}/kernel"].shape, bias=f"{name}/bias" in GIVEN)
    layer.weight = nn.Parameter(torch.from_numpy(GIVEN[f"{name}/kernel"].T).contiguous())
    if layer.bias is not None:
        layer.bias = given(f"{name}/bias")
    return layer


def norm(name: str) -> nn.LayerNorm:
    layer = nn.LayerNorm(len(GIVEN[f"{name}/scale"]), eps=1e-6)
    layer.weight, layer.bias = given(f"{name}/scale"), given(f"{name}/bias")
    return layer


class Block(nn.Module):
    """Attention and two linear layers, as in flatwide/models/transformer.py."""

    def __init__(self, name: str):
        super().__init__()
        self.attention_norm, self.hidden_norm = norm(f"{name}/attention_norm"), norm(f"{name}/hidden_norm")
        self.query_key_value, self.attention_output = (
            linear(f"{name}/{layer}") for layer in ("query_key_value", "attention_output")
        )
        self.hidden, self.hidden_output = linear(f"{name}/hidden"), linear(f"{name}/hidden_output")

    def forward(self, inputs, is_word):
        batch, length, size = inputs.shape
        num_heads = max(1, size // 64)
        parts = self.query_key_value(self.attention_norm(inputs)).view(batch, length, 3, num_heads, size // num_heads)
        query, key, value = parts.permute(2, 0, 3, 1, 4)
        rate = DROPOUT if self.training else 0.0
        attended = functional.scaled_dot_product_attention(query, key, value, is_word, dropout_p=rate)
        attended = self.attention_output(attended.transpose(1, 2).reshape(batch, length, size))
        inputs = inputs + functional.dropout(attended, rate)
        hidden = functional.dropout(functional.elu(self.hidden(self.hidden_norm(inputs))), rate)
        return inputs + functional.dropout(self.hidden_output(hidden), rate)


class Tagger(nn.Module):
    """Word vectors, places, blocks, and a linear layer on each word."""

    def __init__(self):
        super().__init__()
        self.words = nn.Embedding.from_pretrained(torch.from_numpy(GIVEN["words/embedding"]), freeze=False)
        num_blocks = len({name.split("/")[0] for name in GIVEN if name.startswith("block_")})
        self.blocks = nn.ModuleList(Block(f"block_{number}") for number in range(1, num_blocks + 1))
        self.output_norm, self.output = norm("output_norm"), linear("output")
        size = self.words.embedding_dim
        waves = torch.exp(torch.arange(0, size, 2) * (-math.log(10_000.0) / size))
        angles = torch.arange(256)[:, None] * waves
        self.places = torch.stack([angles.sin(), angles.cos()], dim=-1).reshape(256, -1)[:, :size]

    def forward(self, tokens):
        is_word = (tokens != 0)[:, None, None, :]
        hidden = functional.dropout(self.words(tokens), DROPOUT) + self.places[: tokens.shape[1]]
        for block in self.blocks:
            hidden = block(hidden, is_word)
        return self.output(self.output_norm(hidden))


def read_batches() -> list[tuple[torch.Tensor, ...]]:
    found = dict(np.load(FOLDER / "batches.npz"))
    steps = 1 + max(int(name.split("/")[0]) for name in found)
    names = ("inputs", "targets", "weights")
    return [tuple(torch.from_numpy(found[f"{step}/{name}"].copy()) for name in names) for step in range(steps)]


def total_norm(tensors) -> torch.Tensor:
    return torch.linalg.vector_norm(torch.stack(torch._foreach_norm(tensors)))


def main() -> None:
    model = Tagger().train()
    parameters, batches = list(model.parameters()), read_batches()
    optimizer = torch.optim.AdamW(
        parameters, LEARNING_RATE, (0.9, 0.98), eps=1e-9, weight_decay=WEIGHT_DECAY, fused=True
    )

    def loss_of(batch):
        tokens, targets, weights = batch
        losses = functional.cross_entropy(model(tokens).flatten(0, 1), targets.flatten().long(), reduction="none")
        return torch.dot(losses, weights.flatten()) / weights.sum()

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
