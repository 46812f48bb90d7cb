"""Does the gain of SAM over Adam grow with the width of PPO's network on Atari's Breakout?

Run:     pip install -e '.[atari]'
         python main.py --workdir=runs/atari_width --config=configs/studies/atari_width.py
Axes:    the paper's four widths, Adam and SAM at five radii, 3 seeds: 72 runs.
Source:  paper, tables 2 and 3, figure 1; what it does not state is from Flax's PPO example (see configs/atari_ppo.py).
"""

from flatwide.config import default


def get_config():
    config = default()
    config.model = "ActorCritic"
    config.dataset = "atari_breakout"
    config.loss = "ppo"

    config.optimizer = "sam"
    config.base_optimizer = "adam"
    config.learning_rate = 2.5e-4
    config.lr_scheduler = "linear"
    config.gradient_clip = 0.5

    config.num_envs = 8
    config.unroll_length = 128
    config.update_epochs = 3
    config.batch_size = 256
    config.num_epochs = 9765
    config.eval_every_steps = 1200
    config.num_test_games = 8

    config.study.metric = "test_metric_best"
    config.study.axes = {
        "num_filters": (16, 32, 48, 64),
        "rho": (0.0, 0.01, 0.02, 0.05, 0.1, 0.2),
        "seed": (0, 1, 2),
    }
    return config
