"""Does the theory of unnormalized SAM describe normalized SAM, which is what is used in practice?

Run:     python main.py --workdir=runs/normalized_or_not --config=configs/studies/normalized_or_not.py
Axes:    normalized and unnormalized SAM, 32 and 256 hidden neurons, rho 0 and five radii, 5 seeds: 110 runs, each
         measured on 500 training examples.
Source:  ours. The theorems of the paper are about the unnormalized rule, its experiments about the normalized one; it
         does not compare them. Data: scikit-learn's digits, no download.
"""

from flatwide.config import default


def get_config():
    config = default()
    config.model = "MLP"
    config.dataset = "digits"
    config.loss = "squared"

    config.optimizer = "sam"
    config.momentum = 0.0
    config.weight_decay = 0.0
    config.learning_rate = 0.1
    config.lr_scheduler = "constant"
    config.batch_size = 32
    config.num_epochs = 100

    config.measurements = ("curvature", "moments", "stability")
    config.measure_examples = 500

    config.study.axes = {
        "sam_variant": ("normalized", "unnormalized"),
        "num_neurons": ((32,), (256,)),
        "rho": (0.0, 0.01, 0.02, 0.05, 0.1, 0.2),
        "seed": tuple(range(5)),
    }
    return config
