"""The command `measure`, and studies that measure: what is missing is done, whatever was killed before."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest

import flatwide
from flatwide import cli, runner
from flatwide import config as configs
from flatwide.runs.directory import RunDirectory
from flatwide.study import measure_command, plan

ROOT = Path(__file__).parents[2]
STUDY = """
from flatwide.config import default
def get_config():
    config = default()
    config.num_epochs, config.batch_size, config.learning_rate = 2, 256, 0.05
    config.measure_epochs, config.measure_examples = (0,), 50
    config.study.axes = {"num_neurons": ((4,), (6,)), "rho": (0.0, 0.1)}
    config.study.workers = 1
    return config
"""
SLOW = """
import time
from flatwide.measurements.subject import Measured
def slow(subject, *, key):
    time.sleep(0.5)
    return Measured({"seed": float(subject.built.config["seed"])})
def bad(subject, *, key):
    return Measured({"x": 1 / (len(subject.built.config["num_neurons"]) - 1)})
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Train a study of four runs, and give its folder."""
    folder = tmp_path_factory.mktemp("study")
    (folder / "study.py").write_text(STUDY)
    (folder / "own.py").write_text(SLOW)
    for run in plan.expand(configs.load_file(f"{folder}/study.py")).runs:
        runner.run(run.config, folder / "w", quiet=True)
    return folder


def measure(folder, *flags):
    return cli.main(["measure", f"{folder}/w", *flags])


def count(folder, pattern):
    return len(list((folder / "w" / "runs").glob(f"*/measurements/{pattern}")))


@pytest.mark.slow
def test_a_condition_chooses_the_runs(folder, capsys):
    flags = ["--measurements=gradient", "--examples=20", "--epochs=all"]
    assert measure(folder, *flags, "--where=num_neurons=='(4,)' and rho>0", "--dry_run") == 0
    assert "measurements to take: 2 (gradient)" in capsys.readouterr().err
    assert count(folder, "gradient*examples20.json") == 0
    assert measure(folder, *flags, "--where=num_neurons=='(4,)' and rho>0") == 0
    printed = capsys.readouterr()
    assert "1 runs: 0 measured, 1 to measure" in printed.err
    assert "measured: 1 runs" in printed.out
    assert count(folder, "gradient-examples20.json") == count(folder, "gradient-epoch0-examples20.json") == 1
    table = flatwide.load(folder / "w")
    assert table["gradient.train_loss"].notna().sum() == 1
    assert measure(folder, *flags) == 0
    assert "4 runs: 1 measured, 3 to measure" in capsys.readouterr().err
    assert (folder / "w" / "measurements.csv").read_text().count("gradient,train_loss") == 8


def test_an_epoch_that_was_not_kept_is_told_beforehand(folder, capsys):
    flags = ["--measurements=gradient", "--examples=21", "--dry_run", "--where=rho>0"]
    assert measure(folder, *flags, "--epochs=0,1,2") == 0
    assert "warning: 2 of these runs stored no snapshot of epoch 1: nothing to measure" in capsys.readouterr().err
    assert measure(folder, *flags, "--epochs=0,2") == 0
    assert "warning" not in capsys.readouterr().err


@pytest.mark.parametrize(
    ("flags", "messages"),
    [
        (["--where=width>3"], ["--where='width>3': column='width' is not known.", "Known: "]),
        (["--where=rho>"], ["--where='rho>': syntax error at character 5: ", "Allowed: columns (`a.b` in backquotes)"]),
        (["--where=rho"], ["--where='rho': expected a condition such as rho > 0; 'rho' is a column of numbers."]),
        (
            ["--where=rho=0.1"],
            ["--where='rho=0.1': syntax error at character 4, near '=0.1': "],
        ),
        (["--where=f(rho)", "--examples=0"], ["the call 'f(rho)' at character 1 is not allowed.", "--examples: "]),
        (["--where=rho>5"], ["--where='rho>5': expected finished runs; none of 4 runs (4 finished) match."]),
        (["--epochs=1,9"], ["--epochs=9: digits-MLP", "has 2 epochs."]),
        (
            ["--measurements=gradent", "--examples=0", "--epochs=x", "--workers=1,2"],
            [
                "--measurements='gradent' is not known. Did you mean 'gradient'?",
                "--examples: '0' is no integer in [1, 10^18).",
                "--epochs: 'x' is no integer in [0, 10^18).",
                "--workers=1,2: expected one integer >= 1.",
            ],
        ),
        (["--epochs=" + "9" * 5000], ["--epochs: '999", "(5,002 characters) is no integer in [0, 10^18)."]),
        (["--measurements="], ["--measurements is missing. Known: "]),
        (["--wher=x"], ["unrecognized arguments: --wher=x; usage:"]),
    ],
)
def test_bad_input_is_told(folder, capsys, flags, messages):
    assert measure(folder, "--measurements=gradient", *flags) == 2
    printed = capsys.readouterr().err
    assert [message for message in messages if message not in printed] == []


def test_no_work_directory_is_told(tmp_path, capsys):
    assert cli.main(["measure", f"{tmp_path}/nowhere", "--measurements=gradient"]) == 2
    assert "nowhere: expected a work directory with runs" in capsys.readouterr().err
    assert cli.main(["measure", "--help"]) == 0
    assert measure_command.USAGE in capsys.readouterr().out


@pytest.mark.slow
def test_failures_end_with_1_and_are_tried_again(folder, capsys):
    flags = [f"--measurements={folder}/own.py:bad", "--where=rho>0"]
    for times in (1, 2):
        assert measure(folder, *flags, "--workers=1") == 1
        printed = capsys.readouterr()
        assert "measured: 0 runs, 2 failed" in printed.out
        assert "ZeroDivisionError" in printed.err
        assert "measurements/error.txt" in printed.err
        texts = [path.read_text() for path in (folder / "w" / "runs").glob("*/measurements/error.txt")]
        assert [text.count("Traceback") for text in texts] == [times, times]


@pytest.mark.slow
def test_stopped_and_killed_it_measures_the_rest(folder):
    flags = ["measure", f"{folder}/w", f"--measurements={folder}/own.py:slow", "--epochs=0", "--workers=1"]
    pipes = {"stderr": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True, "start_new_session": True}
    for number, code in ((signal.SIGTERM, 143), (signal.SIGKILL, -signal.SIGKILL)):
        before = count(folder, "slow*.json")
        process = subprocess.Popen([sys.executable, str(ROOT / "main.py"), *flags], **pipes)
        deadline = time.monotonic() + 60
        while count(folder, "slow*.json") == before and time.monotonic() < deadline:
            time.sleep(0.02)
        process.send_signal(number)
        _, errors = process.communicate(timeout=60)
        assert process.returncode == code, errors
        assert before < count(folder, "slow*.json") < 8
    while cli.main(flags) != 0 and time.monotonic() < deadline:  # a worker that lives on for a moment has a run in hand
        time.sleep(0.1)
    assert count(folder, "slow*.json") == 8
    assert not list((folder / "w").glob("runs/*/measurements/*.tmp"))


@pytest.mark.slow
def test_a_study_trains_and_measures_by_one_command(folder, capsys):
    flags = [f"--workdir={folder}/w", f"--config={folder}/study.py", "--config.measurements=gradient,curvature"]
    wider = "--config.study.axes.num_neurons=((4,),(6,),(8,))"
    assert cli.main([*flags, wider, "--dry_run"]) == 0
    printed = capsys.readouterr().out
    assert "study of 6 runs: 0 done, 6 to do, 4 unmeasured" in printed
    assert "measured at the end and at epochs 0: gradient, curvature" in printed
    results = {path: path.stat().st_mtime_ns for path in (folder / "w").glob("runs/*/result.json")}
    assert cli.main([*flags, wider]) == 0
    assert "runs: 6 of 6 done" in capsys.readouterr().out
    assert {path: path.stat().st_mtime_ns for path in results} == results
    table = flatwide.load(folder / "w")
    assert table["curvature.top_eigenvalue"].notna().all()
    assert len(table) == 6
    assert cli.main([*flags, wider, "--dry_run"]) == 0
    assert "study of 6 runs: 6 done, 0 to do" in capsys.readouterr().out


@pytest.mark.slow
def test_a_study_whose_measurements_fail_ends_with_1(folder, capsys):
    flags = [f"--workdir={folder}/w", f"--config={folder}/study.py", f"--config.measurements={folder}/own.py:bad"]
    assert cli.main([*flags, "--config.study.axes.num_neurons=((4,),)"]) == 1
    printed = capsys.readouterr()
    assert "runs: 0 of 2 done, 2 failed" in printed.out
    assert "ZeroDivisionError" in printed.err


def test_measurements_are_no_axis(folder, capsys):
    axis = "--config.study.axes.measure_examples=(10,20)"
    assert cli.main([f"--workdir={folder}/w", f"--config={folder}/study.py", axis]) == 2
    assert "measure_examples changes no result" in capsys.readouterr().err


def test_a_python_file_that_a_run_names_is_run_only_if_it_is_trusted(tmp_path):
    config = {"model": f"{tmp_path}/theirs.py:Net", "dataset": "digits"}
    RunDirectory(tmp_path / "runs" / "a-00000000").write_config(config, identity={})
    RunDirectory(tmp_path / "runs" / "b-00000000").write_config({"model": "MLP"}, identity={})
    request = measure_command.read([str(tmp_path), "--measurements=gradient"])
    assert request is not None
    assert not request.trusts
    named, plain = (measure_command.Task(name, {}, trains=False) for name in ("a-00000000", "b-00000000"))
    measure_command._check_files(request, [plain])
    with pytest.raises(
        configs.ConfigError, match=r"measuring would execute: .*theirs.py:Net. Read it, and add --trust"
    ):
        measure_command._check_files(request, [plain, named])
    trusting = measure_command.read([str(tmp_path), "--measurements=gradient", "--trust"])
    assert trusting is not None
    assert trusting.trusts


def test_runs_with_a_fault_are_named_where_none_can_be_measured():
    table = pd.DataFrame(
        {"run": ["a", "b"], "status": ["mismatch", "missing"], "problem": ["a/result.json: of b", None]}
    )
    with pytest.raises(ValueError, match=r"\(0 finished\) match\. 1 have a fault, such as a/result\.json: of b"):
        measure_command.select(table, "")
