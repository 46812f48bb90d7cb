"""A job of several tasks trains each run of a study in all of them: as one process would, whatever ends one of them."""

import json
import os
import re
import signal
import socket
import time
from pathlib import Path

import jax
import numpy as np
import pytest

from flatwide import config as configs
from flatwide import processes, runner
from flatwide.runs.directory import RunDirectory, run_directories
from flatwide.runs.identity import locate
from flatwide.study import executors, orders, supervise, worker
from flatwide.study.executors import Site, remote
from flatwide.study.executors import slurm as slurm_executor

FIELDS = {"num_neurons": (8,), "num_epochs": 3, "batch_size": 64, "learning_rate": 0.05, "rho": 0.1, "threads": 1}
FIELDS |= {"checkpoint_every_seconds": 0.0}
TWO = {"slurm": {"nodes": 2}}
GONE_SECONDS = 30.0  # after one process fails, the others have ended


@pytest.fixture
def job(slurm, monkeypatch):
    """Give jobs double precision, a free port, and a command that notices their end at once."""
    monkeypatch.setattr(slurm_executor, "_LOOK_SECONDS", 0.5)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        monkeypatch.setenv("JAX_COORDINATOR_PORT", str(free.getsockname()[1]))
    monkeypatch.setenv("JAX_ENABLE_X64", "1")
    return slurm


def given(workdir: Path, *each: dict) -> orders.Orders:
    """Write orders for runs of one shape, in double precision, which their names depend on."""
    resolved = [configs.resolve(FIELDS | fields) for fields in each]
    with jax.enable_x64(True):
        tasks = [orders.Task(locate(config, workdir)[0].name, dict(config)) for config in resolved]
    return orders.write(workdir, [tasks], session="now", tensorboard=False)


def crew_of(todo: orders.Orders):
    return executors.find("slurm")(Site(todo.path, threads=1, study=TWO))


def train(todo: orders.Orders) -> dict[str, supervise.Outcome]:
    """Train all runs in jobs of two tasks, one after another."""
    outcomes = supervise.supervise(todo, crew_of(todo), workers=1, should_stop=lambda: False)
    return {outcome.task.name: outcome for outcome in outcomes if outcome is not None}


def wait_for(files) -> list[Path]:
    deadline = time.monotonic() + 120
    while not (paths := list(files())) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert paths
    return paths


def tasks_of(job: Path, number: int) -> list[int]:
    return [int(pid) for pid in (job / f"{number}.pid").read_text().split()]


def wait(crew) -> list[executors.Ended]:
    deadline = time.monotonic() + GONE_SECONDS
    while not (ended := crew.ended()) and time.monotonic() < deadline:
        time.sleep(0.05)
    return ended


def assert_same_runs(workdir: Path, alone: Path) -> None:
    """Compare the numbers of runs with those of one process, to twelve digits."""
    runs = run_directories(workdir)
    assert [run.name for run in runs] == [run.name for run in run_directories(alone)]
    for run in runs:
        other = RunDirectory(alone / "runs" / run.name)
        tables = [np.array([list(row.values()) for row in each.read_metrics()], float) for each in (run, other)]
        np.testing.assert_allclose(*tables, rtol=0, atol=1e-12)
        states = [np.load(each.checkpoints / "final.npz") for each in (run, other)]
        for name in states[1].files:
            if name.startswith("params"):
                np.testing.assert_allclose(states[0][name], states[1][name], rtol=0, atol=1e-12)


TASKS = {"nodes": 2, "tasks_per_node": 4, "cpus_per_task": 3, "slurm_srun_args": ("--mpi=none",)}


