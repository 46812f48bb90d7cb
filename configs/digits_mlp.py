"""Does SAM help a small network on the embedded 8x8 digits?

Run:     python main.py --workdir=runs/digits --config=configs/digits_mlp.py
Width:   --config.num_neurons="(64,)"; SGD: --config.rho=0; half of the labels wrong: --config.label_noise=0.5
Expect:  test accuracy about 97.5 % with clean labels; with half of them wrong, see README.md.
Takes:   some 5 s on one core of an AMD EPYC, 3 s of them start-up and drawing the curves.
Source:  ours; the paper has no such workload. Data: scikit-learn's digits, no download.
"""

from flatwide.config import default


def get_config():
    config = default()
    config.model = "MLP"
    config.num_neurons = (128,)
    config.dataset = "digits"

    config.optimizer = "sam"
    config.rho = 0.1
    config.momentum = 0.9
    config.weight_decay = 0.0
    config.learning_rate = 0.05
    config.lr_scheduler = "step"

    config.batch_size = 32
    config.num_epochs = 60
    return config
