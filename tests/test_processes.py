"""Several processes train one run: the numbers and files of one process, whatever ends one of them."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import cv2
import jax
import numpy as np
import pytest

import flatwide
from flatwide import cli, processes, runner
from flatwide import config as configs
from flatwide.runs.directory import RunDirectory

FIELDS = {"num_neurons": (8,), "num_epochs": 6, "rho": 0.1, "batch_size": 64, "checkpoint_every_seconds": 0.0}
GONE_SECONDS = 30.0  # after one process fails, the others have ended


def free_address() -> str:
    """Return HOST:PORT of this machine that no program uses."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{free.getsockname()[1]}"


class Started:
    """Processes on the loopback address, two devices each, that train one run."""

    def __init__(
        self,
        workdir: Path,
        fields: dict,
        *,
        count: int = 2,
        config: str = "configs/digits_mlp.py",
        fields_of: dict[int, dict] | None = None,
        is_slurm: bool = False,
    ):
        address = free_address()
        flags = f"{os.environ['XLA_FLAGS']} --xla_force_host_platform_device_count=2"
        environment = os.environ | {"XLA_FLAGS": flags, "JAX_ENABLE_X64": "1"}
        self._processes = []
        for index in range(count):
            assigned = {
                f"--config.{name}={value}" for name, value in (fields | (fields_of or {}).get(index, {})).items()
            }
            command = [sys.executable, "main.py", f"--workdir={workdir}", f"--config={config}", *sorted(assigned)]
            command += ["--distributed"]
            variables = {"FLATWIDE_TEST_PROCESS": str(index)}
            if is_slurm:
                variables |= slurm_variables(index, count)
            else:
                command += [f"--coordinator={address}", f"--processes={count}", f"--process={index}"]
            pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
            process = subprocess.Popen(command, env=environment | variables, **pipes)
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


def slurm_variables(index: int, count: int) -> dict[str, str]:
    """Return what srun sets for a task on a job of one node, as far as JAX reads it."""
    job = {"SLURM_JOB_ID": str(os.getpid()), "SLURM_STEP_NODELIST": "localhost", "SLURM_STEP_NUM_NODES": "1"}
    return job | {"SLURM_NTASKS": str(count), "SLURM_PROCID": str(index), "SLURM_LOCALID": str(index)}


def only_run(workdir: Path) -> Path:
    (path,) = (workdir / "runs").iterdir()
    return path


def wait_for(paths) -> None:
    deadline = time.monotonic() + 60
    while not any(paths()):
        assert time.monotonic() < deadline
        time.sleep(0.02)


def assert_same_run(first: Path, second: Path) -> None:
    """Compare the numbers of two runs to twelve digits, and what files there are."""
    assert first.name == second.name
    names = [{path.name for path in run.iterdir() if not path.name.startswith("events")} for run in (first, second)]
    assert names[0] - {"error.txt", "curves.csv", "curves.svg"} == names[1]
    states = [np.load(run / "checkpoints" / "final.npz") for run in (first, second)]
    leaves = [name for name in states[1].files if name.startswith(("params", "optimizer", "stats"))]
    assert leaves
    assert states[0].files == states[1].files
    for name in leaves:
        np.testing.assert_allclose(states[0][name], states[1][name], rtol=0, atol=1e-12)
    tables = [RunDirectory(run).read_metrics() for run in (first, second)]
    numbers = [np.array([list(row.values()) for row in table], float) for table in tables]
    np.testing.assert_allclose(*numbers, rtol=0, atol=1e-12)
    results = [json.loads((run / "result.json").read_text()) for run in (first, second)]
    for name in ("steps", "best_epoch", "num_params", "num_nonzero_params", "test_metric_best", "status"):
        assert results[0][name] == results[1][name]


def train_alone(workdir: Path, fields: dict) -> Path:
    """Train a run in this process, on one device."""
    with jax.enable_x64(True):
        runner.run({**configs.plain(configs.load_file("configs/digits_mlp.py")), **fields}, workdir, quiet=True)
    return only_run(workdir)