@pytest.mark.parametrize(
    ("options", "asked", "expected"),
    [
        (TASKS, ("nodes=2", "ntasks-per-node=4"), "--kill-on-bad-exit --cpus-per-task=3 --mpi=none"),
        ({"slurm_cpus_per_task": 12}, (), "--kill-on-bad-exit --cpus-per-task=12 "),
        ({"cpus_per_task": None}, (), "--kill-on-bad-exit "),
    ],
)
def test_a_job_has_the_tasks_of_the_study_and_srun_the_cores_of_sbatch(slurm, tmp_path, options, asked, expected):
    (slurm / "full").touch()
    crew = executors.find("slurm")(Site(given(tmp_path, {}).path, threads=3, study={"slurm": options}))
    crew.start("0-0")
    text = (slurm / "1000.sbatch").read_text()
    assert expected in text
    assert all(f"#SBATCH --{line}\n" in text for line in asked)
    assert re.findall("cpus-per-task=(.*)", text)[:1] == re.findall("--cpus-per-task=([^ ]*)", text)[1:]
    crew.stop()


def test_options_of_srun_in_one_text_are_refused(slurm, tmp_path):
    study = {"slurm": {"slurm_srun_args": "--mpi=none"}}
    with pytest.raises(configs.ConfigError, match=r"slurm_srun_args='--mpi=none': expected a list"):
        executors.find("slurm")(Site(given(tmp_path, {}).path, threads=1, study=study))


@pytest.mark.slow
@pytest.mark.parametrize("task", [0, 1])
def test_a_task_that_fails_before_it_has_joined_ends_the_others(job, tmp_path, task):
    """The other task would wait for it for five minutes."""
    script = tmp_path / "bin" / "srun"
    failing = f"unset SLURM_STEP_NODELIST; (( task == {task} )) || export SLURM_STEP_NODELIST=localhost"
    script.write_text(script.read_text().replace("  SLURM_PROCID=$task", f"  {failing}\n  SLURM_PROCID=$task"))
    crew = crew_of(given(tmp_path, {}))
    crew.start("0-0")
    wait_for(lambda: job.glob("1000.pid"))
    (ended,) = wait(crew)
    wait_for(lambda: [True] if (job / "1000.state").read_text() == "FAILED\n" else [])
    assert not ended.was_stopped
    logs = Path(ended.problem.rpartition("see ")[2])
    texts = [ended.problem] if task == 0 else [path.read_text() for path in logs.parent.glob(logs.name)]
    assert any("did not find each other" in text for text in texts)


@pytest.fixture
def named(monkeypatch):
    """Make this process the first of two, of which the other does nothing; list what it names to the other."""
    told = []

    def agreed(compute):
        told.append(compute())
        return told[-1]

    monkeypatch.setattr(processes, "count", lambda: 2)
    monkeypatch.setattr(processes, "agreed", agreed)
    return told


def obey(todo: orders.Orders) -> int:
    with jax.enable_x64(True):
        return worker.work(todo.path, "0-0", should_stop=lambda: False)


def test_a_worker_ends_when_a_run_fails_since_the_others_may_wait_in_a_step(tmp_path, named):
    todo = given(tmp_path, {"batch_size": 5000}, {})
    with pytest.raises(configs.ConfigError, match=r"config\.batch_size=5000"):
        obey(todo)
    assert [todo.state(task) for task in todo.groups[0]] == ["failed", "open"]
    assert "config.batch_size=5000" in todo.directory(todo.groups[0][0]).read_error()


def test_a_run_of_another_worker_is_not_named_to_the_others(tmp_path, named):
    todo = given(tmp_path, {})
    (task,) = todo.groups[0]
    with todo.directory(task).lock():
        assert obey(todo) == 0
    assert named == [None]  # the end
    assert todo.state(task) == "open"
    assert todo.read_seconds(task.name) is None


def test_a_run_that_another_command_trains_gets_no_seconds(tmp_path):
    todo = given(tmp_path, {})
    (task,) = todo.groups[0]
    with todo.directory(task).lock():
        assert obey(todo) == 0
    assert todo.read_seconds(task.name) is None


@pytest.fixture
def signals():
    """Restore the handlers of signals, which a worker sets."""
    handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    yield
    for number, handler in handlers.items():
        signal.signal(number, handler)


