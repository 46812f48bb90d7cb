"""ResNet-18 on CIFAR-10 with SGD in plain PyTorch: an independent check of the accuracy that flatwide's recipe reaches.

    python benchmarks/peers/torch_cifar10.py DIRECTORY [--filters=4] [--epochs=8] [--seed=0]

DIRECTORY holds the binary version's files. Hyperparameters are those of configs/cifar10_resnet18.py; network, crops and
order are written here, so that numbers agree as two seeds do. Prints the test accuracy after each epoch.
"""

import time
from argparse import ArgumentParser
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn import functional

MEAN, STD = (0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)
BATCH, PADDING, CLASSES = 128, 4, 10


def read(paths: list[Path]) -> tuple[torch.Tensor, torch.Tensor]:
    """Read standardized images [N, 3, 32, 32] and labels [N]."""
    rows = np.concatenate([np.fromfile(path, np.uint8).reshape(-1, 1 + 3 * 32 * 32) for path in paths])
    images = torch.from_numpy(rows[:, 1:].reshape(-1, 3, 32, 32)).float() / 255
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (MEAN, STD))
    return (images - mean) / std, torch.from_numpy(rows[:, 0]).long()


def cropped(images: torch.Tensor) -> torch.Tensor:
    """Shift images by up to four pixels and mirror half of them, each at random."""
    count = len(images)
    padded = functional.pad(images, [PADDING] * 4)
    rows, columns = (torch.randint(0, 2 * PADDING + 1, (count, 1)) + torch.arange(32) for _ in range(2))
    example, channel = torch.arange(count).view(-1, 1, 1, 1), torch.arange(3).view(1, -1, 1, 1)
    shifted = padded[example, channel, rows[:, None, :, None], columns[:, None, None, :]]
    mirrored = torch.rand(count) < 0.5
    shifted[mirrored] = shifted[mirrored].flip(-1)
    return shifted


class Block(nn.Module):
    """Two convolutions around a shortcut."""

    def __init__(self, channels: int, filters: int, stride: int):
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(channels, filters, 3, stride, 1, bias=False),
            nn.BatchNorm2d(filters),
            nn.ReLU(),
            nn.Conv2d(filters, filters, 3, 1, 1, bias=False),
            nn.BatchNorm2d(filters),
        )
        changes = stride > 1 or channels != filters
        projection = (nn.Conv2d(channels, filters, 1, stride, bias=False), nn.BatchNorm2d(filters))
        self.shortcut = nn.Sequential(*projection) if changes else nn.Identity()

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return functional.relu(self.body(inputs) + self.shortcut(inputs))


def network(filters: int) -> nn.Module:
    widths = [filters * 2**stage for stage in range(4) for _ in range(2)]
    blocks = [
        Block(before, width, 2 if width > before else 1)
        for before, width in zip([filters, *widths], widths, strict=False)
    ]
    stem = (nn.Conv2d(3, filters, 3, 1, 1, bias=False), nn.BatchNorm2d(filters), nn.ReLU())
    return nn.Sequential(*stem, *blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(widths[-1], CLASSES))


def main() -> None:
    parser = ArgumentParser(description="Train ResNet-18 on CIFAR-10 with SGD in PyTorch, on one thread.")
    parser.add_argument("directory", type=Path)
    for name, default in (("filters", 4), ("epochs", 8), ("seed", 0)):
        parser.add_argument(f"--{name}", type=int, default=default)
    flags = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(flags.seed)
    images, labels = read(sorted(flags.directory.glob("data_batch_*.bin")))
    test_images, test_labels = read([flags.directory / "test_batch.bin"])
    model = network(flags.filters).to(memory_format=torch.channels_last)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=5e-4)
    steps = len(images) // BATCH
    schedule = torch.optim.lr_scheduler.MultiStepLR(
        optimizer, [steps * flags.epochs // 2, 3 * steps * flags.epochs // 4]
    )
    for epoch in range(1, flags.epochs + 1):
        model.train()
        order = torch.randperm(len(images))[: steps * BATCH].view(steps, BATCH)
        for chosen in order:
            batch = cropped(images[chosen]).contiguous(memory_format=torch.channels_last)
            loss = functional.cross_entropy(model(batch), labels[chosen])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
        model.eval()
        with torch.no_grad():
            right = sum(
                int((model(part).argmax(1) == answers).sum())
                for part, answers in zip(test_images.split(500), test_labels.split(500), strict=True)
            )
        seconds = time.process_time()
        print(f"epoch {epoch}: test accuracy {100 * right / len(test_labels):.2f} %, {seconds:.0f} s", flush=True)


if __name__ == "__main__":
    main()
