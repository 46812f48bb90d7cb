"""The CIFAR-10 run on CIFAR-100.

Run:     python main.py --workdir=runs/cifar100 --config=configs/cifar100_resnet18.py --config.data_dir=DIRECTORY
         (train.bin and test.bin of the binary version in DIRECTORY; without data_dir they come from the hub)
Expect:  not in the paper, and not run here: we did not have access to the data.
Takes:   as configs/cifar10_resnet18.py.
Source:  hyperparameters of the paper's CIFAR-10 workload (table 2); the data set is ours.
"""

import cifar10_resnet18


def get_config():
    config = cifar10_resnet18.get_config()
    config.dataset = "cifar100"
    return config
