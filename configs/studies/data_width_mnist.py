"""Does the gain of SAM on MNIST depend on the number of parameters, or on the number of parameters per example?

Run:     python main.py --workdir=runs/data_width_mnist --config=configs/studies/data_width_mnist.py
         --config.data_dir=DIRECTORY
         (the four IDX files in DIRECTORY; without data_dir they come from the Hugging Face hub)
Axes:    a quarter, half and all of the 60,000 training examples, a tenth of the labels wrong; the five widths of
         mnist_width; SGD (rho 0) and SAM at five radii; 3 seeds: 270 runs.
Source:  ours, as data_width. Every run takes the same number of steps: 40 epochs of all examples.
"""

import mnist_width


def get_config():
    config = mnist_width.get_config()
    config.label_noise = 0.1
    config.num_train_steps = 18_760
    config.eval_every_steps = 1876

    config.study.axes = {
        "train_examples": (15_000, 30_000, 60_000),
        "num_neurons": ((75, 25), (150, 50), (300, 100), (1200, 400), (3000, 1000)),
        "rho": (0.0, 0.05, 0.1, 0.2, 0.3, 0.5),
        "seed": (0, 1, 2),
    }
    return config
