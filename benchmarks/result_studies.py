"""The studies of docs/results.md and docs/claims.md: what was trained, and which committed tables have the numbers.

Not a program: `results.py` and `claims.py` write the pages.
"""

from study_kinds import Study, curve, domain, plain, tuned

MNIST = plain(
    "mnist_width",
    "MNIST, 20 epochs",
    "LeNet-300-100",
    panel="MNIST, MLP over SGD",
    workload="mnist",
)
MNIST_100 = plain(
    "mnist_width",
    "MNIST, 100 epochs",
    "LeNet-300-100",
    folder="mnist_width/epochs_100",
    panel="MNIST, 100 epochs, MLP over SGD",
    workload="mnist",
)
_NOISY = "half of the labels wrong"
_NOISY_MNIST = f"MNIST, 15,000 images, {_NOISY}"
NOISY_MNIST = plain(
    "mnist_label_noise",
    _NOISY_MNIST,
    "LeNet-300-100",
    folder="mnist_label_noise/half_wrong",
    panel="MNIST, wrong labels, MLP over SGD",
)
TUNED_MNIST = tuned(
    "mnist_label_noise#each-arms-learning-rate-tuned",
    _NOISY_MNIST,
    "LeNet-300-100",
    folder="mnist_label_noise/tuned",
    tune="learning_rate",
)
DECAY_TUNED = tuned(
    "mnist_label_noise#each-arms-weight-decay-tuned",
    _NOISY_MNIST,
    "LeNet-300-100",
    folder="mnist_label_noise/weight_decay",
    tune="weight_decay",
)
WITHOUT_DECAY = plain(
    DECAY_TUNED.page,
    f"{_NOISY_MNIST}, no weight decay",
    "LeNet-300-100",
    folder="mnist_label_noise/no_decay",
)
CLEAN_MNIST = plain(
    "mnist_label_noise",
    "MNIST, 15,000 images",
    "LeNet-300-100",
    folder="mnist_label_noise/none_wrong",
)
CIFAR = plain(
    "cifar10_width",
    "CIFAR-10 (JPEG), 1,000 examples",
    "ResNet-18",
    panel="CIFAR-10, ResNet-18 over SGD",
    workload="cifar10",
)
NOISY_CIFAR = plain(
    "cifar10_label_noise",
    f"CIFAR-10 (JPEG), 1,000 examples, {_NOISY}",
    "ResNet-18",
    folder="cifar10_label_noise/half_wrong",
    panel="CIFAR-10, wrong labels, ResNet-18 over SGD",
    workload="cifar10",
    setting="label_noise=0.5",
)
TUNED_CIFAR = tuned(
    "cifar10_label_noise#each-arms-learning-rate-tuned",
    f"CIFAR-10 (JPEG), 1,000 examples, {_NOISY}",
    "ResNet-18",
    folder="cifar10_label_noise/tuned",
    tune="learning_rate",
)
CIFAR_AT_A_RHO = plain(  # without wrong labels, at the sizes and the rho of the study with them
    "cifar10_label_noise", "CIFAR-10 (JPEG), 1,000 examples", "ResNet-18", folder="cifar10_label_noise/none_wrong"
)
CIFAR_WITHOUT_DECAY = plain(
    "cifar10_weight_decay",
    "CIFAR-10 (JPEG), 1,000 examples, no weight decay",
    "ResNet-18",
    folder="cifar10_weight_decay/no_decay",
    workload="cifar10",
    setting="weight_decay=0.0",
)
FASHION = plain(
    "fashion_mnist_width",
    "Fashion-MNIST, 20 epochs",
    "LeNet-300-100",
    panel="Fashion-MNIST, MLP over SGD",
)
SST2 = plain(
    "sst2_width",
    "SST-2 of GLUE, 16,000 phrases",
    "LSTM",
    folder="sst2_width/glue",
    panel="SST-2, LSTM over SGD",
    workload="sst2",
)
REVIEWS = plain(
    "sst2_width",
    "10,605 other reviews",
    "LSTM",
    panel="Reviews, LSTM over SGD",
)
PTNK = plain(
    "pos_width",
    "Ancient Greek PTNK, best evaluation",
    "Transformer",
    folder="pos_width/ptnk",
    panel="Ancient Greek, Transformer over AdamW",
    workload="pos",
)
PTNK_LAST = plain(
    "pos_early_stopping",
    "Ancient Greek PTNK, last evaluation",
    "Transformer",
    folder="pos_early_stopping/ptnk",
    workload="pos",
    setting="last_step",
)
TURKISH = plain(
    "pos_width",
    "a Turkish treebank, best evaluation",
    "Transformer",
    panel="Turkish, Transformer over AdamW",
    workload="pos",
)
TURKISH_LAST = plain(
    "pos_early_stopping",
    "a Turkish treebank, last evaluation",
    "Transformer",
    workload="pos",
    setting="last_step",
)
TOX21 = plain(
    "molpcba_width",
    "Tox21, 600 steps",
    "GCN",
    folder="molpcba_width/tox21",
    panel="Tox21, GCN over Adam",
)
DIGITS = plain(
    "digits_width",
    "digits",
    "MLP",
    panel="Digits, MLP over SGD",
)
VIT = plain(
    "cifar10_vit_width",
    "digits",
    "ViT",
    panel="Digits, ViT over SGD",
)
CIFAR_VIT = plain(
    "cifar10_vit_width",
    "CIFAR-10 (JPEG), 1,000 examples",
    "ViT",
    folder="cifar10_vit_width/jpeg",
    panel="CIFAR-10, ViT over SGD",
    workload="cifar10",
    setting="model=ViT",
)
_NOISY_DIGITS = f"digits, {_NOISY}"
NOISY_DIGITS = plain(
    "digits_label_noise",
    _NOISY_DIGITS,
    "MLP",
    panel="Digits, wrong labels, MLP over SGD",
)
TUNED_DIGITS = tuned(
    "digits_fair_fight",
    _NOISY_DIGITS,
    "MLP",
    folder="digits_fair_fight",
    tune="learning_rate",
)
_NOISY_FASHION = f"Fashion-MNIST, 3,000 examples, {_NOISY}"
_CURVES = {  # what was tuned -> the curve of `width_transfer`
    "SAM at SGD's learning rate": "standard, same rate",
    "each arm's learning rate tuned": "standard, tuned",
    "muP, each arm tuned": "muP, tuned",
    "muP with layerwise perturbations, each arm tuned": "muP, layerwise, tuned",
}
REAL = (
    MNIST_100,
    MNIST,
    NOISY_MNIST,
    TUNED_MNIST,
    DECAY_TUNED,
    WITHOUT_DECAY,
    CLEAN_MNIST,
    CIFAR,
    NOISY_CIFAR,
    TUNED_CIFAR,
    CIFAR_WITHOUT_DECAY,
    CIFAR_VIT,
    FASHION,
    SST2,
    REVIEWS,
    PTNK,
    PTNK_LAST,
    TURKISH,
    TURKISH_LAST,
    TOX21,
    DIGITS,
    VIT,
    domain("digits, 100 epochs or fewer", "ViT of two blocks", "digits", "ViT"),
    *(
        Study(
            page="data_width",
            data=f"digits, {count:,} examples, a tenth of the labels wrong",
            model="MLP",
            summary="data_width/summary.csv",
            gains="data_width/gain_by_parameters_over_data.csv",
            where={"train_examples": count},
            gains_where={"train_examples": count},
        )
        for count in (360, 721, 1442)
    ),
    NOISY_DIGITS,
    Study(
        page="digits_label_noise",
        data=f"{_NOISY_DIGITS}, seeds 100 to 107",
        model="MLP",
        summary="digits_label_noise/summary_of_seeds_100_to_107.csv",
    ),
    TUNED_DIGITS,
    domain(_NOISY_DIGITS, "MLP", "digits", "MLP"),
    *(
        curve(f"{data}, {arms}", name, folder=folder)
        for data, folder in ((_NOISY_DIGITS, "width_transfer"), (_NOISY_FASHION, "width_transfer/fashion_mnist"))
        for arms, name in _CURVES.items()
    ),
)
SYNTHETIC = plain(
    "synthetic_width",
    "noisy teacher, ten epochs",
    "MLP",
    is_percent=False,
    panel="Teacher, MLP over SGD",
    workload="teacher_student",
)
MINATAR = plain(
    "minatar_width",
    "MinAtar's Breakout, 131,072 actions",
    "PPO",
    is_percent=False,
    panel="MinAtar Breakout, PPO over Adam",
)
MINATAR_MILLION = plain(
    "minatar_width",
    "MinAtar's Breakout, a million actions",
    "PPO",
    folder="minatar_width/million",
    is_percent=False,
)
SYNTHETIC_DATA = (
    SYNTHETIC,
    domain("noisy teacher, 4,000 examples", "MLP", "teacher_student", "MLP", is_percent=False),
    plain("molpcba_width", "synthetic labels of real molecules", "GCN", panel="Synthetic labels, GCN over Adam"),
    domain("synthetic labels of 1,000 real molecules", "GCN", "made_molecules", "GCN"),
    domain("synthetic reviews", "LSTM", "made_sentiment", "LSTM", panel="Synthetic reviews, LSTM over Adam"),
    domain(
        "synthetic tags",
        "Transformer",
        "made_tagging",
        "TaggingTransformer",
        panel="Synthetic tags, Transformer over AdamW",
    ),
    MINATAR,
    MINATAR_MILLION,
    domain("MinAtar's Breakout, a short run", "PPO", "minatar_breakout", "ActorCritic", is_percent=False),
)
# Studies of other sizes than widths, which claims are judged by.
SPARSITY = plain(
    "mnist_sparsity",
    "MNIST, 61,035 nonzero parameters left by SNIP at three widths, 20 epochs",
    "LeNet-300-100",
)
CIFAR_SPARSITY = plain(
    "cifar10_sparsity",
    "CIFAR-10 (JPEG), 1,000 examples, 11,420 nonzero parameters left by SNIP of 2 or 8 filters",
    "ResNet-18",
)
CIFAR_DEPTH = plain(
    "cifar10_depth",
    "CIFAR-10 (JPEG), 1,000 examples, one or two blocks a stage",
    "ResNet of 4 filters",
)
DEPTH = plain(
    "mnist_depth",
    "MNIST, one to three layers of 100 neurons, 20 epochs",
    "MLP",
)
