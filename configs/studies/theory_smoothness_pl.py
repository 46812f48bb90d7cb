"""Along the training trajectory, does the smoothness constant fall and the Polyak-Lojasiewicz constant grow with width?

Run:     python main.py --workdir=runs/theory_smoothness_pl --config=configs/studies/theory_smoothness_pl.py
         --config.data_dir=DIRECTORY
         (CIFAR-10; scikit-learn's digits and an MLP instead, without a download:
         --config=configs/studies/theory_smoothness_pl.py:digits)
Axes:    ResNet-18 of 16, 32 and 64 filters, SGD and SAM at three radii, 3 seeds: 36 runs, measured at ten epochs.
Source:  paper, equations 7 and 8 and figure 21. The optimizer of its path, its learning rate and which gradients it
         took are not stated; these are full gradients over 1,000 training examples.
"""

from flatwide.config import default, variant

_WORKLOADS = {
    "cifar10": {
        "model": "ResNet18",
        "batch_size": 128,
        "momentum": 0.9,
        "weight_decay": 5e-4,
        "lr_scheduler": "step",
    },
    # Squared loss and a constant rate: cross-entropy has no PL constant, and short steps are lost in float32 rounding.
    "digits": {
        "model": "MLP",
        "loss": "squared",
        "batch_size": 32,
        "momentum": 0.0,
        "weight_decay": 0.0,
        "lr_scheduler": "constant",
    },
}
_WIDTHS = {
    "cifar10": ("num_filters", (16, 32, 64)),
    "digits": ("num_neurons", ((16,), (64,), (256,))),
}


def get_config(dataset: str = "cifar10"):
    config = default()
    config.dataset = dataset
    config.update(variant(_WORKLOADS, dataset))

    config.optimizer = "sam"
    config.learning_rate = 0.1
    config.num_epochs = 100

    config.measurements = ("smoothness",)
    config.measure_epochs = (1, 2, 5, 10, 20, 40, 60, 80, 90, 100)
    config.measure_examples = 1000

    name, widths = _WIDTHS[dataset]
    config.study.axes = {name: widths, "rho": (0.0, 0.05, 0.1, 0.2), "seed": (0, 1, 2)}
    return config
