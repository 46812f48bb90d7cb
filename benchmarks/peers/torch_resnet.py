"""The small-image ResNet-18 in PyTorch, channels last, as `torch_sam` starts and trains it."""

import torch
import torch_sam
from torch import nn
from torch.nn import functional
from torch_sam import WEIGHTS, filled, linear, weight


def convolution(name: str, strides: int) -> nn.Conv2d:
    kernel = weight(f"{name}/kernel").data.permute(3, 2, 0, 1)
    filters, channels, size, _ = kernel.shape
    layer = nn.Conv2d(channels, filters, size, strides, size // 2, bias=False)
    layer.weight.data.copy_(kernel)
    return layer


def norm(name: str) -> nn.Module:
    return filled(nn.BatchNorm2d(len(WEIGHTS[f"{name}/scale"])), name)


class Block(nn.Module):
    """Two 3x3 convolutions around a shortcut, as in flatwide/models/resnet.py."""

    def __init__(self, name: str, strides: int):
        super().__init__()
        self.first = nn.Sequential(convolution(f"{name}/conv_1", strides), norm(f"{name}/norm_1"), nn.ReLU())
        self.second = nn.Sequential(convolution(f"{name}/conv_2", 1), norm(f"{name}/norm_2"))
        self.shortcut = nn.Identity()
        if f"{name}/shortcut/kernel" in WEIGHTS:
            self.shortcut = nn.Sequential(convolution(f"{name}/shortcut", strides), norm(f"{name}/shortcut_norm"))

    def forward(self, inputs):
        return functional.relu(self.second(self.first(inputs)) + self.shortcut(inputs))


def network() -> nn.Module:
    stem = (convolution("stem", 1), norm("stem_norm"), nn.ReLU())
    blocks = (
        Block(f"stage_{stage}_block_{block}", 2 if stage > 1 and block == 1 else 1)
        for stage in (1, 2, 3, 4)
        for block in (1, 2)
    )
    return nn.Sequential(*stem, *blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten(), linear("output"))


def channels_last(images: torch.Tensor) -> torch.Tensor:
    return images.permute(0, 3, 1, 2).contiguous(memory_format=torch.channels_last)


model = network().to(memory_format=torch.channels_last)
batches = [(channels_last(batch["inputs"]), batch["targets"].long()) for batch in torch_sam.read_batches()]
torch_sam.train(model, lambda batch: functional.cross_entropy(model(batch[0]), batch[1]), batches)
