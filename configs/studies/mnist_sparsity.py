"""Does SAM help a wide sparse network more than a narrow dense one with as many parameters?

Run:     python main.py --workdir=runs/mnist_sparsity --config=configs/studies/mnist_sparsity.py
         --config.data_dir=DIRECTORY
         (the four IDX files in DIRECTORY; without data_dir they come from the Hugging Face hub)
Axes:    61,035 nonzero parameters at four widths, random and SNIP pruning, SGD and SAM, 3 seeds: 147 runs.
Source:  paper, figures 14 and 15. The sparsity follows from width and budget; 0.3 is added to the paper's radii.
"""

import mnist_width


def get_config():
    config = mnist_width.get_config()
    config.study.axes = {
        "num_nonzero_params": (61_035,),  # those of the smallest network, which stays dense
        "num_neurons": ((75, 25), (150, 50), (300, 100), (1200, 400)),
        "pruner": ("random", "snip"),
        "rho": (0.0, 0.01, 0.02, 0.05, 0.1, 0.2, 0.3),
        "seed": (0, 1, 2),
    }
    return config
