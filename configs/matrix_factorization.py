"""Does SAM converge linearly to zero loss if the network can interpolate, and not if it cannot?

Run:     python main.py --workdir=runs/factorization --config=configs/matrix_factorization.py
Width:   --config.num_neurons="(4,)" is rank 4, below the 6 of the matrix: no interpolation; SGD: --config.rho=0
Expect:  training loss at the end, seed 0 (measured on 2026-11-25): 10 neurons 2e-10 with SAM, 1e-11 (rounding) with
         SGD; 4 neurons 0.10 with both, the minimum that rank 4 allows.
Takes:   some 4 s on one core of an Intel Xeon shared with other work.
Source:  paper, figure 6c and section 6: 1,000 samples, 100 epochs, constant rate 5e-4. Ours, since the paper does not
         state them: batch 1, rho 0.05 of the unnormalized rule, the subject of its theory, the sum over outputs,
         LeCun-normal initial weights, and the matrix (docs/data.md). Its curves fall far more slowly, by 3 to 5 powers
         of two in all.
"""

from flatwide.config import default


def get_config():
    config = default()
    config.model = "LinearNetwork"
    config.num_neurons = (10,)
    config.dataset = "matrix_factorization"
    config.loss = "squared"

    config.optimizer = "sam"
    config.sam_variant = "unnormalized"
    config.rho = 0.05
    config.momentum = 0.0
    config.weight_decay = 0.0
    config.learning_rate = 5e-4
    config.lr_scheduler = "constant"

    config.batch_size = 1
    config.num_epochs = 100
    return config
