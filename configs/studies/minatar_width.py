"""Does the gain of SAM over Adam grow with the width of a network that learns to play MinAtar's Breakout?

Run:     pip install -e '.[games]'
         python main.py --workdir=runs/minatar_width --config=configs/studies/minatar_width.py
Axes:    2 to 16 filters (2,206 to 132,308 parameters), Adam (rho 0) and SAM at five radii, 3 seeds: 72 runs.
Source:  ours (see configs/minatar_ppo.py); radii, seeds and the best evaluation as the score are those of the paper's
         Atari runs. Game: gymnax, no download.
"""

from flatwide.config import default


def get_config():
    config = default()
    config.model = "ActorCritic"
    config.dataset = "minatar_breakout"
    config.loss = "ppo"

    config.optimizer = "sam"
    config.base_optimizer = "adam"
    config.learning_rate = 0.005
    config.lr_scheduler = "linear"
    config.gradient_clip = 0.5

    config.num_envs = 64
    config.unroll_length = 128
    config.update_epochs = 4
    config.batch_size = 1024
    config.num_epochs = 122
    config.clip_ratio = 0.2
    config.num_test_games = 32

    config.study.metric = "test_metric_best"
    config.study.axes = {
        "num_filters": (2, 4, 8, 16),
        "rho": (0.0, 0.01, 0.02, 0.05, 0.1, 0.2),
        "seed": (0, 1, 2),
    }
    return config
