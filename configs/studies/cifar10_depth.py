"""Does the gain of a ResNet grow with its depth?

Run:     python main.py --workdir=runs/cifar10_depth --config=configs/studies/cifar10_depth.py
         --config.data_dir=DIRECTORY
         (the binary version's files in DIRECTORY; without data_dir they come from the Hugging Face hub)
Axes:    1, 2 and 8 blocks a stage at 64 filters, SGD and SAM, 3 seeds: 54 runs.
Source:  paper, figure 17; radii are ours, around the paper's best of 0.2 at two blocks a stage.
"""

import cifar10_width


def get_config():
    config = cifar10_width.get_config()
    config.study.axes = {
        "num_blocks": ((1, 1, 1, 1), (2, 2, 2, 2), (8, 8, 8, 8)),
        "rho": (0.0, 0.02, 0.05, 0.1, 0.2, 0.5),
        "seed": (0, 1, 2),
    }
    return config
