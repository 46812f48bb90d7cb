"""The studies of docs/results.md and docs/claims.md: what was trained, and which committed tables have the numbers.

Not a program: `results.py` and `claims.py` write the pages.
"""

from study_kinds import Study, command, curve, domain, plain, tuned

MNIST = plain(
    "mnist_width",
    "MNIST, 20 epochs",
    "LeNet-300-100",
    panel="MNIST, MLP over SGD",
    workload="mnist",
    command=command(
        "mnist_width.py",
        "mnist_width",
        "--config.data_dir=DIRECTORY --config.num_epochs=20",
        '--config.study.axes.num_neurons="((75,25),(150,50),(300,100),(600,200))"',
    ),
)
_LEFT_OUT_AT_100 = (
    *({"num_neurons": widths, "seed": seed} for widths in ((150, 50), (300, 100)) for seed in (3, 4)),
    {"num_neurons": (300, 100), "rho": 0.02},
)
MNIST_100 = plain(
    "mnist_width",
    "MNIST, 100 epochs",
    "LeNet-300-100",
    folder="mnist_width/epochs_100",
    panel="MNIST, 100 epochs, MLP over SGD",
    workload="mnist",
    command=command(
        "mnist_width.py",
        "mnist_100",
        "--config.data_dir=DIRECTORY --config.eval_every_steps=4690",
        '--config.study.axes.num_neurons="((75,25),(150,50),(300,100))" --config.study.axes.rho="(0.0,0.02,0.1,0.2)"',
        f'--config.study.axes.seed="range(5)" --config.study.exclude="{_LEFT_OUT_AT_100}"',
    ),
)
_NOISY = "half of the labels wrong"
_THREE_SIZES = '--config.study.axes.num_neurons="((75,25),(150,50),(300,100))"'
_FOUR_SIZES = '--config.study.axes.num_neurons="((75,25),(150,50),(300,100),(1200,400))"'
_FOUR_RHO = '--config.study.axes.rho="(0.0,0.1,0.2,0.3)"'


def _mnist_noise(*axes: str) -> str:
    return command(
        "mnist_label_noise.py",
        "mnist_label_noise",
        "--config.data_dir=DIRECTORY --config.train_examples=15000",
        "--config.num_epochs=40 --config.eval_every_steps=468",
        *axes,
    )


