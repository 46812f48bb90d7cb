"""Does SAM gain more, at each width, if fewer examples share a perturbation?

Run:     python main.py --workdir=runs/m_sharpness --config=configs/studies/m_sharpness.py
Axes:    perturbations of whole batches of 32 and of microbatches of 8 and 2 examples, five radii and SGD, three widths,
         8 seeds: 384 runs on the data of digits_label_noise, in whose work directory those of whole batches are shared.
Source:  Foret et al. (2021), section 4.1, who find a smaller m better; the widths are ours.
"""

import digits_label_noise


def get_config():
    config = digits_label_noise.get_config()
    # Without an ascent the microbatch changes nothing, as the network has no batch norm: all share the base runs.
    radii = (0.02, 0.1, 0.2, 0.35, 0.5)
    config.study.points = (
        {"rho": 0.0, "microbatch": None},
        *({"rho": rho, "microbatch": microbatch} for microbatch in (None, 8, 2) for rho in radii),
    )
    config.study.axes = {"num_neurons": ((8,), (32,), (128,)), "seed": tuple(range(8))}
    return config
