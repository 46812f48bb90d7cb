"""A plain PyTorch loop of SAM on the small-image ResNet-18, channels last.

Started as `torch_resnet.py THREADS WEIGHTS.npz`; it answers as `torch_sam.answer` says.
"""

import sys

import numpy as np
import torch
import torch_sam
from torch import nn
from torch.nn import functional

torch.set_num_threads(int(sys.argv[1]))
GIVEN = dict(np.load(sys.argv[2]))


def convolution(name: str, strides: int) -> nn.Conv2d:
    kernel = torch.from_numpy(GIVEN[f"{name}/kernel"]).permute(3, 2, 0, 1)
    filters, channels, size, _ = kernel.shape
    layer = nn.Conv2d(channels, filters, size, strides, size // 2, bias=False)
    layer.weight.data.copy_(kernel)
    return layer


def norm(name: str) -> nn.BatchNorm2d:
    layer = nn.BatchNorm2d(len(GIVEN[f"{name}/scale"]))
    layer.weight.data.copy_(torch.from_numpy(GIVEN[f"{name}/scale"]))
    layer.bias.data.copy_(torch.from_numpy(GIVEN[f"{name}/bias"]))
    return layer


class Block(nn.Module):
    """Two 3x3 convolutions around a shortcut, as in flatwide/models/resnet.py."""

    def __init__(self, name: str, strides: int):
        super().__init__()
        self.first = nn.Sequential(convolution(f"{name}/conv_1", strides), norm(f"{name}/norm_1"), nn.ReLU())
        self.second = nn.Sequential(convolution(f"{name}/conv_2", 1), norm(f"{name}/norm_2"))
        self.shortcut = nn.Identity()
        if f"{name}/shortcut/kernel" in GIVEN:
            self.shortcut = nn.Sequential(convolution(f"{name}/shortcut", strides), norm(f"{name}/shortcut_norm"))

    def forward(self, inputs):
        return functional.relu(self.second(self.first(inputs)) + self.shortcut(inputs))


def network() -> nn.Module:
    blocks = [
        Block(f"stage_{stage}_block_{block}", 2 if stage > 1 and block == 1 else 1)
        for stage in (1, 2, 3, 4)
        for block in (1, 2)
    ]
    output = nn.Linear(*GIVEN["output/kernel"].shape)
    output.weight.data.copy_(torch.from_numpy(GIVEN["output/kernel"].T))
    output.bias.data.copy_(torch.from_numpy(GIVEN["output/bias"]))
    stem = (convolution("stem", 1), norm("stem_norm"), nn.ReLU())
    return nn.Sequential(*stem, *blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten(), output)


images = torch.from_numpy(GIVEN["inputs"]).permute(0, 3, 1, 2).contiguous(memory_format=torch.channels_last)
torch_sam.answer(network().to(memory_format=torch.channels_last), images, torch.from_numpy(GIVEN["labels"]).long())