def test_a_run_that_another_worker_has_just_begun_ends_the_worker_without_blame(tmp_path, named, monkeypatch, signals):
    todo = given(tmp_path, {})
    (task,) = todo.groups[0]
    with todo.directory(task).lock(), jax.enable_x64(True):
        monkeypatch.setattr(RunDirectory, "holder", lambda self: None)  # when this worker looked
        assignment = remote.Assignment(str(todo.path), "0-0", environment={}, folder="")
        assert remote.work(assignment) == executors.Ended("0-0", was_stopped=True)
    assert todo.state(task) == "open"
    assert not todo.directory(task).read_error()


def test_a_run_that_another_command_measures_does_not_end_the_worker(tmp_path, named, monkeypatch):
    todo = given(tmp_path, {})
    task = todo.groups[0][0]._replace(trains=False)
    monkeypatch.setattr(runner.records, "missing", lambda directory, config: [directory.path])
    with todo.directory(task).lock():
        monkeypatch.setattr(RunDirectory, "holder", lambda self: None)
        assert not worker._train_one(todo, task, lambda: False)


@pytest.mark.slow
def test_two_tasks_train_a_study_although_one_is_killed(job, tmp_path):
    each = [{"num_epochs": 8}, {"seed": 1}, {"rho": 0.0, "measurements": ("gradient",), "measure_examples": 64}]
    todo = given(tmp_path / "two", *each)
    crew = crew_of(todo)
    is_killed = False
    for _ in supervise.supervise(todo, crew, workers=1, should_stop=lambda: False):
        if not is_killed and list(tmp_path.glob("two/runs/*/checkpoints/step_*.npz")):
            os.kill(tasks_of(job, 1000)[1], signal.SIGKILL)
            is_killed = True
    assert is_killed
    assert len(list(job.glob("*.sbatch"))) == 2
    with jax.enable_x64(True):
        for fields in each:
            runner.run(FIELDS | fields, tmp_path / "one", quiet=True)
    assert_same_runs(tmp_path / "two", tmp_path / "one")
    results = [json.loads(path.read_text()) for path in tmp_path.glob("two/runs/*/result.json")]
    assert [result["num_devices"] for result in results] == [2, 2, 2]
    assert not list(tmp_path.glob("two/runs/*/error.txt"))
    assert len(list(tmp_path.glob("two/runs/*/measurements/gradient-*.json"))) == 1


@pytest.mark.slow
@pytest.mark.parametrize("task", [0, 1])
def test_a_signal_to_one_task_saves_the_run_and_ends_both_without_blame(job, tmp_path, task):
    crew = crew_of(given(tmp_path, {"num_epochs": 100_000, "checkpoint_every_seconds": 1e9}))
    crew.start("0-0")
    wait_for(lambda: tmp_path.glob("runs/*/metrics.csv"))
    assert not list(tmp_path.glob("runs/*/checkpoints/step_*"))
    os.kill(tasks_of(job, 1000)[task], signal.SIGUSR2)
    assert wait(crew) == [executors.Ended("0-0", was_stopped=True)]
    assert list(tmp_path.glob("runs/*/checkpoints/step_*.npz"))
    assert not list(tmp_path.glob("runs/*/error.txt"))
    wait_for(lambda: [True] if (job / "1000.state").read_text() == "FAILED\n" else [])  # of the stand-in: it has ended
    assert not list(tmp_path.glob("study/slurm/[!.]*"))  # the files of jobs that went well


@pytest.mark.slow
@pytest.mark.parametrize("task", [0, 1])
def test_an_error_in_one_task_fails_its_run_alone(job, tmp_path, unreadable_numbers, task):
    fields = {"dataset": unreadable_numbers("SLURM_PROCID", task), "num_neurons": (2,), "batch_size": 16}
    todo = given(tmp_path, fields, {})
    failing, other = (each.name for each in todo.groups[0])
    outcomes = train(todo)
    assert outcomes[other].status == "finished"
    assert outcomes[failing].status == "failed"
    assert "cannot be read" in outcomes[failing].problem
    assert len(list(job.glob("*.sbatch"))) == 2
    failed_at = todo.directory(todo.groups[0][0]).error_file.stat().st_mtime
    assert (job / "1000.state").stat().st_mtime - failed_at < GONE_SECONDS  # the job of the failed task has ended
