"""Does the gain of SAM over SGD grow with width when half of the labels are wrong?

Run:     python main.py --workdir=runs/digits_label_noise --config=configs/studies/digits_label_noise.py
Axes:    one hidden layer of 4 to 128 neurons, SGD (rho 0) and SAM at six radii, 8 seeds: 336 runs.
Source:  ours, after the paper's figure 5a (CIFAR-10). Data: scikit-learn's digits, no download.
"""

from flatwide.config import default


def get_config():
    config = default()
    config.model = "MLP"
    config.dataset = "digits"

    config.optimizer = "sam"
    config.momentum = 0.9
    config.weight_decay = 0.0
    config.learning_rate = 0.05
    config.lr_scheduler = "step"

    config.batch_size = 32
    config.num_epochs = 60
    config.label_noise = 0.5

    config.study.axes = {
        "num_neurons": ((4,), (8,), (16,), (32,), (64,), (128,)),
        "rho": (0.0, 0.01, 0.02, 0.1, 0.2, 0.35, 0.5),
        "seed": tuple(range(8)),
    }
    return config
