"""The paper's Atari run: PPO with SAM on the original Breakout, emulated on the host.

Run:     pip install -e '.[atari]'
         python main.py --workdir=runs/atari --config=configs/atari_ppo.py
Width:   --config.num_filters=16, 32, 48, 64; Adam: --config.rho=0
Expect:  paper, the best score: Adam 377 at 16 filters to 686 at 64, SAM at its best rho 405 to 808.
         Not run here in full; docs/studies/atari_width.md has a million actions.
Takes:   9,765 epochs of 1,024 actions, 117,180 updates; benchmarks/atari_steps.py times them on your machine.
Source:  paper, table 2 (1e7 steps, Adam at 2.5e-4 with linear decay, batch 256, gradient clip 0.5; the score every 100
         steps, the best reported) and table 3 (widths). The rest from Flax's PPO example, on which the paper says that
         it is based: games, actions, passes, discounts, coefficients. It counts 1e7 "steps" as actions, 4 frames each,
         and 100 as epochs. Ours: 8 test games instead of one, whose score alone is noisy.
"""

from flatwide.config import default


def get_config():
    config = default()
    config.model = "ActorCritic"
    config.num_filters = 32
    config.dataset = "atari_breakout"
    config.loss = "ppo"

    config.optimizer = "sam"
    config.base_optimizer = "adam"
    config.rho = 0.05
    config.learning_rate = 2.5e-4
    config.lr_scheduler = "linear"
    config.gradient_clip = 0.5

    config.num_envs = 8
    config.unroll_length = 128
    config.update_epochs = 3
    config.batch_size = 256
    config.num_epochs = 9765
    config.eval_every_steps = 1200  # 100 epochs of 12 updates
    config.num_test_games = 8
    return config
