"""Does SAM's gain with width come from the linear regime that wide networks approach?

Run:     python main.py --workdir=runs/linearized_regime --config=configs/studies/linearized_regime.py
         --config.data_dir=DIRECTORY
         (CIFAR-10; scikit-learn's digits and an MLP instead, without a download:
         --config=configs/studies/linearized_regime.py:digits)
Axes:    output scales 1 to 1,000, from feature learning to the lazy regime, SGD and SAM at three radii,
         3 seeds: 48 runs.
Source:  paper, figure 19, after Chizat et al. (2019): VGG-11, squared loss, the network less its initial value.
         Learning rates, length and batch size are not stated: ours.
"""

from flatwide.config import default, variant

_WORKLOADS = {
    "cifar10": {"model": "VGG11", "batch_size": 128, "num_epochs": 100, "learning_rate": 0.002, "momentum": 0.9},
    "digits": {
        "model": "MLP",
        "num_neurons": (256, 256),
        "batch_size": 32,
        "num_epochs": 100,
        "learning_rate": 0.02,  # at 0.1 the lazy network, which cannot move to where it is flat, diverges
        "momentum": 0.0,
    },
}


def get_config(dataset: str = "cifar10"):
    config = default()
    config.dataset = dataset
    config.loss = "squared"
    config.update(variant(_WORKLOADS, dataset))

    config.optimizer = "sam"
    config.weight_decay = 0.0
    config.lr_scheduler = "cosine"

    config.measurements = ("activations",)

    config.study.axes = {
        "output_scale": (1.0, 10.0, 100.0, 1000.0),
        "rho": (0.0, 0.001, 0.01, 0.02),
        "seed": (0, 1, 2),
    }
    return config