_NOISY_MNIST = f"MNIST, 15,000 images, {_NOISY}"
NOISY_MNIST = plain(
    "mnist_label_noise",
    _NOISY_MNIST,
    "LeNet-300-100",
    folder="mnist_label_noise/half_wrong",
    panel="MNIST, wrong labels, MLP over SGD",
    command=_mnist_noise(
        '--config.study.axes.label_noise="(0.5,)" --config.study.axes.rho="(0.0,0.1,0.2,0.3,0.5)"',
        _FOUR_SIZES,
    ),
)
_SAM_RATES_LEFT_OUT = tuple(
    {"num_neurons": (1200, 400), "learning_rate": rate, "rho": rho}
    for rate, rho in ((0.003, 0.1), (0.003, 0.2), (0.003, 0.3), (0.01, 0.3))
)
TUNED_MNIST = tuned(
    "mnist_label_noise#each-arms-learning-rate-tuned",
    _NOISY_MNIST,
    "LeNet-300-100",
    folder="mnist_label_noise/tuned",
    tune="learning_rate",
    trained=_mnist_noise(
        _FOUR_RHO,
        _FOUR_SIZES,
        '--config.study.axes.label_noise="(0.5,)" --config.study.axes.learning_rate="(0.003,0.01,0.03,0.1,0.2)"',
        f"""--config.study.tune="('learning_rate',)" --config.study.exclude="{_SAM_RATES_LEFT_OUT}\"""",
    ),
)
DECAY_TUNED = tuned(
    "mnist_label_noise#each-arms-weight-decay-tuned",
    _NOISY_MNIST,
    "LeNet-300-100",
    folder="mnist_label_noise/weight_decay",
    tune="weight_decay",
    trained=_mnist_noise(
        _FOUR_RHO,
        '--config.study.axes.num_neurons="((75,25),(300,100))"',
        '--config.study.axes.label_noise="(0.5,)" --config.study.axes.weight_decay="(0.0,1e-4,1e-3,5e-3,1e-2)"',
        """--config.study.tune="('weight_decay',)\"""",
    ),
)
WITHOUT_DECAY = plain(
    DECAY_TUNED.page,
    f"{_NOISY_MNIST}, no weight decay",
    "LeNet-300-100",
    folder="mnist_label_noise/no_decay",
    command=DECAY_TUNED.command,
)
CLEAN_MNIST = plain(
    "mnist_label_noise",
    "MNIST, 15,000 images",
    "LeNet-300-100",
    folder="mnist_label_noise/none_wrong",
    command=_mnist_noise(_FOUR_RHO, _THREE_SIZES, '--config.study.axes.label_noise="(0.0,)"'),
)
_CIFAR = "--config.data_dir=DIRECTORY --config.train_examples=1000 --config.num_epochs=80 --config.eval_every_steps=140"
CIFAR = plain(
    "cifar10_width",
    "CIFAR-10 (JPEG), 1,000 examples",
    "ResNet-18",
    panel="CIFAR-10, ResNet-18 over SGD",
    workload="cifar10",
    command=command(
        "cifar10_width.py",
        "cifar10_width",
        _CIFAR,
        '--config.study.axes.num_filters="(2,4,8)" --config.study.axes.rho="(0.0,0.05,0.1)"',
        '--config.study.axes.seed="range(5)"',
    ),
)
NOISY_CIFAR = plain(
    "cifar10_label_noise",
    f"CIFAR-10 (JPEG), 1,000 examples, {_NOISY}",
    "ResNet-18",
    folder="cifar10_label_noise/half_wrong",
    panel="CIFAR-10, wrong labels, ResNet-18 over SGD",
    workload="cifar10",
    setting="label_noise=0.5",
    command=command(
        "cifar10_label_noise.py",
        "cifar10_label_noise",
        _CIFAR,
        '--config.study.axes.label_noise="(0.0,0.5)" --config.study.axes.num_filters="(2,8)"',
        '--config.study.axes.rho="(0.0,0.1)" --config.study.axes.seed="range(5)"',
    ),
)
TUNED_CIFAR = tuned(
    "cifar10_label_noise#each-arms-learning-rate-tuned",
    f"CIFAR-10 (JPEG), 1,000 examples, {_NOISY}",
    "ResNet-18",
    folder="cifar10_label_noise/tuned",
    tune="learning_rate",
    trained=command(
        "cifar10_label_noise.py",
        "cifar10_label_noise",
        _CIFAR,
        '--config.study.axes.label_noise="(0.5,)" --config.study.axes.num_filters="(2,8)"',
        '--config.study.axes.rho="(0.0,0.1)" --config.study.axes.learning_rate="(0.01,0.03,0.1)"',
        """--config.study.tune="('learning_rate',)" """
        """--config.study.exclude="({'num_filters':2,'learning_rate':0.01,'rho':0.1},)\"""",
    ),
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
    command=command(
        "cifar10_weight_decay.py",
        "cifar10_weight_decay",
        _CIFAR,
        '--config.study.axes.weight_decay="(0.0,5e-4)" --config.study.axes.num_filters="(2,8)"',
        '--config.study.axes.rho="(0.0,0.1)" --config.study.exclude="()"',
    ),
)
FASHION = plain(
    "fashion_mnist_width",
    "Fashion-MNIST, 20 epochs",
    "LeNet-300-100",
    panel="Fashion-MNIST, MLP over SGD",
    command=command(
        "fashion_mnist_width.py",
        "fashion_mnist_width",
        "--config.data_dir=DIRECTORY --config.num_epochs=20",
        '--config.study.axes.num_neurons="((75,25),(150,50),(300,100),(600,200))"',
        '--config.study.axes.rho="(0.0,0.05,0.1,0.2)"',
    ),
)
SST2 = plain(
    "sst2_width",
    "SST-2 of GLUE, 16,000 phrases",
    "LSTM",
    folder="sst2_width/glue",
    panel="SST-2, LSTM over SGD",
    workload="sst2",
    command=command(
        "sst2_width.py",
        "sst2_width",
        "--config.data_dir=DIRECTORY --config.train_examples=16000",
        "--config.learning_rate=0.3 --config.num_epochs=10",
        '--config.study.axes.hidden_size="(16,32,64)" --config.study.axes.rho="(0.0,0.02,0.05,0.1)"',
    ),
)
REVIEWS = plain(
    "sst2_width",
    "10,605 other reviews",
    "LSTM",
    panel="Reviews, LSTM over SGD",
    command=command("sst2_width.py:labelled_text", "reviews", "--config.data_dir=FILE"),
)
_PTNK = command(
    "pos_width.py",
    "ptnk",
    "--config.data_dir=DIRECTORY --config.tag_column=upos --config.num_layers=2 --config.max_length=64",
    "--config.num_train_steps=400 --config.eval_every_steps=40 --config.warmup_steps=40",
    '--config.study.axes.hidden_size="(32,64,128)" --config.study.axes.rho="(0.0,0.02,0.05,0.1)"',
)
PTNK = plain(
    "pos_width",
    "Ancient Greek PTNK, best evaluation",
    "Transformer",
    folder="pos_width/ptnk",
    panel="Ancient Greek, Transformer over AdamW",
    workload="pos",
    command=_PTNK,
)
PTNK_LAST = plain(
    "pos_early_stopping",
    "Ancient Greek PTNK, last evaluation",
    "Transformer",
    folder="pos_early_stopping/ptnk",
    workload="pos",
    setting="last_step",
    command=_PTNK,
)
_TURKISH = command(
    "pos_early_stopping.py",
    "turkish",
    "--config.data_dir=turkish --config.tag_column=upos --config.num_layers=2 --config.train_examples=1000",
    "--config.num_train_steps=600 --config.warmup_steps=100 --config.eval_every_steps=50",
    '--config.study.axes.hidden_size="(16,32,64)" --config.study.axes.rho="(0.0,0.02,0.05,0.1)"',
)
TURKISH = plain(
    "pos_width",
    "a Turkish treebank, best evaluation",
    "Transformer",
    panel="Turkish, Transformer over AdamW",
    workload="pos",
    command=_TURKISH,
)
TURKISH_LAST = plain(
    "pos_early_stopping",
    "a Turkish treebank, last evaluation",
    "Transformer",
    workload="pos",
    setting="last_step",
    command=_TURKISH,
)
TOX21 = plain(
    "molpcba_width",
    "Tox21, 600 steps",
    "GCN",
    folder="molpcba_width/tox21",
    panel="Tox21, GCN over Adam",
    command=command(
        "molpcba_width.py",
        "tox21_width",
        "--config.dataset=smiles_csv --config.data_dir=tox21.csv.gz --config.test_split=scaffold",
        "--config.num_train_steps=600 --config.eval_every_steps=100",
        '--config.study.axes.hidden_size="(8,32,128)" --config.study.axes.rho="(0.0,0.02,0.05,0.1)"',
    ),
)
DIGITS = plain(
    "digits_width",
    "digits",
    "MLP",
    panel="Digits, MLP over SGD",
    command=command("digits_width.py", "digits_width"),
)
VIT = plain(
    "cifar10_vit_width",
    "digits",
    "ViT",
    panel="Digits, ViT over SGD",
    command=command("cifar10_vit_width.py:digits", "digits_vit"),
)
CIFAR_VIT = plain(
    "cifar10_vit_width",
    "CIFAR-10 (JPEG), 1,000 examples",
    "ViT",
    folder="cifar10_vit_width/jpeg",
    panel="CIFAR-10, ViT over SGD",
    workload="cifar10",
    setting="model=ViT",
    command=command(
        "cifar10_vit_width.py",
        "cifar10_vit",
        _CIFAR,
        '--config.study.axes.hidden_size="(16,64)" --config.study.axes.rho="(0.0,0.05)"',
    ),
)
_NOISY_DIGITS = f"digits, {_NOISY}"
NOISY_DIGITS = plain(
    "digits_label_noise",
    _NOISY_DIGITS,
    "MLP",
    panel="Digits, wrong labels, MLP over SGD",
    command=command("digits_label_noise.py", "digits_label_noise"),
)
TUNED_DIGITS = tuned(
    "digits_fair_fight",
    _NOISY_DIGITS,
    "MLP",
    folder="digits_fair_fight",
    tune="learning_rate",
    trained=command("digits_fair_fight.py", "digits_fair_fight"),
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
    command=command(
        "synthetic_width.py",
        "synthetic_width",
        "--config.num_epochs=10 --config.lr_scheduler=constant",
        '--config.study.axes.rho="(0.0,0.01,0.05,0.1,0.2,0.5)"',
    ),
)
MINATAR = plain(
    "minatar_width",
    "MinAtar's Breakout, 131,072 actions",
    "PPO",
    is_percent=False,
    panel="MinAtar Breakout, PPO over Adam",
    command=command(
        "minatar_width.py",
        "minatar_width",
        "--config.num_epochs=16 --config.eval_every_steps=64",
        '--config.study.axes.num_filters="(2,4,8)" --config.study.axes.rho="(0.0,0.02,0.05,0.1)"',
    ),
)
MINATAR_MILLION = plain(
    "minatar_width",
    "MinAtar's Breakout, a million actions",
    "PPO",
    folder="minatar_width/million",
    is_percent=False,
    command=command(
        "minatar_width.py",
        "minatar_million",
        '--config.study.axes.num_filters="(2,8)" --config.study.axes.rho="(0.0,0.02)"',
    ),
)
MADE = (
    SYNTHETIC,
    domain("noisy teacher, 4,000 examples", "MLP", "teacher_student", "MLP", is_percent=False),
    plain("molpcba_width", "made labels of real molecules", "GCN", panel="Made labels, GCN over Adam"),
    domain("made labels of 1,000 real molecules", "GCN", "made_molecules", "GCN"),
    domain("made reviews", "LSTM", "made_sentiment", "LSTM", panel="Made reviews, LSTM over Adam"),
    domain("made tags", "Transformer", "made_tagging", "TaggingTransformer", panel="Made tags, Transformer over AdamW"),
    MINATAR,
    MINATAR_MILLION,
    domain("MinAtar's Breakout, a short run", "PPO", "minatar_breakout", "ActorCritic", is_percent=False),
)
# Studies of other sizes than widths, which claims are judged by.
SPARSITY = plain(
    "mnist_sparsity",
    "MNIST, 61,035 nonzero parameters left by SNIP at three widths, 20 epochs",
    "LeNet-300-100",
    command=command(
        "mnist_sparsity.py",
        "mnist_sparsity",
        "--config.data_dir=DIRECTORY --config.num_epochs=20",
        _THREE_SIZES,
        """--config.study.axes.pruner="('snip',)" --config.study.axes.rho="(0.0,0.05,0.1,0.2)\"""",
    ),
)
CIFAR_SPARSITY = plain(
    "cifar10_sparsity",
    "CIFAR-10 (JPEG), 1,000 examples, 11,420 nonzero parameters left by SNIP of 2 or 8 filters",
    "ResNet-18",
    command=command(
        "cifar10_sparsity.py",
        "cifar10_sparsity",
        _CIFAR,
        '--config.study.axes.num_nonzero_params="(11420,)" --config.study.axes.num_filters="(2,8)"',
        """--config.study.axes.pruner="('snip',)" --config.study.axes.rho="(0.0,0.05)\"""",
    ),
)
CIFAR_DEPTH = plain(
    "cifar10_depth",
    "CIFAR-10 (JPEG), 1,000 examples, one or two blocks a stage",
    "ResNet of 4 filters",
    command=command(
        "cifar10_depth.py",
        "cifar10_depth",
        _CIFAR,
        '--config.num_filters=4 --config.study.axes.num_blocks="((1,1,1,1),(2,2,2,2))"',
        '--config.study.axes.rho="(0.0,0.05,0.1)"',
    ),
)
DEPTH = plain(
    "mnist_depth",
    "MNIST, one to three layers of 100 neurons, 20 epochs",
    "MLP",
    command=command(
        "mnist_depth.py",
        "mnist_depth",
        "--config.data_dir=DIRECTORY --config.num_epochs=20",
        '--config.study.axes.num_neurons="((100,),(100,100),(100,100,100))"',
        '--config.study.axes.rho="(0.0,0.05,0.1,0.2)"',
    ),
)