@pytest.mark.slow
def test_a_run_goes_on_after_one_of_two_processes_is_killed_and_ends_with_the_numbers_of_one(tmp_path):
    started = Started(tmp_path / "two", FIELDS)
    wait_for(lambda: list(tmp_path.glob("two/runs/*/checkpoints/step_*.npz"))[1:])
    started.send(1, signal.SIGKILL)
    codes, printed = started.ended(GONE_SECONDS)
    # Most often the collective fails; where it hangs instead, JAX ends the process at a missing heartbeat.
    assert codes in ([1, -signal.SIGKILL], [-signal.SIGABRT, -signal.SIGKILL]), printed
    run = only_run(tmp_path / "two")
    assert not (run / "result.json").exists()
    assert not (run / "error.txt").exists()  # the run is not to blame

    codes, printed = Started(tmp_path / "two", FIELDS).ended()
    assert codes == [0, 0], printed
    assert "resuming from step" in printed[0]
    assert "going on" not in printed[1]
    assert "finished: test_accuracy" in printed[0]
    assert "finished" not in printed[1]
    assert_same_run(run, train_alone(tmp_path / "one", FIELDS))
    assert json.loads((run / "result.json").read_text())["num_devices"] == 4


def test_all_end_when_one_process_fails_while_the_others_wait_for_it(tmp_path, unreadable_numbers):
    fields = {"dataset": unreadable_numbers("FLATWIDE_TEST_PROCESS", 1), "num_neurons": (2,), "batch_size": 16}
    codes, printed = Started(tmp_path / "run", fields).ended(GONE_SECONDS)
    assert codes == [1, 1], printed
    assert "process 1 of 2 failed: OSError: example" in printed[0]
    assert "cannot be read" in printed[1]
    error = (only_run(tmp_path / "run") / "error.txt").read_text()
    assert error.startswith("process 1 of 2 failed: OSError: example")
    assert not list(tmp_path.glob("run/runs/*/result.json"))


def joining(tmp_path, address, index):
    """Run one of two processes, whose other never starts."""
    flags = ["--distributed", f"--coordinator={address}", "--processes=2", f"--process={index}"]
    command = [sys.executable, "main.py", f"--workdir={tmp_path}", "--config=digits_mlp", *flags]
    return subprocess.run(
        [*command, "--initialization_timeout=1"], capture_output=True, text=True, timeout=GONE_SECONDS
    )


@pytest.mark.parametrize("index", [0, pytest.param(1, marks=pytest.mark.slow)])
def test_a_process_whose_others_never_start_says_for_whom_it_waits_and_ends(tmp_path, index):
    address = free_address()
    ended = joining(tmp_path, address, index)
    assert ended.returncode == cli.FAILED, ended.stderr
    assert f"process {index} waits up to 1 seconds until all of 2 processes at {address} have joined" in ended.stderr
    assert f"not all of 2 processes at {address} joined within 1 seconds" in ended.stderr
    assert "Traceback" not in ended.stderr
    assert "stack trace" not in ended.stderr
    assert not list(tmp_path.iterdir())


def test_a_host_that_does_not_resolve_is_an_error_at_once(tmp_path):
    ended = joining(tmp_path, "nowhere.invalid:1234", 1)
    assert ended.returncode not in (0, cli.FAILED), ended.stderr
    assert "does not know the host 'nowhere.invalid' of process 0" in ended.stderr
    assert "waits up to" not in ended.stderr
    assert "Traceback" not in ended.stderr


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_a_port_in_use_is_refused(tmp_path, capsys, host):
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        flags = ["--distributed", f"--coordinator={host}:{port}", "--processes=2", "--process=0"]
        assert cli.main([f"--workdir={tmp_path}", "--config=digits_mlp", *flags]) == cli.BAD_INPUT
    assert f"{host}:{port}: process 0 cannot listen on port {port} ([Errno 98]" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Gloo all-reduce failed: Connection closed by peer [10.0.0.2]:4711", True),
        ("INTERNAL: NCCL operation ncclGroupEnd() failed: remote process exited or there was a network error.", True),
        ("INTERNAL: NCCL operation ncclAllReduce(...) failed: unhandled system error (run with NCCL_DEBUG=INFO)", True),
        ("UNAVAILABLE: The following tasks are unhealthy (stopped sending heartbeats): /task:1", True),
        ("INTERNAL: NCCL operation ncclAllReduce(...) failed: invalid argument", False),
        ("a network error while a data set was downloaded", False),
    ],
)
def test_an_error_of_a_collective_says_whether_a_process_was_lost(monkeypatch, text, expected):
    assert not processes.is_lost(RuntimeError(text))  # there is no other process
    monkeypatch.setattr(processes, "_group", object())
    assert processes.is_lost(RuntimeError(text)) is expected


