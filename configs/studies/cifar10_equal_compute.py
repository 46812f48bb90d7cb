"""Is the gain larger than what SGD gains from twice the epochs, which cost as much as SAM?

Run:     python main.py --workdir=runs/cifar10_equal_compute --config=configs/studies/cifar10_equal_compute.py
         --config.data_dir=DIRECTORY
         (the binary version's files in DIRECTORY; without data_dir they come from the Hugging Face hub)
Axes:    SGD for 200 and 400 epochs, SAM at seven radii for 200, seven widths, 3 seeds: 189 runs.
Source:  paper, figure 20. Of its nine radii the ends, 0.001 and 1, are left out: neither is best at any width.
"""

import cifar10_width


def get_config():
    config = cifar10_width.get_config()
    config.study.points = tuple(
        {"rho": rho, "num_epochs": num_epochs}
        for rho, num_epochs in [
            (0.0, 200),
            (0.0, 400),
            *((rho, 200) for rho in (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5)),
        ]
    )
    config.study.axes = {
        "num_filters": (4, 8, 16, 32, 64, 128, 256),
        "seed": (0, 1, 2),
    }
    return config
