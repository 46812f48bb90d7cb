"""Workers on a cluster train what workers of this machine would, and die as harmlessly."""

import fcntl
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from command_line import FIELDS, start, table

from flatwide import cli
from flatwide import config as configs
from flatwide.runs.identity import locate
from flatwide.study import command, executors, inventory, orders, plan, supervise, worker
from flatwide.study.executors import Ended, Site, remote

FLAGS = {
    "slurm": ("--config.study.executor=slurm", "--config.study.slurm.cluster=local"),
    "ray": ("--config.study.executor=ray",),
}


def trainers(workdir):
    """List the processes that hold runs, by their lock files, once there are some."""
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        holders = [path.read_text() for path in Path(workdir).glob("runs/*/lock")]
        if any(holders) and list(Path(workdir).glob("runs/*/checkpoints/*.npz")):
            return [int(text.split()[0]) for text in holders if text]
        time.sleep(0.02)
    raise TimeoutError("no run has begun")


def is_alive(process):
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return True


def given(tmp_path, *, seeds=(0,), **fields):
    """Write orders for runs of one shape."""
    tasks = []
    for seed in seeds:
        config = configs.resolve(FIELDS | {"seed": seed} | fields)
        tasks.append(orders.Task(locate(config, tmp_path)[0].name, dict(config)))
    return orders.write(tmp_path, [tasks], session="now", tensorboard=False)


@pytest.mark.slow
@pytest.mark.parametrize("executor", FLAGS)
def test_a_study_whose_worker_is_killed_ends_with_the_table_of_the_runs_alone(study, tmp_path, alone, executor):
    process = start(tmp_path / "w", study, *FLAGS[executor], "--config.num_epochs=3")
    os.kill(trainers(tmp_path / "w")[0], signal.SIGKILL)
    printed, errors = process.communicate(timeout=250)
    assert process.returncode == 0, errors
    assert "runs: 4 of 4 done" in printed
    assert "Traceback" not in errors
    assert table(tmp_path / "w").equals(alone)


@pytest.mark.parametrize("executor", ["slurm", pytest.param("ray", marks=pytest.mark.slow)])
@pytest.mark.slow
def test_sigterm_saves_and_leaves_no_worker(study, tmp_path, executor):
    process = start(tmp_path / "w", study, *FLAGS[executor], "--config.num_epochs=100000")
    held = trainers(tmp_path / "w")
    process.terminate()
    _, errors = process.communicate(timeout=250)
    assert process.returncode == 143, errors
    assert "Rerun the same command to resume" in errors
    assert "Traceback" not in errors
    assert not list((tmp_path / "w").glob("runs/*/result.json"))
    assert not list((tmp_path / "w").glob("runs/*/error.txt"))
    assert [pid for pid in held if is_alive(pid)] == []


@pytest.mark.slow
def test_jobs_outlive_a_killed_command(study, tmp_path, alone):
    process = start(tmp_path / "w", study, *FLAGS["slurm"])
    trainers(tmp_path / "w")
    process.kill()
    process.communicate(timeout=60)
    deadline = time.monotonic() + 200
    while len(list((tmp_path / "w").glob("runs/*/result.json"))) < 4 and time.monotonic() < deadline:
        time.sleep(0.1)
    assert table(tmp_path / "w").equals(alone)


@pytest.mark.slow
def test_a_killed_command_ends_a_ray_of_its_own_and_is_taken_up_again(study, tmp_path, alone):
    process = start(tmp_path / "w", study, *FLAGS["ray"], "--config.study.workers=1")
    held = trainers(tmp_path / "w")
    process.kill()
    process.communicate(timeout=60)
    deadline = time.monotonic() + 60
    while any(map(is_alive, held)) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert cli.main([f"--workdir={tmp_path}/w", study]) == 0
    assert table(tmp_path / "w").equals(alone)


@pytest.mark.parametrize(("executor", "package"), [("slurm", "submitit"), ("ray", "ray")])
def test_a_missing_extra_is_one_error_before_anything_begins(study, tmp_path, capsys, monkeypatch, executor, package):
    monkeypatch.setattr("flatwide.study.executors.crew.find_spec", lambda name: None)
    assert cli.main([f"--workdir={tmp_path}/w", study, *FLAGS[executor]]) == 2
    wanted = f"config.study.executor={executor!r} needs {package}: pip install 'flatwide[{executor}]'\n"
    assert capsys.readouterr().err == wanted
    assert not list(tmp_path.glob("w/*"))


OWN = """
from flatwide.study.executors.local import LocalCrew
class Rented(LocalCrew):
    @staticmethod
    def faults(study):
        return [f"config.study.address={study['address']!r}: expected a city"] if study["address"] is None else []
    @staticmethod
    def capacity(study, threads):
        return 3 * threads
"""


