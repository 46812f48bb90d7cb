"""Does SAM help where a network trains lazily, near its linearization?

Run:     python main.py --workdir=runs/lazy --config=configs/cifar10_vgg11.py --config.data_dir=DIRECTORY
         (the binary version's files in DIRECTORY; without data_dir they come from the Hugging Face hub)
Axis:    --config.output_scale=1 … 10, 100, 1000: the lazier, the larger; the limit: --config.linearized=True
         SGD: --config.rho=0; the paper's radii: 0.001, 0.01, 0.02
Expect:  paper, accuracy in % at output_scale 1, 10, 100, 1000: SGD 88.33 71.52 53.49 53.11; rho 0.01 88.48 66.53 24.66
         11.42; share of unchanged activations, SGD: .534 .780 .991 .999. Not run here.
Takes:   not measured.
Source:  paper, figure 19: VGG-11, the squared loss of α (F(w) − F(w0)) against one-hot labels, divided by α². It states
         neither learning rate, length, batch nor augmentation. Ours, after the code of Chizat et al. (2019): 100
         epochs, batch 128, momentum 0.9, no decay, crops and flips; rate 0.01, since their 0.1, one of four that they
         try, is for a mean over the 10 outputs and ours is a sum. They let it fall as 1 / (1 + epoch / 3), we by
         `cosine`.
"""

from flatwide.config import default


def get_config():
    config = default()
    config.model = "VGG11"
    config.num_filters = 64
    config.dataset = "cifar10"
    config.loss = "squared"
    config.output_scale = 1.0

    config.optimizer = "sam"
    config.rho = 0.01
    config.momentum = 0.9
    config.weight_decay = 0.0
    config.learning_rate = 0.01
    config.lr_scheduler = "cosine"

    config.batch_size = 128
    config.num_epochs = 100
    return config
