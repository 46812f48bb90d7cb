"""Training views of a folder of photographs by torchvision: images a second of wall and processor time, in one process.

Run by imagenet_memory.py: torchvision_loader.py FOLDER BATCH
"""

import json
import sys
import time

import torch

# torchvision's wheel does not load its own operators beside PyTorch's for CPUs; loading photographs needs none.
torch.library.register_fake = lambda *arguments, **options: lambda function: function

from torchvision import datasets, transforms  # noqa: E402

torch.set_num_threads(1)
# Bytes, as ours: scaling to floats is left to the device.
views = [transforms.RandomResizedCrop(224), transforms.RandomHorizontalFlip(), transforms.PILToTensor()]
folder = datasets.ImageFolder(f"{sys.argv[1]}/train", transforms.Compose(views))
wall, core = time.perf_counter(), time.process_time()
for _ in torch.utils.data.DataLoader(folder, batch_size=int(sys.argv[2]), shuffle=True):
    pass
wall, core = time.perf_counter() - wall, time.process_time() - core
print(json.dumps({"wall": len(folder) / wall, "core": len(folder) / core}))
