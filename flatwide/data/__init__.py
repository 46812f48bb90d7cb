"""Data sets, their splits, and what is done to examples on the way to the model."""

from flatwide.data.files import DataError
from flatwide.data.played import Game, Games, Played
from flatwide.data.splits import (
    Consecutive,
    Resident,
    Streamed,
    add_label_noise,
    fingerprint,
    hold_out,
    is_compiled,
    subset,
)
from flatwide.types import Info

DATASETS = {
    "digits": "flatwide.data.digits:digits",
    "mnist": "flatwide.data.idx:mnist",
    "fashion_mnist": "flatwide.data.idx:fashion_mnist",
    "cifar10": "flatwide.data.cifar:cifar10",
    "cifar100": "flatwide.data.cifar:cifar100",
    "imagenet2012": "flatwide.data.image_folder:imagenet2012",
    "image_folder": "flatwide.data.image_folder:image_folder",
    "npz": "flatwide.data.npz:npz",
    "regression_1d": "flatwide.data.synthetic:regression_1d",
    "matrix_factorization": "flatwide.data.synthetic:matrix_factorization",
    "two_layer_teacher": "flatwide.data.synthetic:two_layer_teacher",
    "teacher_student": "flatwide.data.synthetic:teacher_student",
    "conllu": "flatwide.data.conllu:conllu",
    "made_tagging": "flatwide.data.made_text:made_tagging",
    "sst2": "flatwide.data.labelled_text:sst2",
    "labelled_text": "flatwide.data.labelled_text:labelled_text",
    "made_sentiment": "flatwide.data.made_text:made_sentiment",
    "text": "flatwide.data.text:text",
    "ogbg_molpcba": "flatwide.data.ogb:ogbg_molpcba",
    "smiles_csv": "flatwide.data.smiles:smiles_csv",
    "made_molecules": "flatwide.data.smiles:made_molecules",
    "minatar_breakout": "flatwide.data.minatar:minatar_breakout",
    "atari_breakout": "flatwide.data.atari:atari_breakout",
}

# Games: examples come from playing, so there is nothing to hold out, to draw a subset of, or to corrupt.
GAMES = ("minatar_breakout", "atari_breakout")

ALIASES = {"imagenet": "imagenet2012"}

# As published, so that a run can be planned before its data is there.
INFO = {
    "digits": Info(1442, 355, (8, 8, 1), 10),
    "mnist": Info(60_000, 10_000, (28, 28, 1), 10),
    "fashion_mnist": Info(60_000, 10_000, (28, 28, 1), 10),
    "cifar10": Info(50_000, 10_000, (32, 32, 3), 10),
    "cifar100": Info(50_000, 10_000, (32, 32, 3), 100),
    "imagenet2012": Info(1_281_167, 50_000, (224, 224, 3), 1000, is_streamed=True),
    "regression_1d": Info(12, 221, (1,), 1, has_real_targets=True),
    "matrix_factorization": Info(1_000, 1_000, (6,), 10, has_real_targets=True),
    "two_layer_teacher": Info(1_000, 5_000, (4,), 1, has_real_targets=True),
    "teacher_student": Info(20_400, 5_100, (100,), 1, has_real_targets=True),
}

__all__ = [
    "ALIASES",
    "DATASETS",
    "GAMES",
    "INFO",
    "Consecutive",
    "DataError",
    "Game",
    "Games",
    "Played",
    "Resident",
    "Streamed",
    "add_label_noise",
    "fingerprint",
    "hold_out",
    "is_compiled",
    "subset",
]
