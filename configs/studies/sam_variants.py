"""Which ascent rule helps most, each at its own best radius?

Run:     python main.py --workdir=runs/sam_variants --config=configs/studies/sam_variants.py
Axes:    seven rules with a grid of radii each, three widths, 8 seeds: 912 runs on the data of digits_label_noise,
         whose grid is that of the normalized rule; in its work directory those runs are shared.
Source:  ours; rules of Foret et al. (2021), Kwon et al. (2021), Li et al. (2024), Zhuang et al. (2022), Becker et al.
         (2024), the unnormalized one of the paper's theory, and one of the hidden layer alone.
"""

import digits_label_noise

# The length that rho stands for differs between rules, so each has its own grid. Momentum-SAM takes one gradient a
# step, all others two.
RADII = {
    "normalized": (0.0, 0.01, 0.02, 0.1, 0.2, 0.35, 0.5),  # 0 is SGD, the same for all
    "unnormalized": (0.01, 0.05, 0.1, 0.2, 0.5, 1.0),
    "adaptive": (0.1, 0.5, 1.0, 2.0, 4.0),
    "friendly": (0.02, 0.1, 0.2, 0.35, 0.5),
    "gsam": (0.02, 0.1, 0.2, 0.35, 0.5),
    "subset": (0.02, 0.1, 0.2, 0.35, 0.5),
    "momentum": (0.02, 0.1, 0.35, 1.0, 3.0),
}


def get_config():
    config = digits_label_noise.get_config()
    config.study.points = tuple(
        {"sam_variant": variant, "rho": rho, "ascent_layers": ("hidden_0/.*",) if variant == "subset" else ()}
        for variant, radii in RADII.items()
        for rho in radii
    )
    config.study.axes = {"num_neurons": ((8,), (32,), (128,)), "seed": tuple(range(8))}
    return config
