"""Does a language model that SAM has trained forget less when it is fine-tuned on another text?

Run:     python main.py --workdir=runs/lm_forgetting --config=configs/studies/lm_forgetting.py
         --config.data_dir=SECOND_TEXT --config.initialize_from=PRETRAINED
         PRETRAINED is the work directory of networks of these widths, seeds and radii on a first text:
         python main.py --workdir=PRETRAINED --config=configs/studies/lm_width.py --config.data_dir=FIRST_TEXT
         --config.study.axes.learning_rate="(0.005,)" --config.study.exclude="({'num_train_steps':1954},)"
Axes:    three widths; networks pretrained by AdamW and by SAM at three radii; fine-tuning by AdamW at four rates, and
         by SAM at three radii at one; 5 seeds: 420 runs. Each is measured on both texts.
Source:  ours.
"""

import lm_width


def get_config():
    config = lm_width.get_config()
    config.initialize_from = "runs/lm_pretrained"
    config.num_train_steps = 128
    config.weight_average = "none"
    config.warmup_steps = 10
    config.measurements = ("forgetting",)

    rates, radii = (0.0003, 0.001, 0.003, 0.01), (0.005, 0.02, 0.05)
    config.study.points = (
        *({"rho": 0.0, "learning_rate": rate} for rate in rates),
        *({"rho": rho, "learning_rate": 0.001} for rho in radii),
    )
    config.study.axes = {
        "hidden_size": (32, 64, 128),
        "pretraining_rho": (0.0, *radii),
        "seed": (0, 1, 2, 3, 4),
    }
    config.study.tune = ()
    return config
