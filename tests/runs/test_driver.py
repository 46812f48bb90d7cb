"""A run leaves the files it promises; killed at any instant it ends with the numbers of an undisturbed one."""

import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from trained_runs import FIELDS, After, directory_of, run, without_times

import flatwide
from flatwide import cli, experiment, runner
from flatwide import config as configs
from flatwide.runs import checkpoints, disk, driver
from flatwide.runs.provenance import checksum
from flatwide.runs.rows import AVERAGED, COLUMNS


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """Train a run without disturbance."""
    workdir = tmp_path_factory.mktemp("whole")
    run(workdir)
    return directory_of(workdir)


@pytest.fixture(scope="module")
def stopped(tmp_path_factory):
    """Stop the same run early; each test resumes a copy."""
    workdir = tmp_path_factory.mktemp("stopped")
    with pytest.raises(driver.Stopped):
        runner.run(FIELDS, workdir, should_stop=After(2), quiet=True)
    return workdir


@pytest.fixture
def cut(stopped, tmp_path):
    shutil.copytree(stopped, tmp_path, dirs_exist_ok=True)
    return directory_of(tmp_path)


def assert_same(directory, whole):
    """Compare the results, the rows and the final states of two runs."""
    assert without_times(directory.read_result()) == without_times(whole.read_result())
    assert directory.metrics_file.read_bytes() == whole.metrics_file.read_bytes()
    with np.load(whole.checkpoints / "final.npz") as a, np.load(directory.checkpoints / "final.npz") as b:
        names = [name for name in a.files if "metadata" not in name]
        assert any("params" in name for name in names)
        for name in names:
            np.testing.assert_array_equal(a[name], b[name])


def test_a_run_leaves_its_files_and_is_not_trained_again(whole):
    directory, workdir = whole, whole.path.parents[1]
    result = directory.read_result()
    assert run(workdir) == run(workdir, restore_checkpoint=False) == result
    assert len(list((workdir / "runs").iterdir())) == 1
    assert result["status"] == "finished"
    assert (result["epochs"], result["num_params"]) == (4, 65 * 8 + 9 * 10)
    assert (result["test_chance_metric"], result["num_test_items"]) == (36 / 355, 355)  # of the digits' test split
    assert 0 <= result["test_metric"] <= result["test_metric_best"] <= 1
    assert result["test_metric_at_best_validation"] <= result["test_metric_best"]
    assert (directory.checkpoints / "final.npz").is_file()
    assert list(directory.path.glob("events.out.*"))
    rows = directory.read_metrics()
    assert (*rows[0], *AVERAGED) == COLUMNS
    assert [row["epoch"] for row in rows] == [1, 2, 3, 4]
    assert rows[-1]["train_loss"] == result["train_loss"]
    assert [row["train_loss"] for row in rows[:-1]] == [None] * 3
    assert max(row["test_metric"] for row in rows) == result["test_metric_best"]


def test_runs_that_differ_get_directories_of_their_own(tmp_path):
    each = ({}, {"rho": 0.0}, {"seed": 1}, {"num_neurons": (4,)}, {"num_epochs": 1})
    assert len({directory_of(tmp_path, **fields).path for fields in each}) == 5


@pytest.mark.parametrize("segments", [0, 1, 2])
def test_a_stopped_run_ends_with_the_same_numbers(whole, tmp_path, segments):
    with pytest.raises(driver.Stopped, match="Rerun the same command to resume"):
        runner.run(FIELDS, tmp_path, should_stop=After(segments), quiet=True)
    run(tmp_path)
    assert_same(directory_of(tmp_path), whole)


_RUN = """
import json, sys, time
from flatwide import runner
slow = float(sys.argv[3])
def pause():
    time.sleep(slow)
    return False
runner.run(json.loads(sys.argv[1]), sys.argv[2], should_stop=pause, quiet=True)
"""


def start(workdir, pause=0.0):
    command = [sys.executable, "-c", _RUN, json.dumps(FIELDS), str(workdir), str(pause)]
    return subprocess.Popen(command, stderr=subprocess.DEVNULL)


def newest_step(directory):
    return max((int(path.stem.split("_")[1]) for path in directory.checkpoints.glob("step_*.npz")), default=0)


def test_a_killed_run_resumes_and_ends_with_the_same_numbers(whole, tmp_path):
    directory = directory_of(tmp_path / "cut")
    reached = 0
    for _ in range(2):
        process = start(tmp_path / "cut", pause=0.05)
        deadline = time.monotonic() + 60
        while newest_step(directory) < reached + 3 and time.monotonic() < deadline and process.poll() is None:
            time.sleep(0.005)
        process.kill()
        process.wait()
        assert newest_step(directory) >= reached  # never back to the start
        reached = newest_step(directory)
    assert reached > 0
    run(tmp_path / "cut")
    assert_same(directory, whole)


def test_a_damaged_newest_checkpoint_falls_back_with_a_warning(cut, whole, tmp_path, capsys):
    newest = sorted(cut.checkpoints.glob("step_*.npz"))[-1]
    newest.write_bytes(newest.read_bytes()[:-100])
    runner.run(FIELDS, tmp_path)
    assert f"warning: {newest}" in capsys.readouterr().err
    assert_same(cut, whole)


def test_the_last_evaluation_scores_all_of_a_split(whole, tmp_path):
    assert run(tmp_path, steps_per_eval=1)["test_metric"] == whole.read_result()["test_metric"]
    rows = directory_of(tmp_path, steps_per_eval=1).read_metrics()
    assert rows[0]["test_metric"] != whole.read_metrics()[0]["test_metric"]


