"""Do the third and fourth moments of per-example Hessians fall with rho and with width, as the second does?

Run:     python main.py --workdir=runs/moments_3_and_4 --config=configs/studies/moments_3_and_4.py
Axes:    one hidden layer of 16 to 256 neurons, SGD and SAM at four radii, 5 seeds: 125 runs, each measured on 500
         training examples.
Source:  ours. Theorem 6.3 of the paper bounds s_2, s_3 and s_4; only s_2 is measured there, at one width (figure 6b).
         Data: scikit-learn's digits, no download.
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

    config.measurements = ("curvature", "moments", "sharpness", "barrier")
    config.measure_examples = 500

    config.study.axes = {
        "num_neurons": ((16,), (32,), (64,), (128,), (256,)),
        "rho": (0.0, 0.02, 0.05, 0.1, 0.2),
        "seed": tuple(range(5)),
    }
    return config
