"""The MNIST run on Fashion-MNIST, where test accuracy is far from its ceiling.

Run:     python main.py --workdir=runs/fashion --config=configs/fashion_mnist_mlp.py --config.data_dir=DIRECTORY
         (the four IDX files in DIRECTORY; without data_dir they come from the Hugging Face hub)
Source:  hyperparameters of the paper's MNIST workload (table 2); the data set is ours.
"""

from flatwide.config import default


def get_config():
    config = default()
    config.model = "MLP"
    config.num_neurons = (300, 100)
    config.dataset = "fashion_mnist"

    config.optimizer = "sam"
    config.rho = 0.1
    config.momentum = 0.9
    config.weight_decay = 1e-4
    config.learning_rate = 0.1
    config.lr_scheduler = "step_mnist"

    config.batch_size = 128
    config.num_epochs = 100
    return config
