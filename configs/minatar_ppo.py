"""PPO on MinAtar's Breakout, with SAM in each step: a game that is part of the compiled program.

Run:     python main.py --workdir=runs/minatar --config=configs/minatar_ppo.py
         (the extra `games`: pip install 'flatwide[games]')
Width:   --config.num_filters=4 … 8, 16, 32; Adam alone: --config.rho=0; a shorter run: --config.num_epochs=16
Expect:  6.3 points a game after 197,000 actions (rho 0.02, 24 epochs, seed 0), where random play has 0.40; see
         docs/studies/minatar_width.md. A million actions were not run here.
Takes:   a million actions: 1.5 min at 4 filters, 4 min at 16, on one core of an AMD EPYC (extrapolated from 2 epochs),
         and evaluations, up to half a second each; Adam alone 60 % of that.
Source:  ours: the paper plays Atari, for which there is configs/atari_ppo.py. Adam, gradient clip, linear decay,
         discount, lambda and both coefficients are as there. The board is so much easier that 64 games, a learning rate
         of 0.005, a clip ratio of 0.2 and batches of 1,024 learn faster; all four are common for this game.
"""

from flatwide.config import default


def get_config():
    config = default()
    config.model = "ActorCritic"
    config.num_filters = 16
    config.dataset = "minatar_breakout"
    config.loss = "ppo"

    config.optimizer = "sam"
    config.base_optimizer = "adam"
    config.rho = 0.05
    config.learning_rate = 0.005
    config.lr_scheduler = "linear"  # and the clip ratio with it
    config.gradient_clip = 0.5

    # An epoch plays 64 games for 128 actions each, and then takes 4 x 8 steps.
    config.num_envs = 64
    config.unroll_length = 128
    config.update_epochs = 4
    config.batch_size = 1024
    config.num_epochs = 122  # a million actions

    config.discount = 0.99
    config.gae_lambda = 0.95
    config.clip_ratio = 0.2
    config.value_coefficient = 0.5
    config.entropy_coefficient = 0.01
    config.num_test_games = 32
    return config
