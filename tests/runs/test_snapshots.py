"""Networks that a run keeps by the step: within epochs, the same after a kill, and with Adam's moments."""

import io

import jax
import numpy as np
import pytest

from flatwide import config as configs
from flatwide import experiment, optimizers, runner
from flatwide.measurements import measuring
from flatwide.runs import checkpoints, recording, records, snapshots
from flatwide.runs.identity import locate
from flatwide.study import measure_command

FIELDS = {"num_neurons": (4,), "num_epochs": 3, "batch_size": 512, "measure_epochs": (1,), "measure_every_steps": 2}
ADAM = {"base_optimizer": "adam", "learning_rate": 0.01}
# 1,437 examples are 3 steps an epoch: after 6 steps an epoch ends.
NAMES = ["epoch-0.npz", "epoch-1.npz", "epoch-2.npz", "step-2.npz", "step-4.npz", "step-8.npz"]


def run(workdir, **fields):
    return runner.run(FIELDS | fields, workdir, quiet=True, tensorboard=False)


def directory_of(workdir, **fields):
    return locate(configs.resolve(FIELDS | fields), workdir)[0]


def kept(workdir, **fields):
    return {path.name: path.read_bytes() for path in sorted(directory_of(workdir, **fields).path.glob("snapshots/*"))}


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("whole")
    run(workdir, **ADAM)
    return workdir


def test_a_network_within_an_epoch_is_that_after_its_steps(whole):
    assert list(kept(whole, **ADAM)) == NAMES
    assert snapshots.kept(directory_of(whole, **ADAM), 3) == [0, 2, 3, 4, 6, 8]
    built = experiment.build(FIELDS | ADAM)
    assert not built.is_small  # its program would leave an epoch at its end only
    assert experiment.build(FIELDS | ADAM | {"measure_every_steps": 6}).is_small
    state, like = built.init(), recording.snapshot(built.state_shapes())
    for step in range(5):
        path = snapshots.path(directory_of(whole, **ADAM), step, 3)
        assert path.exists() == (step != 1)
        if path.exists():
            stored, extra = checkpoints.load(path, like)
            assert extra["epoch"] == pytest.approx(step / 3)
            expected = recording.snapshot(state)
            for left, right in zip(jax.tree.leaves(stored), jax.tree.leaves(expected), strict=True):
                np.testing.assert_allclose(left, right, rtol=1e-4, atol=1e-6)
        state, _ = built.train_step(state, built.batch(step))


def test_a_run_that_is_killed_within_an_epoch_ends_with_the_same_snapshots(whole, tmp_path, monkeypatch):
    class KilledError(BaseException):
        pass

    write = checkpoints.write

    def killed_at_step_4(path, *args, **options):
        if path.name == "step-4.npz":
            (path.parent / "unfinished.tmp").write_bytes(b"half of a snapshot")
            raise KilledError
        write(path, *args, **options)

    fields = ADAM | {"checkpoint_every_seconds": 0.0}
    monkeypatch.setattr(checkpoints, "write", killed_at_step_4)
    with pytest.raises(KilledError):
        run(tmp_path, **fields)
    monkeypatch.setattr(checkpoints, "write", write)
    run(tmp_path, **fields)
    assert kept(tmp_path, **fields) == kept(whole, **ADAM)
    result = run(whole, **ADAM)
    assert run(tmp_path, **fields)["train_loss"] == result["train_loss"]
    assert (
        run(tmp_path / "plain", **ADAM, measure_every_steps=None, measure_epochs=())["train_loss"]
        == (result["train_loss"])
    )


def test_the_step_names_what_is_measured_there(whole):
    asked = FIELDS | ADAM | {"measurements": ("gradient",)}
    runner.run(asked, whole, quiet=True, tensorboard=False)
    directory = directory_of(whole, **ADAM)
    assert sorted(path.stem for path in directory.path.glob("measurements/*.json")) == sorted(
        ["gradient", *(f"gradient-{name.removesuffix('.npz').replace('-', '')}" for name in NAMES)]
    )
    epochs = sorted(record.epoch for record in records.read(directory)[0])
    assert epochs == pytest.approx([0, 2 / 3, 1, 4 / 3, 2, 8 / 3, 3])
    assert records.Wanted("gradient", 2 / 3, 50, 2).stem == "gradient-step2-examples50"


def test_a_snapshot_of_adam_has_its_average_of_squared_gradients(whole):
    saved = measuring.open_run(directory_of(whole, **ADAM), num_examples=10)
    built = saved.built
    state = built.init()
    for step in range(2):
        state, _ = built.train_step(state, built.batch(step))
    moments, last = saved.second_moments(2 / 3), saved.second_moments(None)
    assert moments is not None
    assert last is not None
    assert int(moments["num_updates"]) == 2
    for left, right in zip(jax.tree.leaves(moments["average"]), jax.tree.leaves(state.optimizer.nu), strict=True):
        np.testing.assert_allclose(left, right, rtol=1e-4)
    assert int(last["num_updates"]) == 9
    # As earlier versions wrote it: the network alone.
    path = directory_of(whole, **ADAM).snapshot(1)
    network, extra = checkpoints.load(path, recording.network(built.state_shapes()), is_part=True)
    checkpoints.write(path.with_name("step-5.npz"), 5, network, extra=extra)
    assert saved.second_moments(5 / 3) is None
    assert saved.subject(5 / 3).epoch == pytest.approx(5 / 3)
    path.with_name("step-5.npz").unlink()
    assert optimizers.second_moments(experiment.build(FIELDS).init().optimizer) is None


def test_the_command_measures_all_that_is_kept(whole):
    stream = io.StringIO()
    request = measure_command.read([str(whole), "--measurements=curvature", "--epochs=all", "--dry_run"])
    assert request is not None
    measure_command.run(request, stream=stream)
    assert "measurements to take: 7 (curvature)" in stream.getvalue()


def test_runs_of_a_group_keep_networks_at_whole_epochs_only(tmp_path):
    with pytest.raises(configs.ConfigError, match="measure_every_steps None or a whole number of epochs"):
        run(tmp_path, group_size=2)
