"""Does SAM fit twelve points with a simpler function than SGD, the more so the wider the network?

Run:     python main.py --workdir=runs/regression --config=configs/regression_1d.py
Width:   --config.num_neurons="(5,)" … (10,), (100,), (1000,); SGD: --config.rho=0
Expect:  training loss, and test loss, which is the distance from the lines that join the points; seed 0 (measured on
         2026-11-25): 100 neurons, SGD 2e-5 and 0.13, SAM 4e-9 and 0.16; 1,000 neurons, SGD 1e-7 and 2.5, SAM 1e-6 and
         3.8. So SAM is not closer to the lines here, whereas in the paper's figure it is far closer.
Takes:   30 to 60 s on one core of an Intel Xeon shared with other work.
Source:  paper, figure 2: one hidden layer, twelve points, six a step, rho 0.2, widths 5, 10, 100, 1000. It states
         neither learning rate nor length. Initial weights, plain SGD and the linear decay are those of Andriushchenko
         and Flammarion (2022), which it follows. They write the loss as half a sum over the batch, ours is a mean: a
         rate r of theirs is r B / 2 here, 3 r for batches of 6. Ours: rate and length, one pair for all four widths.
"""

from flatwide.config import default


def get_config():
    config = default()
    config.model = "OneHiddenLayer"
    config.num_neurons = (100,)
    config.dataset = "regression_1d"
    config.loss = "squared"

    config.optimizer = "sam"
    config.rho = 0.2
    config.momentum = 0.0
    config.weight_decay = 0.0
    config.learning_rate = 2e-5
    config.lr_scheduler = "linear"

    config.batch_size = 6
    config.num_train_steps = 200_000
    config.eval_every_steps = 20_000  # an epoch is two steps
    return config
