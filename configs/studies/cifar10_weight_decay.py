"""Does the growth of the gain need weight decay, and can stronger weight decay on SGD replace SAM?

Run:     python main.py --workdir=runs/cifar10_weight_decay --config=configs/studies/cifar10_weight_decay.py
         --config.data_dir=DIRECTORY
         (the binary version's files in DIRECTORY; without data_dir they come from the Hugging Face hub)
Axes:    six weight decays from none to 5e-3, four widths (six without decay), SGD and SAM, 3 seeds: 468 runs.
Source:  paper, figures 5c (six widths, no decay) and 18 (four widths, five decays); radii are ours, from 0.01 to 0.2.
"""

import cifar10_width


def get_config():
    config = cifar10_width.get_config()
    config.study.axes = {
        "weight_decay": (0.0, 5e-5, 1e-4, 5e-4, 1e-3, 5e-3),
        "num_filters": (4, 8, 16, 32, 64, 128),
        "rho": (0.0, 0.01, 0.02, 0.05, 0.1, 0.2),
        "seed": (0, 1, 2),
    }
    decays = [decay for decay in config.study.axes["weight_decay"] if decay]
    config.study.exclude = tuple(
        {"weight_decay": decay, "num_filters": width} for decay in decays for width in (8, 128)
    )
    # The best decay of SAM against the best of SGD, as in the last row of figure 18.
    config.study.tune = ("weight_decay",)
    return config
