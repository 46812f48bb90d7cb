"""A plain PyTorch loop of SAM on LeNet-300-100: reads `epoch STEPS` lines, answers with the seconds each took."""

import sys
import time
from importlib.metadata import version

import torch
from pytorch_optimizer import SAM

torch.set_num_threads(int(sys.argv[1]))
BATCH, EXAMPLES = 128, 60_000


def main() -> None:
    torch.manual_seed(0)
    model = torch.nn.Sequential(
        torch.nn.Linear(784, 300), torch.nn.ReLU(), torch.nn.Linear(300, 100), torch.nn.ReLU(), torch.nn.Linear(100, 10)
    )
    optimizer = SAM(
        model.parameters(), base_optimizer=torch.optim.SGD, rho=0.1, lr=0.1, momentum=0.9, weight_decay=1e-4
    )
    inputs, labels = torch.rand(EXAMPLES, 784), torch.randint(0, 10, (EXAMPLES,))

    def step(chosen):
        batch, targets = inputs[chosen], labels[chosen]
        torch.nn.functional.cross_entropy(model(batch), targets).backward()
        optimizer.first_step(zero_grad=True)
        torch.nn.functional.cross_entropy(model(batch), targets).backward()
        optimizer.second_step(zero_grad=True)

    print(f"torch {torch.__version__}, pytorch_optimizer {version('pytorch_optimizer')}", flush=True)
    for line in sys.stdin:
        order = torch.randperm(EXAMPLES)
        began = time.perf_counter()
        for index in range(int(line)):
            step(order[index * BATCH : (index + 1) * BATCH])
        print(time.perf_counter() - began, flush=True)


main()
