"""Does the gain of SAM grow with width in each domain whose data need no download?

Run:     pip install -e '.[molecules,games]'
         python main.py --workdir=runs/all_domains --config=configs/studies/all_domains.py
Axes:    seven domains, each with three widths, its base optimizer and SAM at three radii, 3 seeds: 252 runs.
Source:  ours. Each part is a smaller version of a shipped config or study; what differs from it, and why, is in
         docs/studies/all_domains.md.
"""

from flatwide.config import default

_RHOS = (0.0, 0.02, 0.1, 0.3)


def get_config():
    config = default()
    config.optimizer = "sam"
    config.study.axes = {"rho": _RHOS, "seed": (0, 1, 2)}
    config.study.parts = {
        "digits": {
            "model": "MLP",
            "dataset": "digits",
            "label_noise": 0.5,
            "learning_rate": 0.05,
            "batch_size": 32,
            "num_epochs": 60,
            "axes": {"num_neurons": ((8,), (32,), (128,))},
        },
        "patches": {
            "model": "ViT",
            "num_layers": 2,
            "dataset": "digits",
            "weight_decay": 1e-4,
            "learning_rate": 0.1,
            "lr_scheduler": "cosine",
            "batch_size": 32,
            "num_epochs": 30,
            "axes": {"hidden_size": (16, 32, 64)},
        },
        "teacher": {
            "model": "MLP",
            "kernel_scale": 0.1,
            "dataset": "teacher_student",
            "train_examples": 4000,
            "loss": "squared",
            "learning_rate": 0.1,
            "batch_size": 128,
            "num_epochs": 20,
            "axes": {"num_neurons": ((25,), (100,), (400,)), "rho": (0.0, 0.1, 0.5, 1.0)},
        },
        "tags": {
            "model": "TaggingTransformer",
            "num_layers": 1,
            "dataset": "made_tagging",
            "base_optimizer": "adamw",
            "adam_betas": (0.9, 0.98),
            "adam_epsilon": 1e-9,
            "weight_decay": 0.1,
            "learning_rate": 3e-3,
            "lr_scheduler": "constant",
            "batch_size": 64,
            "num_epochs": 20,
            "axes": {"hidden_size": (8, 16, 32)},
        },
        "reviews": {
            "model": "LSTM",
            "dataset": "made_sentiment",
            "dropout": 0.2,
            "base_optimizer": "adam",
            "learning_rate": 0.01,
            "lr_scheduler": "constant",
            "batch_size": 64,
            "num_epochs": 10,
            "axes": {"hidden_size": (8, 16, 32)},
        },
        "molecules": {
            "model": "GCN",
            "num_layers": 2,
            "dataset": "made_molecules",
            "train_examples": 1000,
            "loss": "binary_cross_entropy",
            "base_optimizer": "adam",
            "learning_rate": 0.01,
            "lr_scheduler": "constant",
            "batch_size": 128,
            "num_epochs": 20,
            "eval_every_steps": 80,
            "axes": {"hidden_size": (4, 16, 64)},
        },
        "games": {
            "model": "ActorCritic",
            "dataset": "minatar_breakout",
            "loss": "ppo",
            "base_optimizer": "adam",
            "learning_rate": 0.005,
            "lr_scheduler": "linear",
            "gradient_clip": 0.5,
            "num_envs": 64,
            "unroll_length": 128,
            "update_epochs": 4,
            "batch_size": 1024,
            "num_epochs": 16,
            "eval_every_steps": 256,
            "clip_ratio": 0.2,
            "axes": {"num_filters": (1, 2, 4)},
        },
    }
    return config
