"""The studies of docs/results.md: what was trained, and which committed tables have the numbers.

Not a program: `results.py` writes the page.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple


class Study(NamedTuple):
    """A row of the table, and where its numbers are.

    page: the study's page. data, model: what was trained.
    summary, gains: tables in docs/studies: one row a width, and one a width and seed; the latter may be missing.
    where: column -> value of the rows to read. panel: the title in the figure; empty leaves it out.
    workload, setting: of the paper's values, as in `paper.paper_values`; empty for data that the paper does not have.
    """

    page: str
    data: str
    model: str
    summary: str
    gains: str = ""
    where: Mapping[str, Any] = {}
    is_percent: bool = True
    panel: str = ""
    workload: str = ""
    setting: str = ""


def plain(page: str, data: str, model: str, *, folder: str = "", **options: Any) -> Study:
    """Describe a study whose tables are those that its report wrote."""
    folder = folder or page
    return Study(page, data, model, summary=f"{folder}/summary.csv", gains=f"{folder}/gain_by_width.csv", **options)


def domain(data: str, model: str, dataset: str, family: str, **options: Any) -> Study:
    """Describe a domain of `all_domains`."""
    return Study(
        page="all_domains",
        data=data,
        model=model,
        summary="all_domains/summary.csv",
        gains="all_domains/gain_of_domains.csv",
        where={"dataset": dataset, "model": family, "domain": f"{dataset}, {family}"},
        **options,
    )


def curve(data: str, name: str, *, folder: str = "width_transfer") -> Study:
    """Describe a curve of `width_transfer`."""
    return Study(
        page="width_transfer",
        data=data,
        model="MLP of two layers",
        summary=f"{folder}/four_curves.csv",
        where={"curve": name},
    )


NOISY = "digits, half of the labels wrong"
NOISY_FASHION = "Fashion-MNIST, 3,000 examples, half of the labels wrong"
# What was tuned -> the curve of `width_transfer`.
CURVES = {
    "SAM at SGD's learning rate": "standard, same rate",
    "each arm's learning rate tuned": "standard, tuned",
    "muP, each arm tuned": "muP, tuned",
    "muP with layerwise perturbations, each arm tuned": "muP, layerwise, tuned",
}
REAL = (
    plain("mnist_width", "MNIST, 20 epochs", "LeNet-300-100", panel="MNIST, MLP over SGD", workload="mnist"),
    plain(
        "mnist_label_noise",
        "MNIST, 15,000 images, half of the labels wrong",
        "LeNet-300-100",
        folder="mnist_label_noise/half_wrong",
        panel="MNIST, wrong labels, MLP over SGD",
    ),
    plain("mnist_label_noise", "MNIST, 15,000 images", "LeNet-300-100", folder="mnist_label_noise/none_wrong"),
    plain(
        "cifar10_width",
        "CIFAR-10 (JPEG), 1,000 examples",
        "ResNet-18",
        panel="CIFAR-10, ResNet-18 over SGD",
        workload="cifar10",
    ),
    plain("fashion_mnist_width", "Fashion-MNIST, 20 epochs", "LeNet-300-100", panel="Fashion-MNIST, MLP over SGD"),
    plain(
        "sst2_width",
        "SST-2 of GLUE, 16,000 phrases",
        "LSTM",
        folder="sst2_width/glue",
        panel="SST-2, LSTM over SGD",
        workload="sst2",
    ),
    plain("sst2_width", "10,605 other reviews", "LSTM", panel="Reviews, LSTM over SGD"),
    plain(
        "pos_width",
        "Ancient Greek PTNK, best evaluation",
        "Transformer",
        folder="pos_width/ptnk",
        panel="Ancient Greek, Transformer over AdamW",
        workload="pos",
    ),
    plain(
        "pos_early_stopping",
        "Ancient Greek PTNK, last evaluation",
        "Transformer",
        folder="pos_early_stopping/ptnk",
        workload="pos",
        setting="last_step",
    ),
    plain(
        "pos_width",
        "a Turkish treebank, best evaluation",
        "Transformer",
        panel="Turkish, Transformer over AdamW",
        workload="pos",
    ),
    plain(
        "pos_early_stopping", "a Turkish treebank, last evaluation", "Transformer", workload="pos", setting="last_step"
    ),
    plain("molpcba_width", "Tox21", "GCN", folder="molpcba_width/tox21", panel="Tox21, GCN over Adam"),
    plain("digits_width", "digits", "MLP", panel="Digits, MLP over SGD"),
    plain("cifar10_vit_width", "digits", "ViT", panel="Digits, ViT over SGD"),
    domain("digits, 100 epochs or fewer", "ViT of two blocks", "digits", "ViT"),
    *(
        Study(
            page="data_width",
            data=f"digits, {count:,} examples, a tenth of the labels wrong",
            model="MLP",
            summary="data_width/summary.csv",
            gains="data_width/gain_by_parameters_over_data.csv",
            where={"train_examples": count},
        )
        for count in (360, 721, 1442)
    ),
    plain("digits_label_noise", NOISY, "MLP", panel="Digits, wrong labels, MLP over SGD"),
    Study(
        page="digits_label_noise",
        data=f"{NOISY}, seeds 100 to 107",
        model="MLP",
        summary="digits_label_noise/summary_of_seeds_100_to_107.csv",
    ),
    Study(
        page="digits_fair_fight",
        data=f"{NOISY}, each arm's learning rate tuned",
        model="MLP",
        summary="digits_fair_fight/tuned_gain.csv",
        where={"comparison": "tuned"},
    ),
    domain(NOISY, "MLP", "digits", "MLP"),
    *(
        curve(f"{data}, {arms}", name, folder=folder)
        for data, folder in ((NOISY, "width_transfer"), (NOISY_FASHION, "width_transfer/fashion_mnist"))
        for arms, name in CURVES.items()
    ),
)
MADE = (
    plain(
        "synthetic_width",
        "noisy teacher, ten epochs",
        "MLP",
        is_percent=False,
        panel="Teacher, MLP over SGD",
        workload="teacher_student",
    ),
    domain("noisy teacher, 4,000 examples", "MLP", "teacher_student", "MLP", is_percent=False),
    plain("molpcba_width", "made labels of real molecules", "GCN", panel="Made labels, GCN over Adam"),
    domain("made labels of 1,000 real molecules", "GCN", "made_molecules", "GCN"),
    domain("made reviews", "LSTM", "made_sentiment", "LSTM", panel="Made reviews, LSTM over Adam"),
    domain("made tags", "Transformer", "made_tagging", "TaggingTransformer", panel="Made tags, Transformer over AdamW"),
    plain(
        "minatar_width",
        "MinAtar's Breakout, 131,072 actions",
        "PPO",
        is_percent=False,
        panel="MinAtar Breakout, PPO over Adam",
    ),
    plain(
        "minatar_width",
        "MinAtar's Breakout, a million actions",
        "PPO",
        folder="minatar_width/million",
        is_percent=False,
    ),
    domain("MinAtar's Breakout, a short run", "PPO", "minatar_breakout", "ActorCritic", is_percent=False),
)
