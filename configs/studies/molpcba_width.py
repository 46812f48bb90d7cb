"""Does the gain of SAM over Adam grow with the width of a graph network on ogbg-molpcba?

Run:     python main.py --workdir=runs/molpcba_width --config=configs/studies/molpcba_width.py
         --config.data_dir=DIRECTORY
Axes:    the paper's three widths, Adam and SAM at five radii, 3 seeds: 54 runs.
Variant: configs/studies/molpcba_width.py:made_molecules, no download: real molecules with synthetic labels, to
         show that it runs, not to say anything about assays; sizes, radii, learning rate and length are ours.
Source:  paper, tables 2 and 3, figure 1; the network from Flax's ogbg-molpcba example.
"""

from flatwide.config import default, variant

_SIZES = {
    "ogbg_molpcba": {
        "learning_rate": 1e-3,
        "batch_size": 256,
        "num_train_steps": 100_000,
        "eval_every_steps": 1000,
    },
    "made_molecules": {
        "learning_rate": 3e-3,
        "batch_size": 128,
        "num_train_steps": 320,
        "eval_every_steps": 80,
    },
}
_AXES = {
    "ogbg_molpcba": {"hidden_size": (128, 256, 512), "rho": (0.0, 0.01, 0.02, 0.05, 0.1, 0.2), "seed": (0, 1, 2)},
    "made_molecules": {"hidden_size": (4, 16, 64), "rho": (0.0, 0.02, 0.1, 0.3), "seed": (0, 1, 2)},
}


def get_config(dataset: str = "ogbg_molpcba"):
    config = default()
    config.model = "GCN"
    config.dataset = dataset
    config.loss = "binary_cross_entropy"
    config.update(variant(_SIZES, dataset))

    config.optimizer = "sam"
    config.base_optimizer = "adam"
    config.adam_betas = (0.9, 0.999)
    config.lr_scheduler = "constant"

    config.study.axes = _AXES[dataset]
    return config
