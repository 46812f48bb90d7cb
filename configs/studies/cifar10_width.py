"""Does the gain of SAM over SGD grow with the width of ResNet-18 on CIFAR-10?

Run:     python main.py --workdir=runs/cifar10_width --config=configs/studies/cifar10_width.py
         --config.data_dir=DIRECTORY
         (the binary version's files in DIRECTORY; without data_dir they come from the Hugging Face hub)
Axes:    the paper's seven widths, SGD and SAM at nine radii, 3 seeds: 210 runs.
Source:  paper, tables 2 and 3, figures 1 and 4; augmentation from the authors' code.
"""

from flatwide.config import default


def get_config():
    config = default()
    config.model = "ResNet18"
    config.dataset = "cifar10"

    config.optimizer = "sam"
    config.momentum = 0.9
    config.weight_decay = 5e-4
    config.learning_rate = 0.1
    config.lr_scheduler = "step"

    config.batch_size = 128
    config.num_epochs = 200

    config.study.axes = {
        "num_filters": (4, 8, 16, 32, 64, 128, 256),
        "rho": (0.0, 0.001, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0),
        "seed": (0, 1, 2),
    }
    return config
