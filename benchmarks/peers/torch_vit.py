"""The vision transformer in PyTorch, as `torch_sam` starts and trains it. Patches are cut outside of the clock."""

import torch
import torch_sam
from torch import nn
from torch.nn import functional
from torch_sam import WEIGHTS, layer_norm, linear, weight

HEAD_SIZE = 32


class Block(nn.Module):
    """Attention and two linear layers, as in flatwide/models/vit.py."""

    def __init__(self, name: str):
        super().__init__()
        for layer in ("query", "key", "value", "attention_output", "hidden", "hidden_output"):
            setattr(self, layer, linear(f"{name}/{layer}"))
        self.attention_norm, self.hidden_norm = layer_norm(f"{name}/attention_norm"), layer_norm(f"{name}/hidden_norm")

    def forward(self, inputs):
        batch, length, size = inputs.shape
        normalized, shape = self.attention_norm(inputs), (batch, length, max(1, size // HEAD_SIZE), -1)
        heads = [layer(normalized).view(shape).transpose(1, 2) for layer in (self.query, self.key, self.value)]
        averages = functional.scaled_dot_product_attention(*heads).transpose(1, 2).reshape(batch, length, size)
        inputs = inputs + self.attention_output(averages)
        hidden = functional.gelu(self.hidden(self.hidden_norm(inputs)), approximate="tanh")
        return inputs + self.hidden_output(hidden)


class ViT(nn.Module):
    """Patches, positions, blocks, and a linear layer on the mean over the patches."""

    def __init__(self):
        super().__init__()
        self.patches, self.output, self.output_norm = linear("patches"), linear("output"), layer_norm("output_norm")
        self.positions = weight("position/embedding")
        names = sorted({name.split("/")[1] for name in WEIGHTS if name.startswith("blocks/")})
        self.blocks = nn.Sequential(*(Block(f"blocks/{name}") for name in names))

    def forward(self, patches):
        return self.output(self.output_norm(self.blocks(self.patches(patches) + self.positions)).mean(dim=1))


def cut_patches(images: torch.Tensor) -> torch.Tensor:
    """Cut images [B, H, W, C] into squares [B, T, size^2 C]."""
    batch, side, _, channels = images.shape
    size = round((len(WEIGHTS["patches/kernel"]) // channels) ** 0.5)
    squares = images.view(batch, side // size, size, side // size, size, channels).transpose(2, 3)
    return squares.reshape(batch, -1, size * size * channels)


model = ViT()
batches = [(cut_patches(batch["inputs"]), batch["targets"].long()) for batch in torch_sam.read_batches()]
torch_sam.train(model, lambda batch: functional.cross_entropy(model(batch[0]), batch[1]), batches)
