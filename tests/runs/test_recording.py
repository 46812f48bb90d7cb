"""Snapshots: the network at the epochs that were asked for, the same however the run was trained."""

import jax
import numpy as np
import pytest
from trained_runs import After

import flatwide
from flatwide import config as configs
from flatwide import experiment, processes, runner
from flatwide.runs import checkpoints, driver, recording
from flatwide.runs.directory import run_directories
from flatwide.runs.identity import locate

FIELDS = {"num_neurons": (4,), "num_epochs": 4, "batch_size": 256}
ONE_EPOCH = {"checkpoint_every_seconds": 0.0}  # a call; else one takes several
ASKED = FIELDS | {"measure_epochs": (0, 1, 3, 4)}


def run(workdir, **fields):
    return runner.run(ASKED | fields, workdir, quiet=True, tensorboard=False)


def snapshots(workdir, **fields):
    folder = locate(configs.resolve(ASKED | fields), workdir)[0].path / "snapshots"
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """Train a small network, whose epochs are parts of one program."""
    workdir = tmp_path_factory.mktemp("whole")
    assert experiment.build(ASKED).is_small
    run(workdir)
    return workdir


def test_a_snapshot_is_the_network_at_the_end_of_its_epoch(whole):
    built = experiment.build(ASKED)
    state, like = built.init(), recording.network(built.state_shapes())
    assert list(snapshots(whole)) == ["epoch-0.npz", "epoch-1.npz", "epoch-3.npz"]  # the end is the final checkpoint
    (folder,) = (whole / "runs").glob("*/snapshots")
    for epoch in (0, 1, 3):
        while int(state.step) < epoch * built.steps_per_epoch:
            state, _ = built.train_step(state, built.batch(int(state.step)))
        network, extra = checkpoints.load(folder / f"epoch-{epoch}.npz", like)
        assert extra == {"epoch": epoch, "identity": folder.parent.name[-8:]}
        for stored, current in zip(jax.tree.leaves(network), jax.tree.leaves(recording.network(state)), strict=True):
            np.testing.assert_allclose(stored, current, rtol=1e-4, atol=1e-6)  # another program, so other last bits


@pytest.mark.parametrize("calls", [0, 1, 2])
def test_a_stopped_run_keeps_the_same_snapshots(whole, tmp_path, calls):
    with pytest.raises(driver.Stopped):
        runner.run(ASKED | ONE_EPOCH, tmp_path, should_stop=After(calls), quiet=True, tensorboard=False)
    run(tmp_path)
    assert snapshots(tmp_path) == snapshots(whole)


@pytest.mark.parametrize("is_saved", [True, False])
def test_a_row_that_was_still_due_has_the_learning_rate_of_the_step_before_it(tmp_path, is_saved):
    fields = FIELDS | {"num_epochs": 1, "eval_every_steps": 1, "lr_scheduler": "cosine", "train_examples": 512}
    runner.run(fields, tmp_path / "whole", quiet=True, tensorboard=False)
    with pytest.raises(driver.Stopped):
        runner.run(fields, tmp_path / "cut", should_stop=After(0), quiet=True, tensorboard=False)
    (directory,) = run_directories(tmp_path / "cut")
    assert directory.read_metrics() == []
    if not is_saved:  # as checkpoints were before
        (path,) = directory.checkpoints.glob("step_*.npz")
        state, extra = checkpoints.load(path, experiment.build(fields).state_shapes())
        assert extra.pop("learning_rate") > 0
        checkpoints.write(path, 1, state, extra=extra)
    runner.run(fields, tmp_path / "cut", quiet=True, tensorboard=False)
    (whole,) = run_directories(tmp_path / "whole")
    assert directory.read_metrics() == whole.read_metrics()


def test_segments_give_the_same_snapshots(whole, tmp_path, monkeypatch):
    monkeypatch.setattr("flatwide.runs.experiment._SMALL_EPOCH", 0)
    assert not experiment.build(ASKED).is_small
    run(tmp_path)
    assert snapshots(tmp_path) == snapshots(whole)


def test_snapshots_change_no_result(whole, tmp_path):
    result = run(tmp_path, measure_epochs=())
    (row,) = flatwide.load(whole).to_dict("records")
    assert (result["train_loss"], result["test_loss"]) == (row["train_loss"], row["test_loss"])
    assert not list((tmp_path / "runs").glob("*/snapshots"))


def test_runs_of_a_group_keep_their_own_snapshots(tmp_path):
    shared = {"group_size": 3, "sparsity": 0.5, "pruner": "random"}
    members = [{"seed": 0}, {"seed": 1, "measure_epochs": (2,)}, {"seed": 2, "measure_epochs": ()}]
    group = [ASKED | shared | fields for fields in members]
    outcomes = runner.run_together(group, tmp_path / "group", tensorboard=False)
    assert [outcome.status for outcome in outcomes] == ["finished"] * 3
    of_group = [snapshots(tmp_path / "group", **shared, **fields) for fields in members[:2]]
    assert [list(of_run) for of_run in of_group] == [["epoch-0.npz", "epoch-1.npz", "epoch-3.npz"], ["epoch-2.npz"]]
    for fields, of_run in zip(members[:2], of_group, strict=True):
        run(tmp_path / "alone", **shared, **fields)
        assert snapshots(tmp_path / "alone", **shared, **fields) == of_run
    with np.load(next((tmp_path / "group" / "runs").glob("*seed1*/snapshots/epoch-2.npz"))) as arrays:
        assert any(name.startswith("mask/") for name in arrays.files)


def test_a_run_that_passed_the_epoch_says_that_it_must_be_trained_again(tmp_path, capsys):
    with pytest.raises(driver.Stopped):
        runner.run(FIELDS | ONE_EPOCH, tmp_path, should_stop=After(2), quiet=True, tensorboard=False)
    capsys.readouterr()
    asked = FIELDS | {"measure_epochs": (0, 3), "measurements": ("gradient",), "measure_examples": 10}
    with pytest.raises(RuntimeError, match="gradient-epoch0-examples10: ValueError"):
        runner.run(asked, tmp_path, tensorboard=False)
    errors = capsys.readouterr().err
    assert (
        "epoch-0.npz: there is no such snapshot, since this epoch was not in measure_epochs while this run trained"
        in errors
    )
    assert "in another --workdir" in errors
    (folder,) = (tmp_path / "runs").glob("*/measurements")
    assert {path.stem for path in folder.glob("*.json")} == {"gradient-epoch3-examples10", "gradient-examples10"}


def test_process_0_decides_when_all_save(tmp_path, monkeypatch):
    # All processes write a sharded state together, so one whose clock alone says that it is time would wait forever.
    saved = []
    monkeypatch.setattr(recording.Recording, "save", lambda self: saved.append(self.taken.step))
    run(tmp_path / "by the clock", **ONE_EPOCH)
    assert saved
    saved.clear()

    def refused_by_process_0(compute):
        return False if isinstance(value := compute(), bool) else value

    monkeypatch.setattr(processes, "agreed", refused_by_process_0)
    run(tmp_path / "by process 0", **ONE_EPOCH)
    assert not saved
