"""Do the best learning rate and rho of a narrow network transfer to a wide one, and does SAM's gain still grow in muP?

Run:     python main.py --workdir=runs/width_transfer --config=configs/studies/width_transfer.py
         (scikit-learn's digits with half of the labels wrong, no download; `:mnist` or `:fashion_mnist` behind
         the file's name, with --config.data_dir=DIRECTORY, for the four IDX files of another data set)
Axes:    the standard parameterization, muP, and muP with layerwise perturbations, which are the same at the smallest
         width; learning rate x rho x two hidden layers of growing width x 5 seeds: 1100 runs on the digits.
Source:  ours, after Haas et al. (2024): the claim tested is that rho transfers only with layerwise perturbations.
"""

from flatwide.config import default, variant

# So few images that the networks interpolate their labels, and 16 times the smallest width fits a laptop.
_IMAGES = {"batch_size": 64, "num_epochs": 20, "train_examples": 3000, "label_noise": 0.5}
_DATA = {
    "digits": {"batch_size": 32, "num_epochs": 40, "label_noise": 0.5},
    "mnist": _IMAGES,
    "fashion_mnist": _IMAGES,
}
_WIDTHS = {"digits": (32, 64, 128, 256, 512), "mnist": (32, 128, 256, 512), "fashion_mnist": (32, 128, 256, 512)}
_RATES = {"digits": (0.0125, 0.025, 0.05, 0.1), "mnist": (0.004, 0.01, 0.025, 0.0625)}
_RADII = {"digits": (0.0, 0.1, 0.2, 0.4), "mnist": (0.0, 0.025, 0.05, 0.1)}


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
        "learning_rate": _RATES.get(dataset, _RATES["mnist"]),
        "rho": _RADII.get(dataset, _RADII["mnist"]),
        "num_neurons": tuple((width, width) for width in widths),
        "seed": tuple(range(5)),
    }
    config.study.tune = ("learning_rate",)
    return config