def test_an_executor_says_itself_what_it_can_do(tmp_path):
    (tmp_path / "own.py").write_text(OWN)
    study = {"axes": {"seed": tuple(range(5))}, "executor": f"{tmp_path}/own.py:Rented"}
    values = configs.plain(configs.default()) | {"num_neurons": (8,), "num_epochs": 1}
    with pytest.raises(configs.ConfigError, match=r"config.study.address=None: expected a city"):
        plan.expand(values | {"study": study})
    planned = plan.expand(values | {"study": study | {"address": "Paris"}})
    stored = inventory.take(planned, tmp_path / "w")
    assert command.num_workers(planned, stored) == 3
    with pytest.raises(configs.ConfigError, match=r"executor='slrum' is not known. Did you mean 'slurm'\?"):
        plan.expand(values | {"study": study | {"executor": "slrum"}})


def test_cluster_packages_are_imported_by_studies_that_use_them_alone():
    script = "import sys, flatwide.study.command; print({'ray', 'submitit'} & set(sys.modules))"
    assert subprocess.check_output([sys.executable, "-c", script], text=True) == "set()\n"


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ([*FLAGS["slurm"], "--config.study.workers=None"], "config.study.workers=None"),
        ([*FLAGS["slurm"], "--config.study.slurm.timeout=3"], "timeout"),
        ([*FLAGS["slurm"], "--config.study.slurm.timeout_min='long'"], "timeout_min"),
        ([*FLAGS["slurm"], "--config.study.slurm.nodes=2"], "can use only one node"),
        (
            [*FLAGS["slurm"], "--config.study.slurm.tasks_per_node=2", "--config.group_size=4"],
            "config.group_size=4 with 2 tasks in a job",
        ),
        (["--config.study.executor=slurm"], "srun"),
        (
            [*FLAGS["ray"], "--config.study.address=127.0.0.1:1"],
            "config.study.address='127.0.0.1:1': expected HOST:PORT",
        ),
        ([*FLAGS["ray"], "--config.study.address=nowhere"], "config.study.address='nowhere': expected HOST:PORT"),
    ],
)
def test_bad_parameters_are_refused_before_training(study, tmp_path, capsys, monkeypatch, flags, message):
    monkeypatch.setenv("PATH", str(tmp_path))  # without srun
    assert cli.main([f"--workdir={tmp_path}/w", study, *flags]) == 2
    assert message in capsys.readouterr().err
    assert not list(tmp_path.glob("w/runs/*"))
    assert not list(tmp_path.glob("w/study/*/orders.json"))


@pytest.mark.slow
def test_jobs_of_slurm_train_a_study(study, slurm, tmp_path, alone):
    flags = [study, "--config.study.executor=slurm", "--config.study.slurm.slurm_partition=short"]
    assert cli.main([f"--workdir={tmp_path}/w", *flags, "--config.study.slurm.mem_gb=2"]) == 0
    assert table(tmp_path / "w").equals(alone)
    text = (slurm / "1000.sbatch").read_text()
    for line in ("cpus-per-task=1", "partition=short", "mem=2GB", "time=240", "job-name=flatwide", "signal=USR2@90"):
        assert f"#SBATCH --{line}\n" in text
    assert not list((tmp_path / "w" / "study" / "slurm").glob("*.pkl"))  # nothing is left of jobs that went well


@pytest.mark.parametrize("number", [pytest.param(signal.SIGTERM, marks=pytest.mark.slow), signal.SIGUSR2])
@pytest.mark.slow
def test_a_job_that_slurm_ends_has_saved_and_is_not_to_blame(slurm, tmp_path, number):
    todo = given(tmp_path, num_epochs=100_000)
    crew = executors.find("slurm")(Site(todo.path, threads=1))
    crew.start("0-0")
    os.kill(trainers(tmp_path)[0], number)
    assert wait(crew) == [Ended("0-0", was_stopped=True)]
    assert list(tmp_path.glob("runs/*/checkpoints/*.npz"))


@pytest.mark.slow
def test_a_job_that_dies_is_told_with_its_state_and_its_log(slurm, tmp_path, monkeypatch):
    from flatwide.study.executors import slurm as slurm_executor

    monkeypatch.setattr(slurm_executor, "_LOOK_SECONDS", 0.5)
    todo = given(tmp_path, num_epochs=100_000)
    crew = executors.find("slurm")(Site(todo.path, threads=1))
    crew.start("0-0")
    os.kill(trainers(tmp_path)[0], signal.SIGKILL)
    (ended,) = wait(crew)
    assert "job 1000 ended without a result (FAILED); see " in ended.problem
    assert Path(ended.problem.rpartition("see ")[2]).exists()
    assert not ended.was_stopped


def test_waiting_jobs_are_taken_back(slurm, tmp_path):
    (slurm / "full").touch()
    crew = executors.find("slurm")(Site(given(tmp_path).path, threads=1))
    crew.start("0-0")
    crew.start("1-1")
    began = time.monotonic()
    crew.stop()
    assert time.monotonic() - began < 20  # at once, and not only at the next look or once workers have saved
    assert (slurm / "cancelled").read_text().split() == ["1000", "1001"]


