"""A study trains what is missing, whatever was killed before, and each run is bit for bit the run alone."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from command_line import ROOT, in_training, start, table, wait_for

import flatwide
from flatwide import cli, runner
from flatwide.study import stalls
from flatwide.study.executors import Site, local

STUDY = """
from flatwide.config import default
def get_config():
    config = default()
    config.num_epochs, config.batch_size, config.learning_rate = 3, 64, 0.05
    config.checkpoint_every_seconds = 0.0
    config.study.axes = {"num_neurons": ((4,), (8,)), "rho": (0.0, 0.1), "seed": (0, 1)}
    config.study.workers = 2
    return config
"""


@pytest.fixture
def study(tmp_path):  # a larger one than that of the other files
    path = tmp_path / "study.py"
    path.write_text(STUDY)
    return f"--config={path}"


@pytest.fixture
def narrow(study, tmp_path):
    """Return the flags of its narrow runs of one seed, one at rho 0 and one of SAM, in one worker."""
    axes = ["--config.study.axes.num_neurons=(4,)", "--config.study.axes.seed=(0,)"]
    return [f"--workdir={tmp_path}/w", study, "--config.study.workers=1", *axes]


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Train the study without disturbance, and give its work directory."""
    folder = tmp_path_factory.mktemp("whole")
    (folder / "study.py").write_text(STUDY)
    assert cli.main([f"--workdir={folder}/w", f"--config={folder}/study.py"]) == 0
    return folder / "w"


@pytest.fixture(scope="module")
def whole(trained):
    """Return the table of the undisturbed study."""
    return table(trained)


def workers_of(process):
    """List the worker processes of a study's process."""
    seconds = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            parent = int(path.read_text().rpartition(")")[2].split()[1])
        except (OSError, ValueError):
            continue
        if parent == process.pid:
            seconds.append(int(path.parent.name))
    return seconds


@pytest.mark.slow
def test_every_run_is_bit_for_bit_the_run_alone(whole, tmp_path):
    assert whole["status"].tolist() == ["finished"] * 8
    fields = {
        "num_epochs": 3,
        "batch_size": 64,
        "learning_rate": 0.05,
        "checkpoint_every_seconds": 0.0,
        "threads": None,
    }
    for width in (4, 8):
        for rho in (0.0, 0.1):
            runner.run(fields | {"num_neurons": (width,), "rho": rho, "seed": 1}, tmp_path, quiet=True)
    alone = table(tmp_path)
    for name in ("run", "train_loss", "test_loss", "test_metric", "test_metric_best", "threads"):
        np.testing.assert_array_equal(alone[name], whole[whole["seed"] == 1][name])


def test_running_again_trains_only_what_is_missing(study, trained, whole, tmp_path, capsys):
    workdir = tmp_path / "w"
    for path in trained.glob("runs/*MLP4-*seed0*"):
        shutil.copytree(path, workdir / "runs" / path.name)
    flags = [f"--workdir={workdir}", study, "--config.study.axes.num_neurons=(4,)", "--config.study.workers=1"]
    first = {path: path.stat().st_mtime_ns for path in workdir.glob("runs/*/result.json")}
    assert cli.main([*flags, "--dry_run"]) == 0
    preview = capsys.readouterr().out
    assert "study of 4 runs: 2 done, 2 to do" in preview
    assert "groups of one program: 2" in preview
    assert "disk: " in preview
    assert "estimated time: " in preview
    assert not (workdir / "commands").exists()
    assert cli.main(flags) == 0
    printed = capsys.readouterr()
    assert "2 done, 2 to do" in printed.err
    assert "runs: 4 of 4 done" in printed.out
    report = f"report: {workdir}/report.html, rewritten as runs end, at most once a minute\n"
    assert printed.err.index("axes: ") < printed.err.index(report) < printed.err.index("runs 4/4")
    (stored,) = (json.loads(path.read_text()) for path in (workdir / "commands").iterdir())
    assert stored["arguments"] == flags
    assert stored["config_text"] == STUDY
    assert stored["config"]["study"]["axes"] == {"num_neurons": [4], "rho": [0.0, 0.1], "seed": [0, 1]}
    assert first == {path: path.stat().st_mtime_ns for path in first}
    np.testing.assert_array_equal(table(workdir)["train_loss"], whole["train_loss"][:4])
    assert cli.main([*flags, "--config.study.axes.seed=(1,)"]) == 0
    assert "kept: 2 runs outside this study" in capsys.readouterr().err


