"""Does the gain grow with depth as it does with width?

Run:     python main.py --workdir=runs/mnist_depth --config=configs/studies/mnist_depth.py
         --config.data_dir=DIRECTORY
         (the four IDX files in DIRECTORY; without data_dir they come from the Hugging Face hub)
Axes:    1 to 3 hidden layers of 1000 neurons, SGD and SAM, 3 seeds: 63 runs.
Source:  paper, figure 17; 0.3 is added to its radii, whose end is best for such widths.
"""

import mnist_width


def get_config():
    config = mnist_width.get_config()
    config.study.axes = {
        "num_neurons": ((1000,), (1000, 1000), (1000, 1000, 1000)),
        "rho": (0.0, 0.01, 0.02, 0.05, 0.1, 0.2, 0.3),
        "seed": (0, 1, 2),
    }
    return config
