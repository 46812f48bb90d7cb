"""The MNIST run on Fashion-MNIST, where test accuracy is far from its ceiling.

Run:     python main.py --workdir=runs/fashion --config=configs/fashion_mnist_mlp.py --config.data_dir=DIRECTORY
         (the four IDX files in DIRECTORY; without data_dir they come from the Hugging Face hub)
Source:  hyperparameters of the paper's MNIST workload (table 2); the data set is ours.
"""

import mnist_mlp


def get_config():
    config = mnist_mlp.get_config()
    config.dataset = "fashion_mnist"
    return config
