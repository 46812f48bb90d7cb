"""A study on a real Ray cluster: a head and a second raylet on this machine, each with one CPU."""

import contextlib
import importlib.util
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest
from command_line import command, ended, in_training, start, table, wait_for

from flatwide import machine

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        importlib.util.find_spec("ray") is None or importlib.util.find_spec("aiohttp_cors") is None,
        reason="needs ray[default], whose dashboard takes jobs",
    ),
]
RAY = str(Path(sys.executable).with_name("ray"))


class Cluster:
    """A Ray of some nodes on this machine, each with one CPU and in a session of its own."""

    def __init__(self, folder):
        with socket.socket() as first, socket.socket() as second:
            for each in (first, second):
                each.bind(("127.0.0.1", 0))
            port, jobs = (each.getsockname()[1] for each in (first, second))
        self.address, self.jobs, self.nodes = f"127.0.0.1:{port}", f"http://127.0.0.1:{jobs}", []
        self.add("--head", f"--port={port}", f"--dashboard-port={jobs}", f"--temp-dir={folder}")
        wait_for(lambda: answers(jobs))

    def add(self, *options):
        """Start a node; one that is not the head joins it."""
        command = [RAY, "start", "--block", "--num-cpus=1", "--disable-usage-stats"]
        command += ["--object-store-memory=100000000", *(options or [f"--address={self.address}"])]
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        self.nodes.append(subprocess.Popen(command, **quiet, start_new_session=True))
        wait_for(lambda: raylet(self.nodes[-1]))

    def remove(self, node):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(node.pid, signal.SIGKILL)
        node.wait()
        self.nodes.remove(node)


@pytest.fixture(scope="module")
def cluster():
    """Start a head and a second node."""
    folder = Path(tempfile.mkdtemp(prefix="ray-", dir="/tmp"))  # sockets have short paths
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_AUTH_MODE", "disabled")  # else `ray start` writes a token into the home directory
        made = Cluster(folder)
        try:
            made.add()
            yield made
        finally:
            for node in made.nodes[::-1]:
                made.remove(node)
            shutil.rmtree(folder, ignore_errors=True)


def answers(port):
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
        return True
    return False


def parent(pid):
    with contextlib.suppress(OSError):
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def raylet(node):
    """Return the process of a node that starts its workers."""
    each = (int(path.name) for path in Path("/proc").glob("[0-9]*"))
    return next((pid for pid in each if parent(pid) == node.pid and is_raylet(pid)), None)


def is_raylet(pid):
    return machine.arguments(pid)[:1] and machine.arguments(pid)[0].endswith("raylet/raylet")


def holders(workdir):
    """Return the processes that train runs."""
    texts = [path.read_text() for path in Path(workdir).glob("runs/*/lock")]
    return [int(text.split()[0]) for text in texts if text]


def on_ray(cluster, *flags):
    return ["--config.study.executor=ray", f"--config.study.address={cluster.address}", *flags]


def test_a_submitted_job_trains_the_runs_on_all_nodes(cluster, study, tmp_path, alone):
    entry = command(tmp_path / "w", study, "--config.study.executor=ray", "--config.study.address=auto")
    submit = [RAY, "job", "submit", f"--address={cluster.jobs}", "--", *entry]
    done = subprocess.run(submit, capture_output=True, text=True, timeout=250)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "runs: 4 of 4 done" in done.stdout
    assert table(tmp_path / "w").equals(alone)


def test_a_study_survives_the_death_of_a_node(cluster, study, tmp_path):
    flags = [study, "--config.num_epochs=1000", "--config.study.axes.seed=(0,)"]
    process = start(tmp_path / "w", *flags, *on_ray(cluster))
    node = cluster.nodes[1]
    wait_for(lambda: raylet(node) in map(parent, holders(tmp_path / "w")))
    os.kill(raylet(node), signal.SIGKILL)
    cluster.remove(node)
    code, printed, errors = ended(process)
    cluster.add()
    assert code == 0, errors
    assert "runs: 2 of 2 done" in printed
    assert "Traceback" not in errors
    code, _, errors = ended(start(tmp_path / "local", *flags))
    assert code == 0, errors
    assert table(tmp_path / "w").equals(table(tmp_path / "local"))


def test_a_killed_driver_leaves_no_worker_and_is_taken_up_again(cluster, study, tmp_path, alone):
    process = start(tmp_path / "w", study, *on_ray(cluster))
    in_training(tmp_path / "w")
    held = holders(tmp_path / "w")
    process.kill()
    process.communicate()
    wait_for(lambda: not any(machine.process(pid) for pid in held))
    code, printed, errors = ended(start(tmp_path / "w", study, *on_ray(cluster)))
    assert code == 0, errors
    assert "runs: 4 of 4 done" in printed
    assert table(tmp_path / "w").equals(alone)


@pytest.mark.parametrize("listens", [True, False])
def test_an_address_without_a_ray_is_one_line_and_leaves_nothing(cluster, study, tmp_path, listens):
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        if listens:
            server.listen()
        address = f"127.0.0.1:{server.getsockname()[1]}"
        flags = ["--config.study.executor=ray", f"--config.study.address={address}"]
        began = time.monotonic()
        code, _, errors = ended(start(tmp_path / "w", study, *flags))
    assert code == 2
    heading = ("study of", "axes:", "estimated", "warning: 2 seed(s)")
    (line,) = [line for line in errors.splitlines() if not line.startswith(heading)]
    assert line.startswith(f"config.study.address={address!r}: expected HOST:PORT of a Ray cluster")
    assert time.monotonic() - began < 150  # Ray itself may be asked for 60 s, and would go on for minutes
    assert not list(tmp_path.glob("w/runs/*"))
    assert not list(tmp_path.glob("w/study/*"))
