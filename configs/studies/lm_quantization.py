"""Does SAM reduce the loss of rounding a language model to few bits, beside cheaper ways to a flatter minimum?

Run:     python main.py --workdir=runs/lm_quantization --config=configs/studies/lm_quantization.py
         --config.data_dir=TEXT --config.initialize_from=PRETRAINED
         PRETRAINED is the work directory of AdamW's networks of lm_width on the same text, of these widths and seeds.
Axes:    two widths; AdamW, with a larger learning rate and with a shorter decay; SAM at two radii, all the time and in
         the decay alone; 5 seeds: 70 runs. Each is measured with noise and with rounding, on test windows.
Source:  ours. All arms continue the same networks, at a constant rate and then a decay.
"""

import lm_width

_BASE = {"rho": 0.0, "rho_schedule": "constant", "learning_rate": 0.005, "decay_fraction": 0.4}


def get_config():
    config = lm_width.get_config()
    config.initialize_from = "runs/lm_pretrained"
    config.pretraining_rho = 0.0
    config.num_train_steps = lm_width.STEPS // 4
    config.warmup_steps = 10
    config.lr_scheduler = "wsd"
    config.measurements = ("held_out_robustness",)
    config.measure_examples = 200

    radii, times = (0.02, 0.05), ("constant", "decay")
    config.study.points = (
        _BASE,
        _BASE | {"learning_rate": 0.0125},
        _BASE | {"decay_fraction": 0.1},
        *(_BASE | {"rho": rho, "rho_schedule": when} for rho in radii for when in times),
    )
    config.study.axes = {"hidden_size": (32, 64), "seed": (0, 1, 2, 3, 4)}
    config.study.tune = ()
    return config