def test_a_failing_and_a_diverging_run_leave_their_neighbours_untouched(study, tmp_path, capsys, whole):
    user_file = tmp_path / "own.py"
    user_file.write_text(
        "from flatwide.sam import normalized\n"
        "def touchy(rho, *, fault: float = 0.0):\n"
        "    if fault: raise RuntimeError('a fault of its own')\n"
        "    return normalized(rho)\n"
    )
    flags = [f"--workdir={tmp_path}/w", study, f"--config.sam_variant={user_file}:touchy"]
    flags += ["--config.study.axes.num_neurons=(4,)", "--config.study.axes.rho=(0.1,)", "--config.study.workers=1"]
    flags += ["--config.study.axes.seed=(0,)"]
    axes = ["--config.study.axes.fault=(0.0,1.0)", "--config.study.axes.learning_rate=(0.05,1e30)"]
    assert cli.main([*flags, "--config.study.axes.fualt=(0.0,1.0)"]) == 2
    assert "fault" in capsys.readouterr().err
    assert cli.main([*flags, *axes]) == 1  # the field is a keyword of the user's own rule
    printed = capsys.readouterr()
    assert "runs: 2 of 4 done (1 diverged), 2 failed" in printed.out
    table = flatwide.load(tmp_path / "w")
    assert table[table["fault"] == 1]["status"].tolist() == ["failed"] * 2
    assert "a fault of its own" in next((tmp_path / "w").glob("runs/*/error.txt")).read_text()
    good = table[(table["fault"] == 0) & (table["learning_rate"] == 0.05)]
    same = whole[(whole["rho"] == 0.1) & (whole["num_neurons"] == "(4,)") & (whole["seed"] == 0)]
    np.testing.assert_array_equal(good["train_loss"], same["train_loss"])


@pytest.mark.slow
def test_a_run_whose_config_no_longer_matches_is_kept_and_reported(narrow, tmp_path, capsys):
    assert cli.main(narrow) == 0
    path = next((tmp_path / "w").glob("runs/*rho0.1*/config.json"))
    config = json.loads(path.read_text())
    config["identity"]["batch_size"] = 32
    path.write_text(json.dumps(config))
    before = path.with_name("result.json").read_bytes()
    assert cli.main(narrow) == 1
    assert "kept and not trained" in capsys.readouterr().err
    assert path.with_name("result.json").read_bytes() == before


@pytest.mark.slow
def test_a_damaged_run_is_reported_and_the_others_are_trained(narrow, tmp_path, capsys):
    assert cli.main([*narrow, "--config.study.axes.rho=(0.1,)"]) == 0
    (directory,) = (tmp_path / "w" / "runs").iterdir()
    (directory / "result.json").unlink()
    (directory / "config.json").write_text("")
    assert cli.main(narrow) == 1
    printed = capsys.readouterr()
    assert "runs: 1 of 2 done, 1 failed" in printed.out
    assert f"kept and not trained: {directory}/config.json: the file is damaged" in printed.err


@pytest.mark.slow
def test_runs_that_differ_in_their_threads_only_are_told_once(narrow, tmp_path, capsys):
    flags = [*narrow, "--config.study.axes.seed=(0,1)"]
    assert cli.main(flags) == 0
    assert cli.main([*flags, "--config.threads=2"]) == 0
    assert "SAM" in capsys.readouterr().out.splitlines()[0]
    assert len(flatwide.load(tmp_path / "w")) == 8


