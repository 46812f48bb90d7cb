"""A study on a real Slurm: a controller and two nodes on this machine, without accounting."""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path

import command_line
import pytest
from command_line import ended, in_training, table, wait_for

ONE_RUN = ["--config.study.axes.seed=(0,)", "--config.study.axes.rho=(0.1,)", "--config.study.workers=1"]
CONF = """
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
CredType=cred/munge
SlurmUser={user}
SlurmdUser={user}
SlurmctldPort={port}
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/%n.pid
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
SlurmdParameters=config_overrides
AccountingStorageType=accounting_storage/none
JobAcctGatherType=jobacct_gather/none
ReturnToService=2
KillWait=5
SchedulerParameters=batch_sched_delay=0
NodeName=n1 NodeHostname={host} NodeAddr=127.0.0.1 Port={first} CPUs=2
NodeName=n2 NodeHostname={host} NodeAddr=127.0.0.1 Port={second} CPUs=2
PartitionName=short Nodes=n1,n2 Default=YES State=UP
"""
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        os.getuid() != 0 or not all(map(shutil.which, ("slurmctld", "slurmd", "munged"))),
        reason="needs slurmctld, slurmd and munged (Debian: slurm-wlm, munge), and root to start them",
    ),
]


@pytest.fixture(scope="module")
def cluster():
    """Start a controller and two nodes; yield the environment of their users."""
    folder = Path(tempfile.mkdtemp(prefix="flatwide-slurm-", dir="/tmp"))  # sockets have short paths
    with socket.socket() as first, socket.socket() as second, socket.socket() as third:
        for each in (first, second, third):
            each.bind(("127.0.0.1", 0))
        ports = [each.getsockname()[1] for each in (first, second, third)]
    host = socket.gethostname().partition(".")[0]
    for name in ("state", "n1", "n2"):
        (folder / name).mkdir()
    conf, key = folder / "slurm.conf", folder / "munge.key"
    conf.write_text(CONF.format(host=host, folder=folder, user="root", port=ports[0], first=ports[1], second=ports[2]))
    key.write_bytes(os.urandom(1024))
    key.chmod(0o400)
    files = {"key-file": key, "socket": folder / "munge.socket", "pid-file": folder / "munged.pid"}
    files |= {"log-file": folder / "munged.log", "seed-file": folder / "munge.seed"}
    environment = {**os.environ, "SLURM_CONF": str(conf)}
    commands = [
        ["munged", "--force", *(f"--{name}={path}" for name, path in files.items())],
        ["slurmctld", "-D", "-i", "-f", str(conf)],
        *(["slurmd", "-D", "-N", name, "-f", str(conf)] for name in ("n1", "n2")),
    ]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    subprocess.run(commands[0], check=True, **quiet)
    daemons = [subprocess.Popen(command, env=environment, **quiet) for command in commands[1:]]
    try:
        wait_for(lambda: said(environment, "sinfo", "-h", "-o", "%D %T") == "2 idle")
        yield environment
    finally:
        subprocess.run(["scancel", f"--user={os.getuid()}", "--signal=KILL", "--full"], env=environment, check=True)
        wait_for(lambda: not said(environment, "squeue", "-h", "-o", "%A"))
        for daemon in daemons[::-1]:
            daemon.terminate()
            daemon.wait(timeout=30)
        os.kill(int(files["pid-file"].read_text()), signal.SIGTERM)
        shutil.rmtree(folder, ignore_errors=True)


def said(environment, *command):
    return subprocess.run(command, env=environment, capture_output=True, text=True).stdout.strip()


def start(folder, environment, *flags):
    """Start the study in a folder, which Slurm reports as that of its jobs."""
    folder.mkdir(exist_ok=True)
    (folder / "study.py").write_text(command_line.STUDY)
    flags = [f"--config={folder}/study.py", "--config.study.executor=slurm", *flags]
    return command_line.start(folder / "w", *flags, env=environment, cwd=folder)


def jobs(environment, folder):
    """Return the numbers of the jobs that were submitted from a folder."""
    lines = said(environment, "squeue", "-h", "--states=all", "-o", "%A %Z").splitlines()
    return [number for number, where in map(str.split, lines) if where == str(folder)]


def task(job, index):
    """Return the process of a task of a job."""
    for path in Path("/proc").glob("[0-9]*/environ"):
        with contextlib.suppress(OSError):
            variables = path.read_bytes().split(b"\0")
            if {f"SLURM_JOB_ID={job}".encode(), f"SLURM_PROCID={index}".encode()} <= set(variables):
                return int(path.parent.name)
    return None


