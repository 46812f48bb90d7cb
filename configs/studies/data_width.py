"""Does the gain of SAM depend on the number of parameters, or on the number of parameters per training example?

Run:     python main.py --workdir=runs/data_width --config=configs/studies/data_width.py
Axes:    a quarter, half and all of the 1,442 training examples, a tenth of the labels wrong; one hidden layer of 8 to
         256 neurons; SGD (rho 0) and SAM at four radii; 8 seeds: 720 runs.
Source:  ours; the paper varies the width alone. Every run takes the same number of steps, so that fewer examples do not
         mean shorter training. Data: scikit-learn's digits, no download.
"""

import digits_label_noise


def get_config():
    config = digits_label_noise.get_config()
    config.label_noise = 0.1  # so that the width from which SGD fits its labels depends on the number of examples

    config.batch_size = 64
    config.learning_rate = 0.1
    config.momentum = 0.95  # with 0.9 the widest network does not fit all labels within these steps
    config.num_train_steps = 2760
    config.eval_every_steps = 276

    config.study.axes = {
        "train_examples": (360, 721, 1442),
        "num_neurons": ((8,), (16,), (32,), (64,), (128,), (256,)),
        "rho": (0.0, 0.1, 0.2, 0.35, 0.5),
        "seed": tuple(range(8)),
    }
    return config
