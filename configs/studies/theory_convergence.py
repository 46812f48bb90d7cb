"""Does the training loss fall geometrically with a constant step once the network can fit the data, as the theory says?

Run:     python main.py --workdir=runs/theory_convergence --config=configs/studies/theory_convergence.py
         (a factorization of a matrix, no download; the networks of the paper's other two panels need a
         --workdir of their own, and --config.data_dir=DIRECTORY:
         --config=configs/studies/theory_convergence.py:mnist
         --config=configs/studies/theory_convergence.py:cifar10)
Axes:    factors of rank 2 to 20, SGD and unnormalized SAM at three radii, 3 seeds: 72 runs.
Source:  paper, theorem 6.6 and figure 6c: 100 epochs at 5e-4 for the factorization (ranks 4 and 10), widths 0.1, 1 and
         10 of the MLP, 4, 16 and 64 filters. Our loss is a sum over the ten outputs: 5e-5 is the paper's rate if its
         loss is their mean. Ours too: the batch sizes, the radii, and the rates of the networks.
"""

from flatwide.config import default, variant

_WORKLOADS = {
    "matrix_factorization": {
        "model": "LinearNetwork",
        "loss": "squared",
        "learning_rate": 5e-5,
        "batch_size": 1,
        "num_epochs": 100,
        "sam_variant": "unnormalized",
    },
    "mnist": {"model": "MLP", "learning_rate": 0.1, "batch_size": 128, "num_epochs": 20},
    "cifar10": {"model": "ResNet18", "learning_rate": 0.1, "batch_size": 128, "num_epochs": 80},
}
_WIDTHS = {
    "matrix_factorization": ("num_neurons", ((2,), (4,), (6,), (8,), (10,), (20,))),
    "mnist": ("num_neurons", ((30, 10), (300, 100), (3000, 1000))),
    "cifar10": ("num_filters", (4, 16, 64)),
}
_RADII = {
    "matrix_factorization": (0.0, 0.001, 0.005, 0.02),
    "mnist": (0.0, 0.01, 0.05, 0.1),
    "cifar10": (0.0, 0.01, 0.05, 0.1),
}


def get_config(dataset: str = "matrix_factorization"):
    config = default()
    config.dataset = dataset
    config.update(variant(_WORKLOADS, dataset))

    config.optimizer = "sam"
    config.momentum = 0.0
    config.weight_decay = 0.0
    config.lr_scheduler = "constant"

    config.measurements = ("convergence",)

    name, widths = _WIDTHS[dataset]
    config.study.axes = {name: widths, "rho": _RADII[dataset], "seed": (0, 1, 2)}
    return config
