"""Does the gain of SAM over SGD grow with the width of an LSTM on SST-2?

Run:     python main.py --workdir=runs/sst2_width --config=configs/studies/sst2_width.py --config.data_dir=DIRECTORY
         (GLUE's train.tsv and dev.tsv in DIRECTORY; without data_dir they come from the Hugging Face hub. A smaller
         study of any other texts with labels: --config=configs/studies/sst2_width.py:labelled_text)
Axes:    the six widths of the paper's figures, SGD and SAM at seven radii, 3 seeds: 144 runs.
Source:  paper, tables 2 and 3, figures 4 and 11. Ours: all radii at every width (the paper left out 0.3 and 0.5 at the
         two smallest), and of `labelled_text` sizes, radii, epochs, dropout and the learning rate of 1: at 0.1 a
         network learns nothing from some thousand texts within a few epochs.
"""

from flatwide.config import default, variant

_SIZES = {
    "sst2": {"learning_rate": 0.1, "num_epochs": 30, "dropout": None, "max_length": None},
    "labelled_text": {"learning_rate": 1.0, "num_epochs": 10, "dropout": 0.2, "max_length": 40},
}
_AXES = {
    "sst2": {
        "hidden_size": (32, 64, 128, 256, 384, 512),
        "rho": (0.0, 0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5),
        "seed": (0, 1, 2),
    },
    "labelled_text": {
        "hidden_size": (8, 16, 32),
        "rho": (0.0, 0.02, 0.05, 0.1),
        "seed": (0, 1, 2),
    },
}


def get_config(dataset: str = "sst2"):
    config = default()
    config.model = "LSTM"
    config.dataset = dataset
    config.min_word_count = 3
    config.update(variant(_SIZES, dataset))

    config.optimizer = "sam"
    config.momentum = 0.8
    config.weight_decay = 3e-6
    config.lr_scheduler = "constant"
    config.batch_size = 64

    config.study.metric = "test_metric_best"  # as the paper reports
    config.study.axes = _AXES[dataset]
    return config