WAITING = """
import os, signal, sys, threading, time
from flatwide import processes
from flatwide.runs import jax_settings

address, index = sys.argv[1], int(sys.argv[2])
jax_settings.start_processes(address, 2, index)
received = []
signal.signal(signal.SIGTERM, lambda number, frame: received.append(number))
processes.share_signals(received)
if index == 1:
    threading.Timer(1.0, os.kill, (os.getpid(), signal.SIGTERM)).start()

def measure():
    deadline = time.monotonic() + 20
    while not received and time.monotonic() < deadline:
        time.sleep(0.05)
        processes.share_signals(received)
    return received

print(processes.agreed(measure))
processes.leave(0)
"""


@pytest.mark.slow
def test_a_signal_to_a_process_that_waits_for_a_measurement_reaches_process_0():
    address = free_address()
    command = [sys.executable, "-c", WAITING, address]
    pipes = {"stdout": subprocess.PIPE, "text": True}
    started = [subprocess.Popen([*command, str(index)], **pipes) for index in range(2)]
    assert [process.communicate(timeout=120)[0] for process in started] == ["[15]\n", "[15]\n"]


@pytest.mark.slow
def test_in_a_slurm_job_the_flag_alone_is_enough(tmp_path):
    codes, printed = Started(tmp_path, FIELDS, is_slurm=True).ended()
    assert codes == [0, 0], printed
    assert json.loads((only_run(tmp_path) / "result.json").read_text())["num_devices"] == 4


@pytest.mark.slow
def test_process_0_measures_after_training(tmp_path):
    fields = FIELDS | {"measurements": ("curvature",), "measure_epochs": (1,), "measure_examples": 64, "num_epochs": 2}
    codes, printed = Started(tmp_path / "two", fields).ended()
    assert codes == [0, 0], printed
    alone = train_alone(tmp_path / "one", fields)
    names = sorted(path.name for path in (alone / "measurements").glob("*.json"))
    assert len(names) == 2
    for name in names:
        paths = [run / "measurements" / name for run in (only_run(tmp_path / "two"), alone)]
        values = [json.loads(path.read_text())["values"] for path in paths]
        assert values[0].keys() == values[1].keys()
        np.testing.assert_allclose(*[list(result.values()) for result in values], rtol=1e-6)


@pytest.mark.slow
def test_a_sharded_network_is_stopped_resumed_and_measured(tmp_path):
    fields = FIELDS | {"num_neurons": (256, 64), "measurements": ("gradient",), "measure_epochs": (1,)}
    sharded = fields | {"shard_parameters": True}
    started = Started(tmp_path / "two", sharded)
    wait_for(lambda: list(tmp_path.glob("two/runs/*/checkpoints/step_*.orbax")))
    started.send(1, signal.SIGTERM)
    codes, printed = started.ended(GONE_SECONDS)
    assert codes == [128 + signal.SIGTERM] * 2, printed
    codes, printed = Started(tmp_path / "two", sharded).ended()
    assert codes == [0, 0], printed
    assert "resuming from step" in printed[0]
    runs = [only_run(tmp_path / "two"), train_alone(tmp_path / "one", fields)]
    assert (runs[0] / "checkpoints" / "final.orbax").is_dir()
    with jax.enable_x64(True):
        params = [flatwide.load_run(run).params for run in runs]
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=0, atol=1e-12), *params)
    for name in ("gradient.json", "gradient-epoch1.json"):
        values = [json.loads((run / "measurements" / name).read_text())["values"] for run in runs]
        np.testing.assert_allclose(*[list(each.values()) for each in values], rtol=1e-9)


@pytest.mark.slow
def test_processes_that_would_train_different_runs_are_refused(tmp_path):
    codes, printed = Started(tmp_path, FIELDS, fields_of={1: {"seed": 1}}).ended(GONE_SECONDS)
    assert codes == [2, 2], printed
    assert "process 1 of 2 failed" in printed[0]
    assert "Expected the same config" in printed[0]


