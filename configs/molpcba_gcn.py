"""The paper's molecules: a graph convolutional network with SAM around Adam on ogbg-molpcba.

Run:     python main.py --workdir=runs/molpcba --config=configs/molpcba_gcn.py --config.data_dir=DIRECTORY
         (the folder that OGB's pcba.zip unpacks to)
Width:   --config.hidden_size=128, 256, 512; Adam alone: --config.rho=0
Expect:  paper, mean average precision: Adam 21.67 %, SAM 21.90 %; at 512 Adam 21.57 %, SAM 22.04 %. It does not state
         the split; here it is OGB's test split. Not run here: we did not have access to the data.
Takes:   not measured; benchmarks/gcn_step.py times a step of it on your machine. About 2 GB of memory for the data.
Source:  paper, table 2 (1e5 steps, Adam 0.9 and 0.999, 1e-3 constant, batch 256) and table 3 (widths); the network, and
         the evaluation every 1,000 steps, from Flax's ogbg-molpcba example, since the paper does not state them.
"""

from flatwide.config import default


def get_config():
    config = default()
    config.model = "GCN"
    config.hidden_size = 256
    config.dataset = "ogbg_molpcba"
    config.loss = "binary_cross_entropy"

    config.optimizer = "sam"
    config.base_optimizer = "adam"
    config.rho = 0.05
    config.adam_betas = (0.9, 0.999)
    config.learning_rate = 1e-3
    config.lr_scheduler = "constant"

    config.batch_size = 256
    config.num_train_steps = 100_000
    config.eval_every_steps = 1000
    return config
