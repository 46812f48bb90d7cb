"""SAM around SGD in PyTorch, for the peers of image classifiers: not a program of its own."""

import sys
import time

import torch
from torch import nn
from torch.nn import functional

RHO, LEARNING_RATE, MOMENTUM, WEIGHT_DECAY = 0.1, 0.1, 0.9, 5e-4  # as in resnet_step.py


def total_norm(tensors) -> torch.Tensor:
    return torch.linalg.vector_norm(torch.stack([torch.linalg.vector_norm(tensor) for tensor in tensors]))


def answer(model: nn.Module, images: torch.Tensor, labels: torch.Tensor) -> None:
    """Read numbers of steps, one a line; answer each with the wall and processor seconds that they took, the loss and
    the norm of the perturbed gradient of the last.
    """
    parameters = list(model.train().parameters())
    norms = [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]
    optimizer = torch.optim.SGD(parameters, LEARNING_RATE, MOMENTUM, weight_decay=WEIGHT_DECAY)

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
        began, processor = time.perf_counter(), time.process_time()
        for _ in range(int(line)):
            loss, size = step()
        loss, size = loss.item(), size.item()
        print(time.perf_counter() - began, time.process_time() - processor, loss, size, flush=True)