@pytest.mark.slow
def test_a_worker_that_hangs_is_ended(tmp_path, monkeypatch):
    monkeypatch.setattr(local, "STOP_SECONDS", 2.0)
    crew = local.LocalCrew(Site(tmp_path / "orders.json", threads=1))
    script = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print(flush=True); time.sleep(600)"
    process = subprocess.Popen([sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.readline()
    crew._processes["0-0"] = process
    crew.stop()
    assert process.poll() == -signal.SIGKILL
    process.stdout.close()


def test_a_bad_study_is_refused_before_training(study, tmp_path, capsys):
    code = cli.main([f"--workdir={tmp_path}/w", study, "--config.study.axes.rho=()", "--config.sed=1"])
    errors = capsys.readouterr().err
    assert code == 2
    assert "config.study.axes.rho=()" in errors
    assert "'sed'" in errors
    assert not (tmp_path / "w").exists()


@pytest.mark.slow
def test_sigterm_saves_and_exits(study, tmp_path, whole):
    process = start(tmp_path / "w", study, "--config.num_epochs=4000")
    wait_for(lambda: list(tmp_path.glob("w/runs/*/checkpoints/step_*.npz")))
    process.terminate()
    _, errors = process.communicate(timeout=100)
    assert process.returncode == 143, errors
    assert "Rerun the same command to resume" in errors
    assert "Traceback" not in errors
    assert not list((tmp_path / "w").glob("runs/*/result.json"))


SLOW_VICTIMS = [pytest.param(victim, marks=pytest.mark.slow) for victim in ("worker", "parent")]


@pytest.mark.parametrize("victim", [*SLOW_VICTIMS, "all"])
def test_killed_at_an_instant_it_ends_with_the_same_table(study, tmp_path, whole, victim):
    process = start(tmp_path / "w", study)
    in_training(tmp_path / "w")
    if victim == "worker":
        for worker in workers_of(process)[:1]:
            os.kill(worker, signal.SIGKILL)
    elif victim == "parent":
        process.kill()
    else:
        os.killpg(process.pid, signal.SIGKILL)
    _, errors = process.communicate(timeout=200)
    if victim == "worker":
        assert process.returncode == 0, errors
    else:
        assert cli.main([f"--workdir={tmp_path}/w", study]) == 0
    assert table(tmp_path / "w").equals(whole)


@pytest.mark.slow
def test_a_worker_that_was_stopped_while_its_command_was_killed_frees_its_run(narrow, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(stalls, "LEAST_SECONDS", 5.0)
    process = subprocess.Popen(
        [sys.executable, str(ROOT / "main.py"), *narrow], stderr=subprocess.PIPE, stdout=subprocess.PIPE
    )
    in_training(tmp_path / "w")
    for worker in workers_of(process):
        os.kill(worker, signal.SIGSTOP)
    process.kill()
    assert cli.main(narrow) == 0
    process.communicate(timeout=100)  # the woken worker has ended too, and has closed its pipes
    assert "and was woken" in capsys.readouterr().err
    assert set(flatwide.load(tmp_path / "w")["status"]) == {"finished"}


@pytest.mark.slow
def test_two_commands_share_one_work_directory(study, tmp_path, whole):
    processes = [start(tmp_path / "w", study), start(tmp_path / "w", study)]
    for process in processes:
        _, errors = process.communicate(timeout=200)
        assert process.returncode == 0, errors
    assert table(tmp_path / "w").equals(whole)


@pytest.mark.slow
def test_a_run_that_kills_its_worker_fails_after_some_attempts(narrow, tmp_path, capsys):
    user_file = tmp_path / "own.py"
    user_file.write_text(
        "import os\nfrom flatwide.sam import normalized\n"
        "def deadly(rho, *, fault: float = 0.0):\n"
        "    if fault: os._exit(9)\n"
        "    return normalized(rho)\n"
    )
    (tmp_path / "study.py").write_text(
        STUDY.replace("return config", "config.unlock(); config.fault = 0.0; return config")
    )
    flags = [f"--config.sam_variant={user_file}:deadly", "--config.study.axes.rho=(0.1,)"]
    assert cli.main([*narrow, *flags, "--config.study.axes.fault=(0.0,1.0)"]) == 1
    printed = capsys.readouterr()
    assert "runs: 1 of 2 done, 1 failed" in printed.out
    assert "its worker died 3 times while it trained this run; the last time: exit code 9" in printed.err


@pytest.mark.slow
def test_a_measurement_that_fails_hides_no_trained_run(narrow, tmp_path, capsys):
    (tmp_path / "own.py").write_text("def broken(subject, *, key):\n    raise ValueError('no such thing here')\n")
    flags = [f"--config.measurements={tmp_path}/own.py:broken", "--config.num_epochs=1"]
    assert cli.main([*narrow, *flags]) == 1
    printed = capsys.readouterr()
    assert "runs: 0 of 2 done, 2 failed, 2 trained but not measured in full." in printed.out
    assert "One seed, so no interval: SAM differs from SGD by" in printed.out  # the answer
    assert f"report: {tmp_path}/w/report.html" in printed.out
    assert "left" not in printed.err  # no run has told how long one takes
    assert "no such thing here; see " in printed.err


@pytest.mark.slow
@pytest.mark.timeout(1500)
@pytest.mark.parametrize("group_size", [1, 2])
def test_killed_twenty_times_at_random_it_ends_with_the_same_table(study, tmp_path, group_size):
    flags = [study, "--config.num_epochs=6000", "--config.checkpoint_every_seconds=0.3"]
    flags += [f"--config.group_size={group_size}", "--config.study.axes.seed=(0,1,2)"]
    chance, kills = np.random.default_rng(group_size), 0
    while kills < 20:
        process = start(tmp_path / "cut", *flags)
        time.sleep(chance.uniform(1.0, 8.0))
        assert process.poll() is None, "it was done before it was killed twenty times"
        if kills % 3 == 0:  # the workers only; the command then starts others
            for worker in workers_of(process):
                os.kill(worker, signal.SIGKILL)
            time.sleep(1.0)
        if kills % 3 == 1:
            process.kill()
        else:
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate(timeout=200)
        kills += 1
    for folder in ("cut", "whole"):
        assert cli.main([f"--workdir={tmp_path / folder}", *flags]) == 0
    assert table(tmp_path / "cut").equals(table(tmp_path / "whole"))
