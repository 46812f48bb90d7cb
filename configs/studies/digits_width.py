"""Does the gain of SAM over SGD grow with width on clean digits?

Run:     python main.py --workdir=runs/digits_width --config=configs/studies/digits_width.py
Axes:    one hidden layer of 4 to 256 neurons, SGD (rho 0) and SAM at six radii, 8 seeds: 392 runs.
Source:  ours; the paper has no such workload. Data: scikit-learn's digits, no download.
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

    config.study.axes = {
        "num_neurons": ((4,), (8,), (16,), (32,), (64,), (128,), (256,)),
        "rho": (0.0, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5),
        "seed": tuple(range(8)),
    }
    return config
