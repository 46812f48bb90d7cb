"""A plain PyTorch loop of SAM on the small-image ResNet-18, channels last.

Started as `torch_resnet.py THREADS WEIGHTS.npz`; reads numbers of steps, one a line, and answers each with the seconds
they took, the loss at the weights of the last step and the norm of its perturbed gradient.
"""

import sys
import time

import numpy as np
import torch
from torch import nn
from torch.nn import functional

RHO, LEARNING_RATE, MOMENTUM, WEIGHT_DECAY = 0.1, 0.1, 0.9, 5e-4  # as in resnet_step.py

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


def total_norm(tensors) -> torch.Tensor:
    return torch.linalg.vector_norm(torch.stack([torch.linalg.vector_norm(tensor) for tensor in tensors]))


def main() -> None:
    model = network().to(memory_format=torch.channels_last).train()
    parameters = list(model.parameters())
    norms = [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]
    optimizer = torch.optim.SGD(parameters, LEARNING_RATE, MOMENTUM, weight_decay=WEIGHT_DECAY)
    images = torch.from_numpy(GIVEN["inputs"]).permute(0, 3, 1, 2).contiguous(memory_format=torch.channels_last)
    labels = torch.from_numpy(GIVEN["labels"]).long()

    def step():
        loss = functional.cross_entropy(model(images), labels)
        loss.backward()
        with torch.no_grad():
            gradients = [parameter.grad for parameter in parameters]
            factor = RHO / (total_norm(gradients) + 1e-12)
            ascent = [factor * gradient for gradient in gradients]
            torch._foreach_add_(parameters, ascent)
        optimizer.zero_grad()
        for module in norms:  # running averages come from the clean pass only
            module.momentum = 0.0
        functional.cross_entropy(model(images), labels).backward()
        for module in norms:
            module.momentum = 0.1
        with torch.no_grad():
            torch._foreach_sub_(parameters, ascent)
            size = total_norm([parameter.grad for parameter in parameters])
        optimizer.step()
        optimizer.zero_grad()
        return loss, size

    print(f"torch {torch.__version__}", flush=True)
    for line in sys.stdin:
        began = time.perf_counter()
        for _ in range(int(line)):
            loss, size = step()
        loss, size = loss.item(), size.item()
        print(time.perf_counter() - began, loss, size, flush=True)


main()
