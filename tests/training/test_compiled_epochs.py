"""Many epochs in one program: the bits of a run that leaves the program after each epoch."""

import pytest
from trained_runs import without_times

from flatwide import experiment, runner
from flatwide.runs import driver
from flatwide.runs.directory import run_directories
from flatwide.runs.experiment import Experiment
from flatwide.training import compiled_epochs

pytestmark = pytest.mark.optimized

FIELDS = {"num_epochs": 5, "label_noise": 0.2, "validation_fraction": 0.1, "learning_rate": 0.05, "batch_size": 32}


def train(workdir, **fields):
    result = runner.run(FIELDS | fields, workdir, quiet=True)
    (directory,) = run_directories(workdir)
    return directory.read_metrics(), without_times(result)


@pytest.mark.parametrize(
    "fields",
    [
        pytest.param({"num_neurons": (8,), "rho": 0.1}, marks=pytest.mark.slow),  # the third has it and more
        pytest.param({"num_neurons": (30, 20), "rho": 0.0, "batch_size": 100}, marks=pytest.mark.slow),
        {"num_neurons": (8,), "rho": 0.1, "pruner": "random", "sparsity": 0.5},
        {"num_neurons": (8,), "rho": 0.1, "learning_rate": 1e30},
    ],
)
def test_it_is_the_run_in_segments_bit_for_bit(fields, tmp_path, monkeypatch):
    assert experiment.build(FIELDS | fields).is_small
    whole = train(tmp_path / "whole", **fields)
    cut = train(tmp_path / "cut", **fields, checkpoint_every_seconds=0.0)  # leaves the program after every epoch
    monkeypatch.setattr(Experiment, "is_small", False)
    segments = train(tmp_path / "segments", **fields)
    assert whole == cut == segments


@pytest.mark.slow
def test_the_memory_for_scores_bounds_a_call(tmp_path, monkeypatch):
    fields, calls = {"num_neurons": (9,), "rho": 0.1}, []
    monkeypatch.setattr(compiled_epochs, "_length", lambda *_, before=None: calls.append(before) or 64)
    compiled_epochs._program.cache_clear()
    whole = train(tmp_path / "whole", **fields)
    compiled_epochs._program.cache_clear()
    monkeypatch.setattr(compiled_epochs, "_MOST_BYTES", 1)
    assert train(tmp_path / "short", **fields) == whole
    assert calls == [None, 64, None, *[64] * 5]  # once for five epochs, and five times for one


def test_runs_of_one_shape_share_a_program_and_its_rate(tmp_path):
    compiled_epochs._program.cache_clear()
    for seed in (0, 1):
        train(tmp_path / str(seed), num_neurons=(8,), seed=seed)
    cache = compiled_epochs._program.cache_info()
    assert (cache.misses, cache.hits, cache.maxsize) == (1, 1, 64)
    assert compiled_epochs._length(0.0, 10.0) == 1  # a program without a known rate begins with one epoch
    assert [compiled_epochs._length(0.5, 10.0), compiled_epochs._length(9.0, 10.0, before=2)] == [5, 16]


def test_it_goes_on_in_the_middle_of_an_epoch(tmp_path, monkeypatch):
    whole = train(tmp_path / "whole", num_neurons=(8,))
    with monkeypatch.context() as patched:
        patched.setattr(Experiment, "is_small", False)  # then the first call ends after one step
        with pytest.raises(driver.Stopped):
            runner.run(FIELDS | {"num_neurons": (8,)}, tmp_path / "cut", should_stop=lambda: True, quiet=True)
    (directory,) = run_directories(tmp_path / "cut")
    (path,) = directory.checkpoints.glob("step_*.npz")
    assert int(path.stem.partition("_")[2]) % experiment.build(FIELDS).steps_per_epoch
    assert train(tmp_path / "cut", num_neurons=(8,)) == whole


def test_what_does_not_fit_takes_segments():
    for fields in (
        {"eval_every_steps": 7},
        {"num_train_steps": 100},
        {"steps_per_eval": 2},
        {"num_neurons": (3000, 1000)},
    ):
        assert not experiment.build(FIELDS | fields).is_small
