"""Does the gain of SAM over AdamW grow with the width of a tagging Transformer on Ancient Greek?

Run:     python main.py --workdir=runs/pos_width --config=configs/studies/pos_width.py --config.data_dir=DIRECTORY
         (DIRECTORY is UD_Ancient_Greek-Perseus, or any treebank's folder of .conllu files: docs/data.md)
Axes:    the paper's five widths, AdamW and SAM at seven radii, 3 seeds: 120 runs.
Source:  paper, tables 2 and 3, figure 1, which reports the best accuracy on the dev split.
"""

from flatwide.config import default


def get_config():
    config = default()
    config.model = "TaggingTransformer"
    config.num_layers = 6
    config.dropout = 0.3
    config.dataset = "conllu"
    config.tag_column = "xpos"
    config.max_length = 256

    config.optimizer = "sam"
    config.base_optimizer = "adamw"
    config.adam_betas = (0.9, 0.98)
    config.adam_epsilon = 1e-9
    config.weight_decay = 0.1
    config.learning_rate = 0.05  # times 1 / sqrt(step): 5.6e-4 at the end of the warmup
    config.lr_scheduler = "inverse_sqrt"
    config.warmup_steps = 8000

    config.batch_size = 64
    config.num_train_steps = 75_000
    config.eval_every_steps = 1000

    config.study.axes = {
        "hidden_size": (128, 256, 384, 512, 640),
        "rho": (0.0, 0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5),
        "seed": (0, 1, 2),
    }
    config.study.metric = "test_metric_best"
    return config
