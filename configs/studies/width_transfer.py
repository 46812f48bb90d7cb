"""Do the best learning rate and rho of a narrow network transfer to a wide one, and does SAM's gain still grow in muP?

Run:     python main.py --workdir=runs/width_transfer --config=configs/studies/width_transfer.py
         (scikit-learn's digits with half of the labels wrong, no download; `:mnist` or `:fashion_mnist` behind
         the file's name, with --config.data_dir=DIRECTORY, for the four IDX files of another data set)
Axes:    the standard parameterization, muP, and muP with layerwise perturbations, which are the same at the smallest
         width; learning rate x rho x two hidden layers of growing width x 5 seeds: 1100 runs on the digits.
Source:  ours, after Haas et al. (2024): the claim tested is that rho transfers only with layerwise perturbations.
"""

from flatwide.config import default, variant

_DATA = {
    "digits": {"batch_size": 32, "num_epochs": 40, "label_noise": 0.5},
    "mnist": {"batch_size": 128, "num_epochs": 20},
    "fashion_mnist": {"batch_size": 128, "num_epochs": 20},
}
_WIDTHS = {"digits": (32, 64, 128, 256, 512), "mnist": (64, 256, 512, 1024), "fashion_mnist": (64, 256, 512, 1024)}


def get_config(dataset: str = "digits"):
    config = default()
    config.model = "MLP"
    config.dataset = dataset
    config.update(variant(_DATA, dataset))
    widths = _WIDTHS[dataset]
    config.base_width = (widths[0], widths[0])

    config.optimizer = "sam"
    config.momentum = 0.9
    config.weight_decay = 0.0
    config.lr_scheduler = "cosine"

    config.study.points = (
        {"parameterization": "standard", "perturbation_scaling": "none"},
        {"parameterization": "mup", "perturbation_scaling": "none"},
        {"parameterization": "mup", "perturbation_scaling": "layerwise"},
    )
    config.study.axes = {
        "learning_rate": (0.0125, 0.025, 0.05, 0.1),
        "rho": (0.0, 0.1, 0.2, 0.4),
        "num_neurons": tuple((width, width) for width in widths),
        "seed": tuple(range(5)),
    }
    config.study.tune = ("learning_rate",)
    return config
