"""The numbers behind docs/claims.md: committed tables of the studies, slopes, intervals and verdicts.

Not a program: `claims.py` writes the page.
"""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from flatwide.analysis import intervals, selection

ROOT = Path(__file__).parents[1]
STUDIES = ROOT / "docs" / "studies"
HOLDS, FAILS, OPEN, UNTESTED = "holds", "does not", "not decided", "not tested"
NEAR_ZERO = 0.5  # points: a gain whose interval lies within is near zero


class Evidence(NamedTuple):
    """The evidence of one study about a claim.

    study: its folder. data: data and networks. number: the number, with its interval. command: that trained its runs.
    """

    study: str
    data: str
    number: str
    verdict: str
    command: str


class Study(NamedTuple):
    """A study of widths with a committed table: its data and networks, the unit of its gain and the factor to it."""

    folder: str
    data: str
    command: str
    unit: str = "points"
    factor: float = 100


def command(config: str, workdir: str, *more: str) -> str:
    """Write the command that trained the runs of a study."""
    return " ".join([f"python main.py --workdir=runs/{workdir} --config=configs/studies/{config}", *more])


DIGITS = Study("digits_width", "digits, MLP", command("digits_width.py", "digits_width"))
NOISY = Study(
    "digits_label_noise",
    "digits with half of the training labels wrong, MLP",
    command("digits_label_noise.py", "digits_label_noise"),
)
_MNIST_NOISE = command(
    "mnist_label_noise.py",
    "mnist_label_noise",
    "--config.data_dir=DIRECTORY --config.train_examples=15000 --config.num_epochs=40 --config.eval_every_steps=468",
    '--config.study.axes.label_noise="(0.0,0.5)" --config.study.axes.num_neurons="((75,25),(150,50),(300,100))"',
    '--config.study.axes.rho="(0.0,0.1,0.2,0.3)"',
)
CLEAN_MNIST = Study("mnist_label_noise/none_wrong", "no labels wrong, MNIST, 15,000 images, MLP", _MNIST_NOISE)
NOISY_MNIST = Study(
    "mnist_label_noise/half_wrong",
    "half of the labels wrong, MNIST, 15,000 images, MLP",
    _MNIST_NOISE,
)
_TURKISH = command(
    "pos_early_stopping.py",
    "turkish",
    "--config.data_dir=turkish --config.tag_column=upos --config.num_layers=2 --config.train_examples=1000",
    "--config.num_train_steps=600 --config.warmup_steps=100 --config.eval_every_steps=50",
    '--config.study.axes.hidden_size="(16,32,64)" --config.study.axes.rho="(0.0,0.02,0.05,0.1)"',
)
LAST_EPOCH = Study("pos_early_stopping", "a Turkish treebank, Transformer, last epoch", _TURKISH)
_PTNK = command(
    "pos_width.py",
    "ptnk",
    "--config.data_dir=DIRECTORY --config.tag_column=upos --config.num_layers=2 --config.max_length=64",
    "--config.num_train_steps=400 --config.eval_every_steps=40 --config.warmup_steps=40",
    '--config.study.axes.hidden_size="(32,64,128)" --config.study.axes.rho="(0.0,0.02,0.05,0.1)"',
)
PTNK_LAST_EPOCH = Study("pos_early_stopping/ptnk", "Ancient Greek PTNK, Transformer, last epoch", _PTNK)
SPARSITY = Study(
    "mnist_sparsity",
    "MNIST, 61,035 nonzero parameters left by SNIP at three widths, 20 epochs",
    command(
        "mnist_sparsity.py",
        "mnist_sparsity",
        "--config.data_dir=DIRECTORY --config.num_epochs=20",
        '--config.study.axes.num_neurons="((75,25),(150,50),(300,100))"',
        """--config.study.axes.pruner="('snip',)" --config.study.axes.rho="(0.0,0.05,0.1,0.2)\"""",
    ),
)
DEPTH = Study(
    "mnist_depth",
    "MNIST, MLPs of one to three layers of 100 neurons, 20 epochs",
    command(
        "mnist_depth.py",
        "mnist_depth",
        "--config.data_dir=DIRECTORY --config.num_epochs=20",
        '--config.study.axes.num_neurons="((100,),(100,100),(100,100,100))"',
        '--config.study.axes.rho="(0.0,0.05,0.1,0.2)"',
    ),
)
VIT = Study("cifar10_vit_width", "digits, ViT", command("cifar10_vit_width.py:digits", "digits_vit"))
WIDTHS = (
    Study(
        "synthetic_width",
        "teacher and student, ten epochs",
        command(
            "synthetic_width.py",
            "synthetic_width",
            "--config.num_epochs=10 --config.lr_scheduler=constant",
            '--config.study.axes.rho="(0.0,0.01,0.05,0.1,0.2,0.5)"',
        ),
        unit="of squared error",
        factor=1,
    ),
    Study(
        "mnist_width",
        "MNIST, LeNet-300-100, 20 epochs, four sizes",
        command(
            "mnist_width.py",
            "mnist_width",
            "--config.data_dir=DIRECTORY --config.num_epochs=20",
            '--config.study.axes.num_neurons="((75,25),(150,50),(300,100),(600,200))"',
        ),
    ),
    Study(
        "cifar10_width",
        "CIFAR-10 (JPEG), ResNet-18, 1,000 examples",
        command(
            "cifar10_width.py",
            "cifar10_width",
            "--config.data_dir=DIRECTORY --config.train_examples=1000",
            "--config.num_epochs=80 --config.eval_every_steps=140",
            '--config.study.axes.num_filters="(2,4,8)" --config.study.axes.rho="(0.0,0.05,0.1)"',
        ),
    ),
    Study(
        "fashion_mnist_width",
        "Fashion-MNIST, LeNet-300-100, 20 epochs, four sizes",
        command(
            "fashion_mnist_width.py",
            "fashion_mnist_width",
            "--config.data_dir=DIRECTORY --config.num_epochs=20",
            '--config.study.axes.num_neurons="((75,25),(150,50),(300,100),(600,200))"',
            '--config.study.axes.rho="(0.0,0.05,0.1,0.2)"',
        ),
    ),
    NOISY_MNIST,
    DIGITS,
    NOISY,
    Study("pos_width/ptnk", "Ancient Greek PTNK, Transformer, best epoch", _PTNK),
    Study("pos_width", "a Turkish treebank, Transformer, best epoch", _TURKISH),
    Study(
        "sst2_width/glue",
        "SST-2, LSTM, 16,000 phrases",
        command(
            "sst2_width.py",
            "sst2_width",
            "--config.data_dir=DIRECTORY --config.train_examples=16000",
            "--config.learning_rate=0.3 --config.num_epochs=10",
            '--config.study.axes.hidden_size="(16,32,64)" --config.study.axes.rho="(0.0,0.02,0.05,0.1)"',
        ),
    ),
    Study(
        "sst2_width",
        "reviews, LSTM",
        command("sst2_width.py:labelled_text", "reviews", "--config.data_dir=FILE"),
    ),
    Study(
        "molpcba_width/tox21",
        "Tox21, GCN, 600 steps",
        command(
            "molpcba_width.py",
            "tox21_width",
            "--config.dataset=smiles_csv --config.data_dir=tox21.csv.gz --config.test_split=scaffold",
            "--config.num_train_steps=600 --config.eval_every_steps=100",
            '--config.study.axes.hidden_size="(8,32,128)" --config.study.axes.rho="(0.0,0.02,0.05,0.1)"',
        ),
    ),
    Study(
        "minatar_width",
        "MinAtar Breakout, PPO",
        command(
            "minatar_width.py",
            "minatar_width",
            "--config.num_epochs=16 --config.eval_every_steps=64 --config.study.workers=1",
            '--config.study.axes.num_filters="(2,4,8)" --config.study.axes.rho="(0.0,0.02,0.05,0.1)"',
        ),
        unit="of score",
        factor=1,
    ),
    Study(
        "minatar_width/million",
        "a million actions of MinAtar Breakout, PPO",
        command(
            "minatar_width.py",
            "minatar_million",
            '--config.study.axes.num_filters="(2,8)" --config.study.axes.rho="(0.0,0.02)"',
        ),
        unit="of score",
        factor=1,
    ),
)


