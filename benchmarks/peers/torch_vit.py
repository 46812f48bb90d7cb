"""A plain PyTorch loop of SAM on the vision transformer.

Started as `torch_vit.py THREADS WEIGHTS.npz`; it answers as `torch_sam.answer` says.
"""

import sys

import numpy as np
import torch
import torch_sam
from torch import nn
from torch.nn import functional

torch.set_num_threads(int(sys.argv[1]))
GIVEN = dict(np.load(sys.argv[2]))
HEAD_SIZE = 32


def linear(name: str) -> nn.Linear:
    layer = nn.Linear(*GIVEN[f"{name}/kernel"].shape)
    layer.weight = nn.Parameter(torch.from_numpy(GIVEN[f"{name}/kernel"].T).contiguous())
    layer.bias = nn.Parameter(torch.from_numpy(GIVEN[f"{name}/bias"]))
    return layer


def norm(name: str) -> nn.LayerNorm:
    layer = nn.LayerNorm(len(GIVEN[f"{name}/scale"]), eps=1e-6)
    layer.weight = nn.Parameter(torch.from_numpy(GIVEN[f"{name}/scale"]))
    layer.bias = nn.Parameter(torch.from_numpy(GIVEN[f"{name}/bias"]))
    return layer


class Block(nn.Module):
    """Attention and two linear layers, as in flatwide/models/vit.py."""

    def __init__(self, name: str):
        super().__init__()
        for layer in ("query", "key", "value", "attention_output", "hidden", "hidden_output"):
            setattr(self, layer, linear(f"{name}/{layer}"))
        self.attention_norm, self.hidden_norm = norm(f"{name}/attention_norm"), norm(f"{name}/hidden_norm")

    def forward(self, inputs):
        batch, length, size = inputs.shape
        seen, shape = self.attention_norm(inputs), (batch, length, max(1, size // HEAD_SIZE), -1)
        heads = [layer(seen).view(shape).transpose(1, 2) for layer in (self.query, self.key, self.value)]
        averages = functional.scaled_dot_product_attention(*heads).transpose(1, 2).reshape(batch, length, size)
        inputs = inputs + self.attention_output(averages)
        hidden = functional.gelu(self.hidden(self.hidden_norm(inputs)), approximate="tanh")
        return inputs + self.hidden_output(hidden)


class ViT(nn.Module):
    """Patches, positions, blocks, and a linear layer on the mean over the patches."""

    def __init__(self):
        super().__init__()
        self.patches, self.output, self.output_norm = linear("patches"), linear("output"), norm("output_norm")
        self.positions = nn.Parameter(torch.from_numpy(GIVEN["position/embedding"]))
        names = sorted({name.split("/")[1] for name in GIVEN if name.startswith("blocks/")})
        self.blocks = nn.Sequential(*(Block(f"blocks/{name}") for name in names))

    def forward(self, cut):
        return self.output(self.output_norm(self.blocks(self.patches(cut) + self.positions)).mean(dim=1))


def cut(images: np.ndarray, num_patches: int, entries: int) -> torch.Tensor:
    """Cut the images into squares: once, so that it costs the peer no time."""
    batch, side, _, channels = images.shape
    size = round((entries // channels) ** 0.5)
    squares = images.reshape(batch, side // size, size, side // size, size, channels).transpose(0, 1, 3, 2, 4, 5)
    return torch.from_numpy(np.ascontiguousarray(squares).reshape(batch, num_patches, entries))


patches = cut(GIVEN["inputs"], len(GIVEN["position/embedding"]), len(GIVEN["patches/kernel"]))
torch_sam.answer(ViT(), patches, torch.from_numpy(GIVEN["labels"]).long())
