"""Does the gain of SAM over SGD grow with the width of a student that learns from a noisy teacher?

Run:     python main.py --workdir=runs/synthetic_width --config=configs/studies/synthetic_width.py
Axes:    the paper's ten widths, SGD and SAM at its eleven radii, 3 seeds: 360 runs.
Source:  paper, tables 2 and 3, figures 1 and 7. It states neither momentum nor the scales of the teacher and of the
         student's first weights, nor which epoch is compared: ours are the values of a small scan whose gains are
         closest to the paper's (docs/studies/synthetic_width.md).
"""

from flatwide.config import default


def get_config():
    config = default()
    config.model = "MLP"
    config.kernel_scale = 0.04
    config.dataset = "teacher_student"
    config.teacher_scale = 0.1
    config.loss = "squared"

    config.optimizer = "sam"
    config.momentum = 0.9
    config.weight_decay = 0.0
    config.learning_rate = 0.1
    config.lr_scheduler = "step"

    config.batch_size = 128
    config.num_epochs = 100

    config.study.metric = "test_metric_best"
    config.study.axes = {
        "num_neurons": tuple((size,) for size in range(100, 1001, 100)),
        "rho": (0.0, 0.001, 0.01, 0.05, 0.07, 0.1, 0.2, 0.3, 0.5, 0.7, 1.0, 2.0),
        "seed": (0, 1, 2),
    }
    return config