def test_a_cancelled_job_is_replaced_and_the_table_is_that_of_the_runs_alone(cluster, tmp_path, alone):
    process = start(tmp_path, cluster)
    in_training(tmp_path / "w")
    for job in said(cluster, "squeue", "-h", "-t", "R", "-o", "%A").split()[:1]:
        subprocess.run(["scancel", job], env=cluster, check=True)
    code, printed, errors = ended(process)
    assert code == 0, errors
    assert "runs: 4 of 4 done" in printed
    assert "sacct" not in errors
    assert "accounting" not in errors
    assert table(tmp_path / "w").equals(alone)


def test_a_partition_that_does_not_exist_is_one_message_of_sbatch(cluster, tmp_path):
    code, _, errors = ended(start(tmp_path, cluster, "--config.study.slurm.slurm_partition=nowhere"))
    assert code == 1
    assert errors.count("invalid partition specified: nowhere") == 1, errors
    assert "Traceback" not in errors
    assert not list(tmp_path.glob("w/runs/*"))


def test_two_tasks_that_do_not_know_the_first_host_end_at_once(cluster, tmp_path):
    began = time.monotonic()
    code, _, errors = ended(start(tmp_path, cluster, "--config.study.slurm.nodes=2", "--config.study.workers=1"))
    assert code == 1
    assert "does not know the host 'n1' of process 0" in errors
    assert time.monotonic() - began < 60
    assert not list(tmp_path.glob("w/runs/*"))


def test_jobs_that_reach_their_time_limit_save_and_the_next_ones_continue(cluster, tmp_path):
    flags = [*ONE_RUN, "--config.num_epochs=500"]
    limit = ["--config.study.slurm.timeout_min=1", "--config.study.slurm.slurm_signal_delay_s=45"]
    code, _, errors = ended(start(tmp_path / "slurm", cluster, *flags, *limit))
    assert code == 0, errors
    assert len(jobs(cluster, tmp_path / "slurm")) > 1
    assert "failed" not in errors
    code, _, errors = ended(start(tmp_path / "local", cluster, *flags, "--config.study.executor=local"))
    assert code == 0, errors
    assert table(tmp_path / "slurm/w").equals(table(tmp_path / "local/w"))


def test_jobs_that_wait_for_a_drained_node_are_cancelled_once_the_others_have_trained_all(cluster, tmp_path, alone):
    subprocess.run(["scontrol", "update", "nodename=n1", "state=drain", "reason=test"], env=cluster, check=True)
    try:
        code, _, errors = ended(start(tmp_path, cluster, "--config.study.workers=4"))
    finally:
        subprocess.run(["scontrol", "update", "nodename=n1", "state=resume"], env=cluster, check=True)
    assert code == 0, errors
    assert table(tmp_path / "w").equals(alone)
    wait_for(lambda: not said(cluster, "squeue", "-h", "-o", "%A"))


def test_a_killed_command_is_started_again_while_its_jobs_train(cluster, tmp_path, alone):
    process = start(tmp_path, cluster)
    in_training(tmp_path / "w")
    process.kill()
    process.communicate()
    code, printed, errors = ended(start(tmp_path, cluster))
    assert code == 0, errors
    assert "runs: 4 of 4 done" in printed
    assert table(tmp_path / "w").equals(alone)


def test_a_run_over_two_nodes_survives_the_end_of_one_of_its_tasks(cluster, tmp_path):
    flags = [*ONE_RUN, "--config.num_epochs=20"]
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"  # the names of the nodes do not resolve
    environment = {**cluster, "JAX_COORDINATOR_ADDRESS": address}
    process = start(tmp_path / "slurm", environment, *flags, "--config.study.slurm.nodes=2")
    in_training(tmp_path / "slurm/w")
    (job,) = jobs(cluster, tmp_path / "slurm")
    os.kill(wait_for(lambda: task(job, 1)), signal.SIGKILL)
    code, _, errors = ended(process)
    assert code == 0, errors
    assert len(jobs(cluster, tmp_path / "slurm")) == 2
    local = ["--config.study.slurm.cluster=local", "--config.study.slurm.tasks_per_node=2"]
    code, _, errors = ended(start(tmp_path / "local", cluster, *flags, *local))
    assert code == 0, errors
    assert table(tmp_path / "slurm/w").equals(table(tmp_path / "local/w"))
