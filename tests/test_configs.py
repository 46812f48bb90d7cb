"""Every shipped config is what its header says, resolves, and trains once it is shrunk."""

from pathlib import Path

import jax
import numpy as np
import pytest

from flatwide import config as configs
from flatwide import experiment, runner
from flatwide.training import sources

ROOT = Path(__file__).parents[1]
CONFIGS = sorted((ROOT / "configs").glob("*.py"))

_MADE = """
import jax, numpy as np
from flatwide.data import Resident
from flatwide.types import Dataset

def made():
    generator = np.random.default_rng(0)
    def split(count):
        return Resident({{
            "inputs": generator.integers(0, 256, (count, *{shape}), np.uint8),
            "targets": (np.arange(count) % 10).astype(np.int32),
        }})
    def prepare(batch, key, *, train):
        return batch | {{"inputs": batch["inputs"].astype(float) / 255}}
    example = jax.ShapeDtypeStruct({shape}, jax.dtypes.canonicalize_dtype(float))
    return Dataset(split(16), split(10), prepare, example, 10, "made")
"""


# Texts of two lengths: each length is compiled for.
_MADE_TEXTS = """
from flatwide.data import conllu, labelled_text, words

SIZES = [2 + number // 13 for number in range(26)]

def tagged(*, size_window: int = 16):
    sentences = [(list("abc")[:size], list("XYX")[:size]) for size in SIZES]
    known = words.vocabulary([forms for forms, _ in sentences])
    return conllu.dataset(sentences, sentences, vocabulary=known, tags=("X", "Y"), size_window=size_window)

def labelled(*, size_window: int = 16):
    rows = [labelled_text.Row(i, " ".join("abc"[:size]), str(i % 2)) for i, size in enumerate(SIZES, 1)]
    table = labelled_text.Table("made", rows)
    return labelled_text.dataset(table, table, ["0", "1"], split=str.split, size_window=size_window)
"""
_TEXTS = {"TaggingTransformer": "tagged", "LSTM": "labelled"}


# Compiled in a second or two; what others compile is compiled for each family in tests/test_families.py.
QUICK = ("digits_mlp", "mnist_mlp", "matrix_factorization", "regression_1d", "teacher_student", "two_layer_teacher")
TRAINED = [path if path.stem in QUICK else pytest.param(path, marks=pytest.mark.slow) for path in CONFIGS]


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_every_step_of_a_shipped_config_can_be_traced(path, tmp_path):
    built = experiment.build(shrunk(path, tmp_path))
    values, state = jax.tree.map(shape_of, (built.values, built.state_shapes()))
    batch = jax.tree.map(shape_of, sources.raw_shapes(built.train, built.data.example, built.config["batch_size"]))
    after, metrics = jax.eval_shape(built.step, values, state, batch)
    assert jax.tree.structure(after) == jax.tree.structure(state)
    assert metrics["loss"].shape == ()


@pytest.mark.parametrize("path", TRAINED, ids=lambda path: path.stem)
def test_a_shipped_config_trains_two_steps(path, tmp_path):
    result = runner.run(shrunk(path, tmp_path), tmp_path, quiet=True)
    assert (result["steps"], result["status"]) == (2, "finished")
    assert np.isfinite(result["train_loss"])


def shape_of(leaf):
    return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype)


def shrunk(path, tmp_path):
    """Return the fields of a config for two steps of a tiny network, on made data where its own would be files."""
    fields = configs.load_file(str(path))
    config = configs.resolve(fields)
    assert set(fields) == set(configs.SCHEMA)
    shape = (8, 8, 1) if config["model"] == "MLP" else (16, 16, 3)
    module = tmp_path / "made.py"
    module.write_text(_MADE.format(shape=shape))
    small = {"num_filters": 2, "num_neurons": (4,), "batch_size": 8, "num_train_steps": 2, "warmup_steps": 0}
    small |= {"hidden_size": 8, "num_layers": 1}
    if config["loss"] == "cross_entropy" or config["model"] == "VGG11":
        small |= {"dataset": f"{module}:made"}  # the others are made from seeds
    if config["model"] in _TEXTS:
        module.write_text(_MADE_TEXTS)
        small |= {"dataset": f"{module}:{_TEXTS[config['model']]}", "data_dir": None}
    if config["model"] == "GCN":
        small |= {"dataset": "made_molecules", "batch_size": 256}
    if config["loss"] == "ppo":
        small |= {"num_envs": 2, "unroll_length": 8, "num_test_games": 1}
    if config["model"] == "ResNet50":
        small |= {"num_blocks": (1, 1)}
    if config["model"] == "ResNet18":
        small |= {"num_blocks": (1, 1)}
    return fields | small


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_a_header_says_how_to_run_it_and_where_it_comes_from(path):
    text = path.read_text()
    for part in ("Run:", "Expect:", "Takes:", "Source:"):
        assert part in text, part
    assert f"--config=configs/{path.name}" in text


PAPER = {
    "mnist_mlp": {"num_epochs": 100, "weight_decay": 1e-4, "batch_size": 128, "momentum": 0.9, "learning_rate": 0.1},
    "cifar10_resnet18": {"num_epochs": 200, "weight_decay": 5e-4, "batch_size": 128, "lr_scheduler": "step"},
    "matrix_factorization": {"num_epochs": 100, "learning_rate": 5e-4, "lr_scheduler": "constant"},
    "regression_1d": {"rho": 0.2, "batch_size": 6, "momentum": 0.0},
    "two_layer_teacher": {"num_epochs": 800, "batch_size": 50, "weight_decay": 0.0},
    "teacher_student": {"num_epochs": 100, "learning_rate": 0.1, "lr_scheduler": "step", "weight_decay": 0.0},
    "cifar10_vit": {"num_epochs": 200, "learning_rate": 0.1, "lr_scheduler": "cosine", "weight_decay": 1e-4},
    "atari_ppo": {"learning_rate": 2.5e-4, "lr_scheduler": "linear", "batch_size": 256, "gradient_clip": 0.5},
    "molpcba_gcn": {"num_train_steps": 100_000, "batch_size": 256, "learning_rate": 1e-3, "adam_betas": (0.9, 0.999)},
    "imagenet_resnet50": {"num_epochs": 90, "batch_size": 512, "lr_scheduler": "cosine", "warmup_steps": 5000},
}


@pytest.mark.parametrize("name", PAPER)
def test_hyperparameters_are_those_of_the_papers_table(name):
    fields = configs.load_file(str(ROOT / "configs" / f"{name}.py"))
    assert {field: fields[field] for field in PAPER[name]} == PAPER[name]
