"""A language model on 200 kB of Python's standard library: a small GPT, bytes as tokens, SAM around AdamW.

Run:     python main.py --workdir=runs/text --config=configs/text_gpt.py
         (your own text: --config.data_dir=FILE_OR_FOLDER; docs/language_models.md)
Width:   --config.hidden_size=32 … 64, 128, 256; AdamW alone: --config.rho=0
Expect:  2.87 bits per byte of the last tenth (seed 0); the best constant prediction has 4.39.
Takes:   23 s on two cores.
Source:  the recipe is nanoGPT's (AdamW with betas 0.9 and 0.95, decay 0.1 of kernels only, warmup, cosine to a tenth,
         gradients clipped at 1).
"""

from flatwide.config import default


def get_config():
    config = default()
    config.model = "GPT"
    config.hidden_size = 64
    config.num_layers = 2
    config.dataset = "text"
    config.context_length = 128
    config.loss = "next_token"

    config.optimizer = "sam"
    config.rho = 0.05
    config.base_optimizer = "adamw"
    config.adam_betas = (0.9, 0.95)
    config.weight_decay = 0.1
    config.weight_decay_on = "kernels"
    config.gradient_clip = 1.0
    config.learning_rate = 0.003
    config.lr_scheduler = "cosine"
    config.final_factor = 0.1
    config.warmup_steps = 50

    config.batch_size = 8
    config.num_train_steps = 512  # of 8 windows: 524,288 tokens
    config.eval_every_steps = 128
    config.train_eval_examples = 128
    return config