def verdict_of(low: float, high: float, *, positive: bool = True) -> str:
    """Return the verdict on a claim that a number is positive, or negative: open where its interval contains zero."""
    if math.isnan(low) or low <= 0 <= high:
        return OPEN
    return HOLDS if (low > 0) == positive else FAILS


def near_zero(low: float, high: float, *, margin: float = NEAR_ZERO) -> str:
    """Return the verdict on a claim that a number is near zero, by its whole interval."""
    if -margin <= low and high <= margin:
        return HOLDS
    return FAILS if low > margin or high < -margin else OPEN


def all_hold(kinds: Sequence[str]) -> str:
    """Join the verdicts on the parts of a claim: it holds where each does, and does not where any does not."""
    return FAILS if FAILS in kinds else OPEN if OPEN in kinds else HOLDS


def table(folder: str, name: str = "summary.csv") -> pd.DataFrame:
    """Read a committed table."""
    return pd.read_csv(STUDIES / folder / name)


def widths_of(folder: str) -> list[dict[str, Any]]:
    """List the rows of the summary for widths, the smallest first."""
    rows = table(folder)
    return rows[rows["row"] == "width"].sort_values("num_params").to_dict("records")


def slopes(values_by_position: Mapping[float, Mapping[Any, float]]) -> list[float]:
    """Fit a line to each seed that every position has, from position -> seed -> value."""
    positions = np.array(list(values_by_position), dtype=float)
    centered = positions - positions.mean()
    seeds = sorted(set.intersection(*(set(values) for values in values_by_position.values())))
    lines = [np.array([values[seed] for values in values_by_position.values()]) for seed in seeds]
    return [float(centered @ line / (centered @ centered)) for line in lines]


