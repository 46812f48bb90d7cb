"""Are the minima that SAM finds flatter, more uniform over examples, and linearly stable, as the theory says?

Run:     python main.py --workdir=runs/theory_stability --config=configs/studies/theory_stability.py
         --config.data_dir=DIRECTORY
         (MNIST's four IDX files; scikit-learn's digits instead, without a download and within ten minutes:
         --config=configs/studies/theory_stability.py:digits)
Axes:    the paper's MLP of 3000 and 1000 neurons, SGD and SAM at the paper's radii, 3 seeds: 18 runs, each measured
         on 1,000 training examples.
Source:  paper, theorem 6.3 and figure 6a, b: squared loss, learning rate 0.1 throughout, no momentum, no decay. Ours:
         the batch of 128, 100 epochs, and the loss as a sum over the ten outputs; none of them is stated.
"""

from flatwide.config import default, variant

_SIZES = {
    "mnist": {"num_neurons": (3000, 1000), "batch_size": 128},
    "digits": {"num_neurons": (300, 100), "batch_size": 32},
}


def get_config(dataset: str = "mnist"):
    config = default()
    config.model = "MLP"
    config.dataset = dataset
    config.loss = "squared"
    config.update(variant(_SIZES, dataset))

    config.optimizer = "sam"
    config.momentum = 0.0
    config.weight_decay = 0.0
    config.learning_rate = 0.1
    config.lr_scheduler = "constant"
    config.num_epochs = 100

    config.measurements = ("curvature", "moments", "stability", "sharpest_plane")
    config.measure_examples = 1000

    config.study.axes = {
        "rho": (0.0, 0.01, 0.02, 0.05, 0.1, 0.2),
        "seed": (0, 1, 2),
    }
    return config
