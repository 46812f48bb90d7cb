"""Does SAM still gain if SGD also chooses its learning rate, trains for twice as long, or averages its weights?

Run:     python main.py --workdir=runs/digits_fair_fight --config=configs/studies/digits_fair_fight.py
Axes:    six learning rates; SGD for 60 and for 120 epochs, SAM at five radii for 60; one hidden layer of 16 to 128
         neurons; 8 seeds: 1344 runs. Half of the labels are wrong. Every run also scores the average of its weights.
Source:  ours, after the paper's figures 5a, 18 and 20. Data: scikit-learn's digits, no download.
"""

import digits_label_noise


def get_config():
    config = digits_label_noise.get_config()
    config.weight_average = "ema"

    config.study.points = tuple(
        {"rho": rho, "num_epochs": num_epochs}
        for rho, num_epochs in [(0.0, 60), (0.0, 120), *((rho, 60) for rho in (0.02, 0.05, 0.1, 0.2, 0.35))]
    )
    config.study.axes = {
        "learning_rate": (0.001, 0.003, 0.01, 0.02, 0.05, 0.1),
        "num_neurons": ((16,), (32,), (64,), (128,)),
        "seed": tuple(range(8)),
    }
    config.study.tune = ("learning_rate",)
    return config
