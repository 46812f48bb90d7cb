"""Which function does SAM choose if a network with one hidden layer can fit twelve points in many ways?

Run:     python main.py --workdir=runs/theory_regression_1d --config=configs/studies/theory_regression_1d.py
Axes:    5, 10, 100 and 1,000 hidden neurons, SGD and SAM at three radii, 5 seeds: 80 runs.
Source:  paper, figures 2 and 3: batches of 6 of the 12 points, rho 0.2, 3 seeds. Initial weights as in Andriushchenko
         and Flammarion (2022), whose rate of 5e-5 for half the sum over 12 points is 3e-4 for our mean over points, and
         falls linearly with SAM. Ours: 100,000 steps, the linear schedule for SGD too, the other radii, five seeds.
"""

from flatwide.config import default


def get_config():
    config = default()
    config.model = "OneHiddenLayer"
    config.dataset = "regression_1d"
    config.loss = "squared"

    config.optimizer = "sam"
    config.momentum = 0.0
    config.weight_decay = 0.0
    config.learning_rate = 3e-4
    config.lr_scheduler = "linear"
    config.batch_size = 6
    config.num_epochs = 50_000
    config.eval_every_steps = 10_000

    config.measurements = ("function", "curvature", "barrier", "minima_plane")

    config.study.axes = {
        "num_neurons": ((5,), (10,), (100,), (1000,)),
        "rho": (0.0, 0.05, 0.1, 0.2),
        "seed": (0, 1, 2, 3, 4),
    }
    return config
