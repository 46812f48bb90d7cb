"""Does the test error of SAM itself fall with width?

Run:     python main.py --workdir=runs/teacher --config=configs/two_layer_teacher.py
Width:   --config.num_neurons="(100,)" … (500,), (1000,), (5000,), (10000,), (50000,); SGD: --config.rho=0
Expect:  test squared error of the last epoch, seed 0 (measured on 2026-11-25): 100 neurons SGD 17.0, SAM 16.9; 1,000
         neurons SGD 12.4, SAM 12.8. Paper, SAM only, 100 to 50,000 neurons: 14.63 13.35 12.08 9.49 8.54 4.13.
         10,000 neurons diverge at rate 1e-2, and with this rho at 1e-3, where SGD does not.
Takes:   some 10 s at 1,000 neurons on one core of an Intel Xeon shared with other work.
Source:  paper, figure 22 and appendix J, after Allen-Zhu et al. (2019): 800 epochs, batch 50, × 0.1 at half the time,
         no decay; rates 1e-2 … 1e-7 and rho 1e-1 … 1e-5 in powers of ten were searched, with results that are not
         stated. Ours: rate and rho of this file, the best of a few tried for 40 epochs (rho 1e-2 diverges at this
         rate), the unnormalized rule of its theorem, and a second milestone at 75 % (`step`).
"""

from flatwide.config import default


def get_config():
    config = default()
    config.model = "TwoLayerFrozenHead"
    config.num_neurons = (1000,)
    config.dataset = "two_layer_teacher"
    config.loss = "squared"

    config.optimizer = "sam"
    config.sam_variant = "unnormalized"
    config.rho = 1e-3
    config.momentum = 0.0
    config.weight_decay = 0.0
    config.learning_rate = 1e-2
    config.lr_scheduler = "step"

    config.batch_size = 50
    config.num_epochs = 800
    return config
