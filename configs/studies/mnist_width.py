"""Does the gain of SAM over SGD grow with the width of LeNet-300-100 on MNIST?

Run:     python main.py --workdir=runs/mnist_width --config=configs/studies/mnist_width.py
         --config.data_dir=DIRECTORY
         (the four IDX files in DIRECTORY; without data_dir they come from the Hugging Face hub)
Axes:    the paper's five widths, SGD and SAM, 3 seeds: 120 runs. The paper's best radius lies at the end of its grid,
         0.2, from 267k parameters on, so 0.3 and 0.5 are added.
Source:  paper, tables 2 and 3, figures 1 and 4.
"""

from flatwide.config import default


def get_config():
    config = default()
    config.model = "MLP"
    config.dataset = "mnist"

    config.optimizer = "sam"
    config.momentum = 0.9
    config.weight_decay = 1e-4
    config.learning_rate = 0.1
    config.lr_scheduler = "step_mnist"  # the authors' code; the paper's text has "step"

    config.batch_size = 128
    config.num_epochs = 100

    config.study.axes = {
        "num_neurons": ((75, 25), (150, 50), (300, 100), (1200, 400), (3000, 1000)),
        "rho": (0.0, 0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5),
        "seed": (0, 1, 2),
    }
    return config
