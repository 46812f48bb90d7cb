"""Does the test error of SAM itself fall with the width of a two-layer network, as the theory says?

Run:     python main.py --workdir=runs/theory_generalization --config=configs/studies/theory_generalization.py
Axes:    100 to 50,000 hidden neurons, learning rates 1e-2 to 1e-5, SGD and SAM at four radii, 3 seeds: 360 runs.
Source:  paper, theorem I.1 and figure 22: Allen-Zhu's task, 800 epochs in batches of 50, the learning rate falling to a
         tenth at half of them. It searches rates of 1e-2 to 1e-7 and radii of 1e-1 to 1e-5 in factors of ten, without
         SGD. Ours: the unnormalized rule, the subject of its theorem; rho 0; the feasible part of its rates and radii.
"""

from flatwide.config import default


def get_config():
    config = default()
    config.model = "TwoLayerFrozenHead"
    config.dataset = "two_layer_teacher"
    config.loss = "squared"

    config.optimizer = "sam"
    config.sam_variant = "unnormalized"
    config.momentum = 0.0
    config.weight_decay = 0.0
    config.lr_scheduler = "step_half"
    config.batch_size = 50
    config.num_epochs = 800

    config.study.axes = {
        "num_neurons": ((100,), (500,), (1000,), (5000,), (10_000,), (50_000,)),
        "learning_rate": (1e-2, 1e-3, 1e-4, 1e-5),
        "rho": (0.0, 1e-5, 1e-4, 1e-3, 1e-2),
        "seed": (0, 1, 2),
    }
    return config
