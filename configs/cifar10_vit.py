"""The paper's vision transformer on CIFAR-10, trained from scratch, with SAM.

Run:     python main.py --workdir=runs/cifar10_vit --config=configs/cifar10_vit.py --config.data_dir=DIRECTORY
         (the binary version's files in DIRECTORY; without data_dir they come from the Hugging Face hub)
Small:   --config.dataset=digits --config.hidden_size=32 --config.num_epochs=20, and no data_dir: 93.5 %, 15 s on one
         core; with --config.dataset=mnist, the folder of its files as data_dir
Width:   --config.hidden_size=32 … 64, 128, 256, 512, 1024; SGD: --config.rho=0
Expect:  paper, 256 wide: SGD 85.02 %, SAM 85.76 % at its best rho, which it does not state.
         Not run here.
Takes:   not measured; benchmarks/vit_step.py times a step of it on your machine.
Source:  paper, table 2 (200 epochs, 0.1, cosine, SGD with momentum 0.9, weight decay 1e-4, batch 128), table 3 (widths,
         patches of 4) and figure 5e; augmentation as for ResNet-18 by the authors' code. Dropout, positions and where
         the norms are is not stated: docs/models.md states ours.
"""

from flatwide.config import default


def get_config():
    config = default()
    config.model = "ViT"
    config.hidden_size = 256
    config.patch_size = 4
    config.dataset = "cifar10"

    config.optimizer = "sam"
    config.rho = 0.05  # ours
    config.momentum = 0.9
    config.weight_decay = 1e-4
    config.learning_rate = 0.1
    config.lr_scheduler = "cosine"

    config.batch_size = 128
    config.num_epochs = 200
    return config
