"""Does SAM have to be on at every step? Accuracy and curvature by the share of steps with SAM.

Run:     python main.py --workdir=runs/late_sam --config=configs/studies/late_sam.py
Axes:    SAM in the last 0, 10, 20, 50 and 100 % of the steps, in the first half, every second step. 30 epochs
         (equal steps), or as many as need the gradients of 30 epochs of SAM (equal gradients): 60 epochs without
         it, 55, 50 and 40 with 10, 20 and 50 % of it. Five radii, three widths, 8 seeds: 1128 runs.
Source:  ours; after Zhou et al. (2025), arXiv 2410.10373, who find that a few epochs of SAM at the end do most of it.
"""

import digits_label_noise

RADII = (0.1, 0.2, 0.35, 0.5, 0.7)
EPOCHS = {0.1: 55, 0.2: 50, 0.5: 40}  # share of steps with SAM -> epochs that need the gradients of 60 without it


def get_config():
    config = digits_label_noise.get_config()
    base = {"rho": 0.0, "num_epochs": 30, "rho_schedule": "constant", "rho_switch": 0.5, "rho_every": 2}
    points = [base, base | {"num_epochs": 60}]
    for rho in RADII:
        sam = base | {"rho": rho}
        points.append(sam)
        for share, epochs in EPOCHS.items():
            late = sam | {"rho_schedule": "late", "rho_switch": round(1 - share, 3)}
            points += [late, late | {"num_epochs": epochs}]
        points += [sam | {"rho_schedule": "early"}, sam | {"rho_schedule": "every"}]
    # The learning rate is constant, so that late steps are as long as early ones.
    config.lr_scheduler = "constant"
    config.study.points = tuple(points)
    config.study.axes = {"num_neurons": ((16,), (32,), (128,)), "seed": tuple(range(8))}
    config.measurements = ("curvature",)
    config.measure_examples = 300
    return config
