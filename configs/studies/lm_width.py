"""Does the gain of SAM over AdamW grow with the width of a language model, each with its own learning rate?

Run:     python main.py --workdir=runs/lm_width --config=configs/studies/lm_width.py --config.data_dir=FILE_OR_FOLDER
         (without data_dir: 200 kB of Python's standard library)
Axes:    three widths; three learning rates; AdamW for a million tokens and for two million, SAM at three radii for a
         million; 5 seeds: 225 runs. Every run also scores the average of its weights.
Source:  ours. The recipe is that of configs/text_gpt.py; rates and radii are about the best ones of a first run.
"""

from flatwide.config import default

STEPS = 977  # of 8 windows of 128 tokens: a million tokens


def get_config():
    config = default()
    config.model = "GPT"
    config.num_layers = 2
    config.dataset = "text"
    config.context_length = 128
    config.loss = "next_token"

    config.optimizer = "sam"
    config.base_optimizer = "adamw"
    config.adam_betas = (0.9, 0.95)
    config.weight_decay = 0.1
    config.weight_decay_on = "kernels"
    config.gradient_clip = 1.0
    config.lr_scheduler = "cosine"
    config.final_factor = 0.1
    config.warmup_steps = 50
    config.weight_average = "ema"
    config.average_decay = 0.99

    config.batch_size = 8
    config.num_train_steps = STEPS
    config.train_eval_examples = 128

    config.study.points = tuple(
        {"rho": rho, "num_train_steps": steps}
        for rho, steps in [(0.0, STEPS), (0.0, 2 * STEPS), *((rho, STEPS) for rho in (0.005, 0.02, 0.05))]
    )
    config.study.axes = {
        "hidden_size": (32, 64, 128),
        "learning_rate": (0.002, 0.005, 0.0125),
        "seed": (0, 1, 2, 3, 4),
    }
    config.study.tune = ("learning_rate",)
    return config