def test_a_run_that_fails_leaves_its_traceback_and_may_be_tried_again(tmp_path, monkeypatch):
    def full_disk(*arguments, **options):
        raise OSError("no space left")

    with monkeypatch.context() as patch:
        patch.setattr(checkpoints, "save", full_disk)
        with pytest.raises(OSError, match="no space left"):
            run(tmp_path)
    directory = directory_of(tmp_path)
    assert directory.status() == "failed"
    assert "no space left" in (directory.path / "error.txt").read_text()
    assert run(tmp_path)["status"] == "finished"


def test_an_unfinished_run_is_not_loaded_and_restore_false_refuses_it(cut, tmp_path):
    with pytest.raises(ValueError, match="the run is unfinished; expected a finished one"):
        flatwide.load_run(cut.path)
    with pytest.raises(configs.ConfigError, match=r"choose another --workdir or config\.seed"):
        run(tmp_path, restore_checkpoint=False)


def test_going_on_with_another_number_of_devices_is_said(cut, tmp_path, capsys):
    path = cut.path / "config.json"
    written = json.loads(path.read_text())
    assert (written["num_devices"], written["matmul_precision"]) == (1, "highest")
    assert "num_devices" not in written["identity"]
    del written["checksum"]
    written["num_devices"] = 4
    path.write_text(json.dumps(written | {"checksum": checksum(written)}))
    assert "device" not in capsys.readouterr().err
    run(tmp_path)
    assert "was started on 4 device(s) and resumes on 1: the result may differ" in capsys.readouterr().err


def test_a_run_in_use_is_left_alone(tmp_path):
    directory = directory_of(tmp_path)
    with directory.lock(), pytest.raises(ValueError, match="another process"):
        run(tmp_path)


def test_a_diverged_run_is_a_result(tmp_path):
    result = run(tmp_path, learning_rate=1e30)
    assert result["status"] == "diverged"
    assert result["test_metric"] is None
    assert 0 < result["diverged_at_step"] < 20
    table = flatwide.load(tmp_path)
    assert table["status"].tolist() == ["diverged"]


def test_a_loss_that_is_not_finite_only_at_the_end_is_a_divergence(tmp_path):
    assert run(tmp_path, learning_rate=1e30, num_train_steps=1)["status"] == "diverged"


def test_a_run_can_be_loaded_and_used(whole):
    trained, built = flatwide.load_run(whole.path), experiment.build(FIELDS)
    outputs = trained.apply(built.test.arrays["inputs"].astype(np.float32) / 16)
    found = float((outputs.argmax(axis=1) == built.test.targets).mean())
    assert found == pytest.approx(whole.read_result()["test_metric"])
    assert checkpoints.load_newest(whole.checkpoints, built.init()).step == built.num_steps


def test_evaluations_at_chosen_steps(tmp_path):
    run(tmp_path, num_train_steps=10, eval_every_steps=4)
    rows = directory_of(tmp_path, num_train_steps=10, eval_every_steps=4).read_metrics()
    assert [row["step"] for row in rows] == [4, 8, 10]


@pytest.mark.parametrize("number", [signal.SIGTERM, pytest.param(signal.SIGINT, marks=pytest.mark.slow)])
def test_a_signal_saves_and_exits(tmp_path, root, number):
    """The command, told to stop in the middle, exits with 128 + the signal and goes on when it is given again."""
    command = [sys.executable, str(root / "main.py"), f"--workdir={tmp_path}", f"--config={root}/configs/digits_mlp.py"]
    command += ["--config.num_epochs=4000", "--config.checkpoint_every_seconds=0"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 100
    while not list(Path(tmp_path).glob("runs/*/checkpoints/*.npz")) and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(number)
    _, errors = process.communicate(timeout=100)
    assert process.returncode == 128 + number
    assert "Rerun the same command to resume" in errors
    assert "Traceback" not in errors
    assert not list(Path(tmp_path).glob("runs/*/result.json"))
    assert os.listdir(next(Path(tmp_path).glob("runs/*/checkpoints")))


def test_a_work_directory_that_is_removed_while_a_run_trains_is_not_made_again(tmp_path, monkeypatch):
    monkeypatch.setattr(driver, "_REMOVING_SECONDS", 0.0)

    def remove():
        shutil.rmtree(tmp_path / "w", ignore_errors=True)
        return False

    with pytest.raises(disk.RemovedError, match="was removed while it was in use; nothing was recreated"):
        runner.run(FIELDS, tmp_path / "w", should_stop=remove, quiet=True)
    assert not (tmp_path / "w").exists()


@pytest.mark.filterwarnings("ignore:Error writing persistent compilation cache entry")
@pytest.mark.parametrize("num_workers", [0, pytest.param(1, marks=pytest.mark.slow)])
def test_where_a_file_cannot_grow_the_command_says_which_and_how_to_go_on(tmp_path, capfd, num_workers):
    config = tmp_path / "config.py"
    config.write_text(
        "from flatwide.config import default\ndef get_config():\n    config = default()\n"
        "    config.num_neurons, config.num_epochs, config.checkpoint_every_seconds = (8,), 4, 0.0\n"
        + ("    config.study.axes, config.study.workers = {'seed': (0, 1)}, 1\n" if num_workers else "")
        + "    return config\n"
    )
    command = [f"--workdir={tmp_path}/w", f"--config={config}"]
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:  # a checkpoint of this network has 7 kB
        resource.setrlimit(resource.RLIMIT_FSIZE, (6_000, hard))
        code = cli.main(command)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    errors = capfd.readouterr().err
    assert code == 1, errors
    assert ".npz: it could not be written (File too large). Free some space, and rerun the same command" in errors
    assert "Traceback" not in errors
    assert not list((tmp_path / "w").glob("**/*.tmp"))
    assert cli.main(command) == 0
