"""Does SAM help a wide sparse ResNet more than a narrow dense one with as many parameters?

Run:     python main.py --workdir=runs/cifar10_sparsity --config=configs/studies/cifar10_sparsity.py
         --config.data_dir=DIRECTORY
         (the binary version's files in DIRECTORY; without data_dir they come from the Hugging Face hub)
Axes:    701,466 nonzero parameters at four widths, random and SNIP pruning, SGD and SAM, 3 seeds: 105 runs.
Source:  paper, figures 5b, 13 and 15. The sparsity follows from width and budget; radii around the paper's best, 0.1.
"""

import cifar10_width


def get_config():
    config = cifar10_width.get_config()
    config.study.axes = {
        "num_nonzero_params": (701_466,),
        "num_filters": (16, 24, 32, 64),
        "pruner": ("random", "snip"),
        "rho": (0.0, 0.02, 0.05, 0.1, 0.2),
        "seed": (0, 1, 2),
    }
    return config
