"""Does label noise amplify the growth of the gain with width on MNIST?

Run:     python main.py --workdir=runs/mnist_label_noise --config=configs/studies/mnist_label_noise.py
         --config.data_dir=DIRECTORY
         (the four IDX files in DIRECTORY; without data_dir they come from the Hugging Face hub)
Axes:    a quarter, half and three quarters of the labels wrong, five widths, SGD and SAM, 3 seeds: 315 runs.
Source:  the paper's figure 5a has it on CIFAR-10; noise levels from there. Compare the last epoch.
"""

import mnist_width


def get_config():
    config = mnist_width.get_config()
    config.study.axes = {
        "label_noise": (0.25, 0.5, 0.75),
        "num_neurons": ((75, 25), (150, 50), (300, 100), (1200, 400), (3000, 1000)),
        "rho": (0.0, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5),
        "seed": (0, 1, 2),
    }
    return config
