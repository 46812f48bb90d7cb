"""The paper's CIFAR-10 run: ResNet-18 with SAM.

Run:     python main.py --workdir=runs/cifar10 --config=configs/cifar10_resnet18.py --config.data_dir=DIRECTORY
         (the binary version's files in DIRECTORY; without data_dir they come from the Hugging Face hub)
Width:   --config.num_filters=4 … 8, 16, 32, 64, 128, 256; SGD: --config.rho=0
Expect:  paper, 64 filters: SGD 95.03 %, SAM 95.85 % at rho 0.1 and 96.00 % at 0.2.
         Not run here.
Takes:   not measured; benchmarks/resnet_step.py times a step of it on your machine.
Source:  paper, table 2 (200 epochs, 0.1 × 0.1 at 50 and 75 %, SGD with momentum 0.9, weight decay 5e-4, batch 128) and
         table 3 (widths); augmentation from the authors' code, since the paper does not state it.
"""

from flatwide.config import default


def get_config():
    config = default()
    config.model = "ResNet18"
    config.num_filters = 64
    config.dataset = "cifar10"

    config.optimizer = "sam"
    config.rho = 0.1  # the paper's best radii: 0.005 at 4 filters, 0.1 at 8 to 32, 0.2 from 64 on
    config.momentum = 0.9
    config.weight_decay = 5e-4
    config.learning_rate = 0.1
    config.lr_scheduler = "step"

    config.batch_size = 128
    config.num_epochs = 200
    return config