@pytest.mark.slow
def test_a_study_is_refused(tmp_path):
    codes, printed = Started(tmp_path, {}, config="configs/studies/digits_width.py").ended(GONE_SECONDS)
    assert codes == [2, 2], printed
    assert "expected a config of one run" in printed[0]


@pytest.mark.slow
def test_a_signal_to_one_process_stops_all_after_they_saved(tmp_path):
    started = Started(tmp_path, FIELDS | {"num_epochs": 1000})
    wait_for(lambda: list(tmp_path.glob("runs/*/checkpoints/step_*.npz")))
    started.send(1, signal.SIGTERM)
    codes, printed = started.ended(GONE_SECONDS)
    assert codes == [128 + signal.SIGTERM] * 2, printed
    assert all("Rerun the same command to resume" in text for text in printed)


@pytest.mark.parametrize(
    ("flags", "fault"),
    [
        (["--coordinator=here:1"], "--coordinator is read with --distributed only"),
        (["--initialization_timeout=9"], "--initialization_timeout is read with --distributed only"),
        (["--distributed", "--initialization_timeout=0"], "expected a number of seconds >= 1"),
        (["--distributed", "--processes=2"], "--coordinator, --process: expected together with the others"),
        (["--distributed", "--coordinator=here", "--processes=2", "--process=1"], "expected HOST:PORT"),
        (["--distributed", "--coordinator=here:1", "--processes=2", "--process=2"], "expected a process in [0, "),
        (["--distributed", "--dry_run"], "leave out --distributed"),
        (["--distributed"], "each process also needs --coordinator=HOST:PORT"),
    ],
)
def test_flags_that_do_not_fit_are_refused(flags, fault, tmp_path, capsys):
    assert cli.main([f"--workdir={tmp_path}", "--config=configs/digits_mlp.py", *flags]) == cli.BAD_INPUT
    assert fault in capsys.readouterr().err


def write_images(folder: Path) -> None:
    """Write 20 training and 6 test images of random colours in two classes."""
    random = np.random.default_rng(0)
    for number in range(26):
        path = folder / ("train" if number < 20 else "val") / "ab"[number % 2] / f"{number:02}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(path), random.integers(0, 255, (8, 8, 3), np.uint8))


PADDED = {"hidden_size": 4, "dropout": 0.5, "train_examples": 60, "batch_size": 12, "learning_rate": 0.01}
WORKLOADS = {
    "three processes": (3, FIELDS | {"batch_size": 66, "sparsity": 0.5, "pruner": "snip", "validation_fraction": 0.1}),
    "averaged weights": (2, FIELDS | {"weight_average": "ema", "microbatch": 16, "base_optimizer": "adam"}),
    "streamed": (2, {"dataset": "image_folder", "num_neurons": (3,), "batch_size": 8, "steps_per_eval": 1}),
    "batch norm": (2, {"model": "ResNet18", "num_filters": 2, "num_blocks": (1,), "train_examples": 200}),
    "LSTM": (2, PADDED | {"model": "LSTM", "dataset": "made_sentiment"}),
    "GCN": (2, PADDED | {"model": "GCN", "dataset": "made_molecules", "loss": "binary_cross_entropy", "num_layers": 1}),
    "MinAtar": (
        2,
        {"model": "ActorCritic", "dataset": "minatar_breakout", "loss": "ppo", "num_filters": 1, "batch_size": 16}
        | {"num_envs": 4, "unroll_length": 8, "update_epochs": 1, "num_test_games": 2, "learning_rate": 0.001},
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("workload", WORKLOADS)
def test_several_processes_give_the_numbers_of_one(workload, tmp_path):
    count, fields = WORKLOADS[workload]
    fields = {"num_epochs": 2, "rho": 0.05} | fields
    if workload == "streamed":
        write_images(tmp_path / "images")
        fields |= {"data_dir": str(tmp_path / "images")}
    codes, printed = Started(tmp_path / "several", fields, count=count).ended(250)
    assert codes == [0] * count, printed
    assert_same_run(only_run(tmp_path / "several"), train_alone(tmp_path / "one", fields))
