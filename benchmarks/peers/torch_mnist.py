"""LeNet-300-100 with the SAM of pytorch_optimizer, started as `torch_sam` says.

The first steps train on the batches that were carried over; later ones gather theirs from a data set of the real size.
"""

from importlib.metadata import version

import torch
import torch_sam
from pytorch_optimizer import SAM
from torch import nn
from torch.nn import functional
from torch_sam import CONFIG, linear

BATCH, EXAMPLES = CONFIG["batch_size"], 60_000


def main() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(linear("hidden_0"), nn.ReLU(), linear("hidden_1"), nn.ReLU(), linear("output"))
    optimizer = SAM(
        model.parameters(),
        base_optimizer=torch.optim.SGD,
        rho=CONFIG["rho"],
        lr=CONFIG["learning_rate"],
        momentum=CONFIG["momentum"],
        weight_decay=CONFIG["weight_decay"],
    )
    carried = torch_sam.read_batches()
    inputs, targets = torch.rand(EXAMPLES, 784), torch.randint(0, 10, (EXAMPLES,))
    order = torch.randperm(EXAMPLES)

    def batch_of(number: int) -> tuple[torch.Tensor, torch.Tensor]:
        if number < len(carried):
            return carried[number]["inputs"].flatten(1) / 255, carried[number]["targets"].long()
        first = number * BATCH % (EXAMPLES - BATCH)
        chosen = order[first : first + BATCH]
        return inputs[chosen], targets[chosen]

    def step(number: int) -> torch.Tensor:
        batch, labels = batch_of(number)
        loss = functional.cross_entropy(model(batch), labels)
        loss.backward()
        optimizer.first_step(zero_grad=True)
        functional.cross_entropy(model(batch), labels).backward()
        optimizer.second_step(zero_grad=True)
        return loss

    versions = f"torch {torch.__version__}, pytorch_optimizer {version('pytorch_optimizer')}"
    torch_sam.answer(step, list(model.parameters()), versions)


main()
