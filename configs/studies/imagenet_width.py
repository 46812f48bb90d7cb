"""Does the gain of SAM over SGD grow with the width of ResNet-50 on ImageNet?

Run:     python main.py --workdir=runs/imagenet_width --config=configs/studies/imagenet_width.py
         --config.data_dir=DIRECTORY
         (DIRECTORY/train/<class>/*.JPEG and DIRECTORY/val/<class>/*.JPEG; without data_dir from the hub)
Axes:    the paper's five widths, SGD and SAM at five radii (six for the two smallest), 3 seeds: 96 runs.
Source:  paper, tables 2 and 3, figures 1 and 9; cropping from the authors' code.
"""

from flatwide.config import default


def get_config():
    config = default()
    config.model = "ResNet50"
    config.dataset = "imagenet2012"

    config.optimizer = "sam"
    config.momentum = 0.9
    config.weight_decay = 1e-4
    config.learning_rate = 0.1
    config.lr_scheduler = "cosine"
    config.warmup_steps = 5000

    config.batch_size = 512
    config.num_epochs = 90

    config.study.axes = {
        "num_filters": (16, 32, 48, 64, 80),
        "rho": (0.0, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2),
        "seed": (0, 1, 2),
    }
    config.study.exclude = tuple({"num_filters": width, "rho": 0.005} for width in (48, 64, 80))
    return config