def test_a_job_that_slurm_refuses_is_told(slurm, tmp_path):
    (tmp_path / "bin" / "sbatch").write_text("#!/bin/bash\necho 'sbatch: error: no such partition' >&2; exit 1\n")
    crew = executors.find("slurm")(Site(given(tmp_path).path, threads=1))
    with pytest.raises(supervise.WorkerError, match="no such partition"):
        list(supervise.supervise(given(tmp_path), crew, workers=1, should_stop=lambda: False))


def wait(crew):
    deadline = time.monotonic() + 60
    while not (ended := crew.ended()) and time.monotonic() < deadline:
        time.sleep(0.05)
    return ended


@pytest.mark.parametrize(("seconds", "pause"), [(0.0, 0.05), (0.1, 2.0), (3600.0, 10.0)])
def test_a_command_that_was_stopped_during_a_poll_does_not_sleep_twenty_times_as_long(seconds, pause):
    assert supervise.poll_pause(seconds) == pause


@pytest.mark.parametrize("executor", ["slurm", pytest.param("ray", marks=pytest.mark.slow)])
def test_a_worker_that_does_not_see_the_orders_says_so(tmp_path, executor):
    path = tmp_path / "study" / "now" / "orders.json"
    # In a process of its own: Ray forks, which JAX, once started, warns of.
    script = f"""
import pathlib, time
from flatwide.study.executors import Site, find
study = dict(address=None, slurm=dict(cluster="local"))
crew = find({executor!r})(Site(pathlib.Path({str(path)!r}), threads=1, study=study))
crew.start("0-0")
while not (found := crew.ended()): time.sleep(0.05)
crew.stop()
print(found[0].problem)
"""
    problem = subprocess.check_output([sys.executable, "-c", script], text=True, timeout=120)
    assert f"{path}: " in problem
    assert "does not see this file. Every worker of a study must see the work directory" in problem


def test_workers_elsewhere_get_what_decides_about_numbers(tmp_path, monkeypatch):
    monkeypatch.setenv("JAX_ENABLE_X64", "1")
    monkeypatch.setenv("SECRET", "1")
    assigned = remote.assign(Site(tmp_path / "orders.json", threads=3), "0-0")
    assert assigned.environment["JAX_ENABLE_X64"] == "1"
    assert assigned.environment["NPROC"] == "3"
    assert "SECRET" not in assigned.environment
    assert assigned.folder == os.getcwd()


class Fake:
    """Workers that end at once, one after another as told."""

    def __init__(self, *ends, orders=None, assigned=()):
        self.ends, self.orders, self.assigned, self.started = list(ends), orders, list(assigned), []

    def start(self, worker):
        self.started.append(worker)
        if self.assigned and self.orders:
            self.orders.write_assigned(worker, self.assigned)

    def ended(self):
        return [self.ends.pop(0)._replace(worker=self.started[-1])] if self.ends else []

    def stop(self):
        pass


def test_what_workers_die_of_before_they_train_is_told(tmp_path):
    crew = Fake(*[Ended("", "node7 does not see this file")] * 4)
    with pytest.raises(supervise.WorkerError, match="before they train anything: node7 does not see this file"):
        list(supervise.supervise(given(tmp_path), crew, workers=1, should_stop=lambda: False))


def test_a_worker_that_dies_before_it_trains_is_replaced(tmp_path):
    crew = Fake(Ended("", "killed by SIGKILL"), Ended("", "killed by SIGKILL"))
    outcomes = supervise.supervise(given(tmp_path), crew, workers=1, should_stop=lambda: not crew.ends)
    with pytest.raises(supervise.Stopped):
        list(outcomes)
    assert crew.started == ["0-0", "0-1", "0-2"]


def test_a_run_is_not_blamed_for_time_limits(tmp_path):
    todo = given(tmp_path)
    assigned = [todo.groups[0][0].name]
    crew = Fake(*[Ended("", was_stopped=True)] * 9, orders=todo, assigned=assigned)
    with pytest.raises(supervise.Stopped):
        list(supervise.supervise(todo, crew, workers=1, should_stop=lambda: not crew.ends))
    assert len(crew.started) == 10
    assert todo.state(todo.groups[0][0]) == "open"


def test_withdrawn_orders_end_their_workers(tmp_path):
    todo = given(tmp_path, seeds=(0, 1))
    todo.withdraw()
    assert worker.work(todo.path, "0-0", should_stop=lambda: False) == worker.STOPPED
    assert not list(tmp_path.glob("runs/*/result.json"))


@pytest.mark.parametrize(
    ("refuse", "message"), [(True, "files cannot be locked there"), (False, "does not keep others from locking")]
)
def test_a_folder_without_locks_is_refused(study, tmp_path, capsys, monkeypatch, refuse, message):
    def flock(file, how):
        if refuse:
            raise OSError(37, "No locks available")

    monkeypatch.setattr(fcntl, "flock", flock)
    assert cli.main([f"--workdir={tmp_path}/w", study]) == 2
    assert message in capsys.readouterr().err
    assert not list(tmp_path.glob("w/runs/*"))
