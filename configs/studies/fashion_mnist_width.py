"""Does the gain grow with width on Fashion-MNIST, where accuracy is far from the ceiling?

Run:     python main.py --workdir=runs/fashion_mnist_width --config=configs/studies/fashion_mnist_width.py
         --config.data_dir=DIRECTORY
         (the four IDX files in DIRECTORY; without data_dir they come from the Hugging Face hub)
Axes:    those of mnist_width: 120 runs.
Source:  hyperparameters of the paper's MNIST workload; the data set is ours.
"""

import mnist_width


def get_config():
    config = mnist_width.get_config()
    config.dataset = "fashion_mnist"
    return config
