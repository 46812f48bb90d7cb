"""Does training reach the edge of stability at every width, and at which curvature does SAM hold it for each radius?

Run:     python main.py --workdir=runs/edge_along_training --config=configs/studies/edge_along_training.py
         (scikit-learn's digits, no download; MNIST's four IDX files instead, one width, with
         --config=configs/studies/edge_along_training.py:mnist --config.data_dir=DIRECTORY)
Axes:    MLPs of 16 and 256 neurons, full-batch gradient descent and SAM at three radii, 3 seeds: 24 runs, each measured
         every 50 of its 2,000 steps. On MNIST a network of 300 and 100 neurons, batches of 128, momentum 0.9, SGD and
         SAM at one radius, 3 seeds, measured every 1,000 of 9,380 steps.
Source:  Long and Bartlett (2024), full-batch SAM at its edge; Cohen et al. (2021), gradient descent at 2 / learning
         rate. Networks, rate and radii are ours; the squared loss keeps training at the edge, where cross-entropy
         leaves it once the examples are fitted.
"""

from flatwide.config import default, variant

_WORKLOADS = {
    # Measure on exactly the examples that are trained on, so that the steps depend on this very Hessian.
    "digits": {
        "loss": "squared",
        "train_examples": 1000,
        "batch_size": 1000,
        "momentum": 0.0,
        "learning_rate": 0.2,
        "num_epochs": 2000,
        "measure_every_steps": 50,
    },
    "mnist": {
        "loss": "cross_entropy",
        "batch_size": 128,
        "momentum": 0.9,
        "learning_rate": 0.1,
        "num_epochs": 20,
        "measure_every_steps": 1000,
    },
}
_AXES = {
    "digits": {"num_neurons": ((16,), (256,)), "rho": (0.0, 0.02, 0.05, 0.1), "seed": (0, 1, 2)},
    "mnist": {"num_neurons": ((300, 100),), "rho": (0.0, 0.05), "seed": (0, 1, 2)},
}


def get_config(dataset: str = "digits"):
    config = default()
    config.model = "MLP"
    config.dataset = dataset
    config.update(variant(_WORKLOADS, dataset))

    config.optimizer = "sam"
    config.weight_decay = 0.0
    config.lr_scheduler = "constant"

    config.measurements = ("edge",)
    config.measure_examples = 1000

    config.study.axes = _AXES[dataset]
    return config
