"""A trained network is loaded without doing again what its training did."""

import json
import sys

import jax
import numpy as np
import pytest
import safetensors
from numpy.testing import assert_allclose

from flatwide import experiment, runner, sparsify
from flatwide.runs.identity import locate
from flatwide.runs.load import load_run

FIELDS = {"num_neurons": (7,), "num_train_steps": 3, "batch_size": 100, "rho": 0.0}
INPUTS = np.random.default_rng(0).uniform(size=(5, 8, 8, 1)).astype(np.float32)


@pytest.fixture
def train(tmp_path):
    """Train a run, and give its directory."""

    def directory(**fields):
        runner.run(FIELDS | fields, tmp_path, quiet=True)
        return locate(experiment.build(FIELDS | fields).config, tmp_path)[0].path

    return directory


def test_runs_of_one_shape_share_a_program(train, caplog):
    first, second = (load_run(train(seed=seed)) for seed in (0, 1))
    outputs = first.apply(INPUTS)
    with jax.log_compiles():
        others = second.apply(INPUTS)
    # So the weights are arguments of it, and no constants that each run's program would have its own copy of.
    assert not [record for record in caplog.records if record.message.startswith("Compiling")]
    assert not np.allclose(outputs, others)


@pytest.mark.parametrize(
    "fields",
    [
        {"pruner": "snip", "sparsity": 0.5},
        {"pruner": "random", "sparsity": 0.5},
        {"base_optimizer": "adam"},
        {"rho": 0.1},
    ],
)
def test_loading_draws_no_weights_and_makes_no_mask(train, fields, monkeypatch):
    path = train(**fields)

    def refuse(*arguments, **options):
        raise AssertionError("the structure of a state needs none of this")

    for name in ("snip_gradient", "make_mask"):
        monkeypatch.setattr(sparsify, name, refuse)
    monkeypatch.setattr("flatwide.runs.start.compiled_init", refuse)
    trained = load_run(path)
    kernels = [trained.params[layer]["kernel"] for layer in ("hidden_0", "output")]
    zeros = sum(int((np.asarray(kernel) == 0).sum()) for kernel in kernels)
    assert zeros == (7 * (64 + 10) / 2 if "pruner" in fields else 0)


def test_the_outputs_are_those_of_the_model_with_the_loaded_weights(train):
    trained = load_run(train())
    model = experiment.build(trained.config).model
    expected, _ = model.apply(trained.params, trained.stats, INPUTS, train=False, key=None)
    assert_allclose(trained.apply(INPUTS), expected, rtol=1e-6, atol=1e-6)


def test_what_is_no_run_directory_is_an_error_that_says_what_is_one(train, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"nowhere': there is no such folder; expected a run directory"):
        load_run(tmp_path / "nowhere")
    path = train()
    with pytest.raises(ValueError, match=r"there is no run here; expected a directory in .*/runs, such as digits-MLP"):
        load_run(tmp_path)
    with pytest.raises(ValueError, match=r"there is no run here; expected a directory in W/runs"):
        load_run(path / "checkpoints")


def test_a_network_as_safetensors_has_the_arrays_of_its_checkpoint(train, tmp_path, monkeypatch):
    trained, file = load_run(path := train()), tmp_path / "network.safetensors"
    trained.write_safetensors(file)
    with np.load(path / "checkpoints" / "final.npz") as checkpoint, safetensors.safe_open(file, "numpy") as read:
        names = [name for name in checkpoint if name.startswith(("params/", "stats/"))]
        assert sorted(read.keys()) == sorted(names) != []
        for name in names:
            np.testing.assert_array_equal(read.get_tensor(name), checkpoint[name])
        config = json.loads(read.metadata()["config"])
    assert config == json.loads(json.dumps(dict(trained.config)))
    before = file.read_bytes()
    with pytest.raises(FileExistsError):
        trained.write_safetensors(file)
    assert file.read_bytes() == before
    monkeypatch.setitem(sys.modules, "safetensors.numpy", None)
    with pytest.raises(ImportError, match=r"pip install 'flatwide\[safetensors\]'"):
        trained.write_safetensors(tmp_path / "other.safetensors")