def gains(study: Study, sizes: Sequence[int] | None = None) -> dict[float, dict[int, float]]:
    """Read the corrected gain of each seed: log10 of the size -> seed -> gain in the unit of the study."""
    rows = table(study.folder, "gain_by_width.csv")
    if "of" in rows.columns:  # absent where one rho was tried, which needs no correction
        rows = rows[rows["of"] == "corrected"]
    rows = rows[rows["seed"].notna()]
    gains_by_size: dict[float, dict[int, float]] = {}
    for row in rows.sort_values("num_params").to_dict("records"):
        if sizes is None or row["num_params"] in sizes:
            gains_of_size = gains_by_size.setdefault(math.log10(row["num_params"]), {})
            gains_of_size[int(row["seed"])] = study.factor * row["gain"]
    return gains_by_size


def stretch(study: Study, num_seeds: int) -> float:
    """Return the factor by which the interval of cross-fitted gains is wider than Student's t.

    It depends on the noise of the base, which the intervals of the widths bound; this is the largest possible one.
    """
    names = ("gain", "standard_error", "low", "high")
    estimates = [
        (
            intervals.Mean(*(row[f"corrected_{name}"] for name in names)),
            int(row["corrected_num_seeds"]),
            int(row["num_rhos"]),
        )
        for row in widths_of(study.folder)
    ]
    return selection.widest_stretch(num_seeds, estimates)


def interval(estimate: intervals.Mean, unit: str, *, digits: int = 2) -> str:
    """Write a number with its 95 % interval."""
    mean, low, high = (signed(value, digits=digits) for value in (estimate.mean, estimate.low, estimate.high))
    return f"{mean} {unit} ({low} to {high})"


def signed(value: float, *, digits: int = 2) -> str:
    """Write a number with its sign, as in the pages."""
    return f"{value:+.{digits}f}".replace("-", "−")


def measured(folder: str, name: str, quantity: str, **where: Any) -> pd.DataFrame:
    """Select rows of a committed table of measurements."""
    rows = table(folder, name)
    for column, value in (("quantity", quantity), *where.items()):
        rows = rows[rows[column] == value]
    return rows


def by_position(rows: pd.DataFrame, along: str, *, is_size: bool) -> dict[float, dict[int, float]]:
    """Arrange logarithms of measurements: position -> seed -> value."""
    values_by_position: dict[float, dict[int, float]] = {}
    for row in rows.sort_values(along).to_dict("records"):
        position = math.log10(row[along]) if is_size else row[along]
        values_by_position.setdefault(position, {})[int(row["seed"])] = math.log(row["value"])
    return values_by_position


def factor(estimate: intervals.Mean, words: str) -> str:
    """Write a mean logarithm as a factor with its 95 % interval."""
    return f"×{math.exp(estimate.mean):.3g} {words} ({math.exp(estimate.low):.3g} to {math.exp(estimate.high):.3g})"
