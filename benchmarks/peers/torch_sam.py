"""What the PyTorch peers share: weights, batches, and SAM around an optimizer. Not a program of its own.

A peer is started as `torch_X.py FOLDER WAY`, where the folder has config.json, weights.npz and batches.npz as
`harness.carry_over` writes them.
"""

import json
import os
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import nn

FOLDER, WAY = Path(sys.argv[1]), sys.argv[2]
CONFIG = json.loads((FOLDER / "config.json").read_text())
WEIGHTS = dict(np.load(FOLDER / "weights.npz"))
RATE, DECAY = CONFIG["learning_rate"], CONFIG["weight_decay"]
ADAM = {"betas": CONFIG["adam_betas"], "eps": CONFIG["adam_epsilon"], "weight_decay": DECAY, "fused": True}
OPTIMIZERS = {
    "sgd": lambda parameters: torch.optim.SGD(parameters, RATE, CONFIG["momentum"], weight_decay=DECAY),
    "adam": lambda parameters: torch.optim.Adam(parameters, RATE, **ADAM),
    "adamw": lambda parameters: torch.optim.AdamW(parameters, RATE, **ADAM),
}
torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))


def weight(name: str) -> nn.Parameter:
    return nn.Parameter(torch.from_numpy(WEIGHTS[name]).clone())


def linear(name: str) -> nn.Linear:
    layer = nn.Linear(*WEIGHTS[f"{name}/kernel"].shape, bias=f"{name}/bias" in WEIGHTS)
    layer.weight = nn.Parameter(weight(f"{name}/kernel").data.T.contiguous())
    if layer.bias is not None:
        layer.bias = weight(f"{name}/bias")
    return layer


def embedding(name: str) -> nn.Embedding:
    return nn.Embedding.from_pretrained(weight(f"{name}/embedding").data, freeze=False)


def filled(norm: nn.Module, name: str) -> nn.Module:
    """Set the scale and bias of a norm of any kind."""
    norm.weight, norm.bias = weight(f"{name}/scale"), weight(f"{name}/bias")
    return norm


def layer_norm(name: str) -> nn.Module:
    return filled(nn.LayerNorm(len(WEIGHTS[f"{name}/scale"]), eps=1e-6), name)


def read_batches() -> list[dict[str, torch.Tensor]]:
    batches: dict[int, dict[str, torch.Tensor]] = {}
    for name, array in np.load(FOLDER / "batches.npz").items():
        step, _, key = name.partition("/")
        batches.setdefault(int(step), {})[key] = torch.from_numpy(array)
    return [batches[step] for step in sorted(batches)]


def total_norm(tensors: Sequence[torch.Tensor]) -> torch.Tensor:
    return torch.linalg.vector_norm(torch.stack(torch._foreach_norm(tensors)))


def train(model: nn.Module, loss_of: Callable[..., torch.Tensor], batches: Sequence) -> None:
    """Answer with steps of the config's optimizer, with SAM around it if rho > 0; `loss_of` takes a batch."""
    parameters = [parameter for parameter in model.train().parameters() if parameter.requires_grad]
    norms = [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]
    optimizer = OPTIMIZERS[CONFIG["base_optimizer"]](parameters)

    def ascend(number: int, batch) -> None:
        """Replace the gradients by those at the perturbed weights."""
        with torch.no_grad():
            gradients = [parameter.grad for parameter in parameters]
            factor = CONFIG["rho"] / (total_norm(gradients) + 1e-12)
            ascent = torch._foreach_mul(gradients, factor.item())
            torch._foreach_add_(parameters, ascent)
        optimizer.zero_grad()
        for norm in norms:  # running averages come from the clean pass only
            norm.momentum = 0.0
        torch.manual_seed(number)  # the second pass drops what the first did
        loss_of(batch).backward()
        for norm in norms:
            norm.momentum = 0.1
        with torch.no_grad():
            torch._foreach_sub_(parameters, ascent)

    def step(number: int) -> torch.Tensor:
        batch = batches[number % len(batches)]
        torch.manual_seed(number)
        loss = loss_of(batch)
        loss.backward()
        if CONFIG["rho"] > 0:
            ascend(number, batch)
        if CONFIG["gradient_clip"] is not None:
            nn.utils.clip_grad_norm_(parameters, CONFIG["gradient_clip"])
        optimizer.step()
        optimizer.zero_grad()
        return loss

    answer(step, parameters, f"torch {torch.__version__}")


def answer(step: Callable[[int], torch.Tensor], parameters: Sequence[torch.Tensor], versions: str) -> None:
    """Read numbers of steps, one a line; answer each with the wall and processor seconds that they took, how far the
    weights are from their start, and the loss of each step.
    """
    initial, taken = [parameter.detach().clone() for parameter in parameters], 0
    print(versions, flush=True)
    for line in sys.stdin:
        wall, processor = time.perf_counter(), time.process_time()
        losses = [step(number) for number in range(taken, taken + int(line))]
        losses = [loss.item() for loss in losses]
        seconds = time.perf_counter() - wall, time.process_time() - processor
        taken += len(losses)
        with torch.no_grad():
            distance = total_norm(torch._foreach_sub(list(parameters), initial)).item()
        print(*seconds, distance, *losses, flush=True)
