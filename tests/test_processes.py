"""Several processes train one run: the numbers and files of one process, whatever ends one of them."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np
import pytest

from flatwide import config as configs
from flatwide import runner
from flatwide.runs.directory import RunDirectory

FIELDS = {"num_neurons": (8,), "num_epochs": 6, "rho": 0.1, "batch_size": 64, "checkpoint_every_seconds": 0.0}
GONE_SECONDS = 30.0  # after one process fails, the others have ended


class Started:
    """Processes on the loopback address, two devices each, that train one run."""

    def __init__(self, workdir: Path, fields: dict, *, count: int = 2, config: str = "configs/digits_mlp.py", own=None):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            address = f"127.0.0.1:{free.getsockname()[1]}"
        flags = f"{os.environ['XLA_FLAGS']} --xla_force_host_platform_device_count=2"
        environment = os.environ | {"XLA_FLAGS": flags, "JAX_ENABLE_X64": "1"}
        self._processes = []
        for index in range(count):
            assigned = {f"--config.{name}={value}" for name, value in (fields | (own or {}).get(index, {})).items()}
            command = [sys.executable, "main.py", f"--workdir={workdir}", f"--config={config}", *sorted(assigned)]
            command += ["--distributed", f"--coordinator={address}", f"--processes={count}", f"--process={index}"]
            pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
            process = subprocess.Popen(command, env=environment | {"FLATWIDE_TEST_PROCESS": str(index)}, **pipes)
            self._processes.append(process)

    def send(self, index: int, number: int) -> None:
        self._processes[index].send_signal(number)

    def ended(self, timeout: float = 120.0) -> tuple[list[int], list[str]]:
        """Return the exit codes and what was printed; a process that does not end is killed, and fails the test."""
        try:
            printed = [process.communicate(timeout=timeout)[0] for process in self._processes]
        finally:
            for process in self._processes:
                process.kill()
        return [process.returncode for process in self._processes], printed


def only_run(workdir: Path) -> Path:
    (path,) = (workdir / "runs").iterdir()
    return path


def wait_for(paths) -> None:
    deadline = time.monotonic() + 60
    while not any(paths()):
        assert time.monotonic() < deadline
        time.sleep(0.02)


def assert_same_run(one: Path, other: Path) -> None:
    """Compare the numbers of two runs to twelve digits, and what files there are."""
    assert one.name == other.name
    names = [{path.name for path in run.iterdir() if not path.name.startswith("events")} for run in (one, other)]
    assert names[0] - {"error.txt", "curves.csv", "curves.svg"} == names[1]
    states = [np.load(run / "checkpoints" / "final.npz") for run in (one, other)]
    leaves = [name for name in states[1].files if name.startswith(("params", "optimizer", "stats"))]
    assert leaves and states[0].files == states[1].files
    for name in leaves:
        np.testing.assert_allclose(states[0][name], states[1][name], rtol=0, atol=1e-12)
    tables = [RunDirectory(run).read_metrics() for run in (one, other)]
    numbers = [np.array([list(row.values()) for row in table], float) for table in tables]
    np.testing.assert_allclose(*numbers, rtol=0, atol=1e-12)
    results = [json.loads((run / "result.json").read_text()) for run in (one, other)]
    for name in ("steps", "best_epoch", "num_params", "num_nonzero_params", "test_metric_best", "status"):
        assert results[0][name] == results[1][name]


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """Train the run in this process, on one device."""
    workdir = tmp_path_factory.mktemp("alone")
    with jax.enable_x64(True):
        config = {**configs.plain(configs.load_file("configs/digits_mlp.py")), **FIELDS}
        runner.run(config, workdir, quiet=True)
    return only_run(workdir)


def test_a_run_goes_on_after_one_of_two_processes_is_killed_and_ends_with_the_numbers_of_one(alone, tmp_path):
    started = Started(tmp_path, FIELDS)
    wait_for(lambda: list(tmp_path.glob("runs/*/checkpoints/step_*.npz"))[1:])
    started.send(1, signal.SIGKILL)
    codes, printed = started.ended(GONE_SECONDS)
    # Most often the collective fails; where it hangs instead, JAX ends the process once it misses the other's heartbeat.
    assert codes in ([1, -signal.SIGKILL], [-signal.SIGABRT, -signal.SIGKILL]), printed
    run = only_run(tmp_path)
    assert not (run / "result.json").exists()

    codes, printed = Started(tmp_path, FIELDS).ended()
    assert codes == [0, 0], printed
    assert "going on from step" in printed[0] and "going on" not in printed[1]
    assert "finished: test_accuracy" in printed[0] and "finished" not in printed[1]
    assert_same_run(run, alone)
    assert json.loads((run / "result.json").read_text())["num_devices"] == 4


def test_all_end_when_one_process_fails(tmp_path):
    """Process 1 would train another seed, which only it can notice."""
    codes, printed = Started(tmp_path, FIELDS, own={1: {"seed": 1}}).ended(GONE_SECONDS)
    assert codes == [2, 2], printed
    assert "process 1 of 2 failed" in printed[0] and "Expected the same config" in printed[0]
