"""Does the gain of SAM over SGD grow with the width of a vision transformer trained from scratch?

Run:     python main.py --workdir=runs/cifar10_vit_width --config=configs/studies/cifar10_vit_width.py
         --config.data_dir=DIRECTORY
         (CIFAR-10's binary version; scikit-learn's digits instead, small and without a download:
         --config=configs/studies/cifar10_vit_width.py:digits)
Axes:    the paper's six widths, SGD and SAM at its five radii, 3 seeds: 108 runs.
Source:  paper, tables 2 and 3, figures 5e and 16; augmentation from the authors' code. The sizes for digits are ours.
"""

from flatwide.config import default, variant

_SIZES = {
    "cifar10": {"patch_size": 4, "batch_size": 128, "num_epochs": 200},
    "digits": {"patch_size": 4, "batch_size": 32, "num_epochs": 30},
}
_WIDTHS = {"cifar10": (32, 64, 128, 256, 512, 1024), "digits": (8, 16, 32, 64)}


def get_config(dataset: str = "cifar10"):
    config = default()
    config.model = "ViT"
    config.dataset = dataset
    config.update(variant(_SIZES, dataset))

    config.optimizer = "sam"
    config.momentum = 0.9
    config.weight_decay = 1e-4
    config.learning_rate = 0.1
    config.lr_scheduler = "cosine"

    config.study.axes = {
        "hidden_size": _WIDTHS[dataset],
        "rho": (0.0, 0.01, 0.02, 0.05, 0.1, 0.2),
        "seed": (0, 1, 2),
    }
    return config
