"""Does label noise amplify the growth of the gain with width on CIFAR-10?

Run:     python main.py --workdir=runs/cifar10_label_noise --config=configs/studies/cifar10_label_noise.py
         --config.data_dir=DIRECTORY
         (the binary version's files in DIRECTORY; without data_dir they come from the Hugging Face hub)
Axes:    three noise levels, four widths, SGD and SAM, 3 seeds: 216 runs.
Source:  paper, figures 5a and 12; radii are ours. SGD's numbers there appear to be those of the last epoch.
"""

import cifar10_width


def get_config():
    config = cifar10_width.get_config()
    config.study.axes = {
        "label_noise": (0.25, 0.5, 0.75),
        "num_filters": (4, 16, 32, 64),
        "rho": (0.0, 0.02, 0.05, 0.1, 0.2, 0.5),
        "seed": (0, 1, 2),
    }
    return config
