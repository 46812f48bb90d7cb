"""Each worker of a machine sees the devices that the study gives it, and no other."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import flatwide
from flatwide import cli, machine
from flatwide.study import executors, orders
from flatwide.study.executors import Site, placement

STUDY = """
from flatwide.config import default
def get_config():
    config = default()
    config.num_neurons, config.num_epochs, config.batch_size = (8,), 1, 64
    config.study.axes = {"rho": (0.0, 0.1), "seed": (0, 1)}
    return config
"""
REPORTING = """
import json, os, sys
from pathlib import Path
if "flatwide.study.worker" in sys.orig_argv:
    (Path(__file__).parent / sys.orig_argv[-1]).write_text(json.dumps(dict(os.environ)))
"""


@pytest.fixture
def gpus(monkeypatch, tmp_path):
    """Make this machine one with GPUs, as far as can be seen without starting JAX; return a setter of their number."""
    monkeypatch.setattr(machine, "has_cuda_plugin", lambda: True)
    monkeypatch.setenv("JAX_PLATFORMS", "")
    for name in ("CUDA_VISIBLE_DEVICES", "XLA_CLIENT_MEM_FRACTION", "XLA_PYTHON_CLIENT_MEM_FRACTION"):
        monkeypatch.delenv(name, raising=False)

    def set_number(count, visible=None):
        monkeypatch.setattr(machine, "gpu_files", lambda: [Path(f"/dev/nvidia{index}") for index in range(count)])
        if visible is not None:
            monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)

    return set_number


@pytest.fixture
def crew(monkeypatch, tmp_path):
    """Return a function that starts a crew whose workers write their environment, and one that reads it."""
    (tmp_path / "sitecustomize.py").write_text(REPORTING)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    written = orders.write(tmp_path / "w", [], session="now", tensorboard=False)
    crews = []

    def start(**study):
        crews.append(executors.find("local")(Site(written.path, threads=1, study=study)))
        return crews[-1]

    yield start
    for each in crews:
        for process in each._processes.values():
            process.kill()
        each.stop()


def seen(tmp_path, worker):
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        try:
            return json.loads((tmp_path / worker).read_text())
        except (FileNotFoundError, ValueError):
            time.sleep(0.02)
    raise TimeoutError(worker)


@pytest.mark.parametrize(
    ("count", "visible", "expected"),
    [
        (0, None, ()),
        (0, "0,1", ()),
        (3, None, ("0", "1", "2")),
        (8, "5, 2", ("5", "2")),
        (2, "1,7,0", ("1",)),  # CUDA stops at the first that does not exist
        (2, "", ()),
        (2, "0,-1,1", ("0",)),
        (1, "MIG-4f2e,GPU-77,x", ("MIG-4f2e", "GPU-77")),
    ],
)
def test_gpus_are_those_that_cuda_shows(gpus, count, visible, expected):
    gpus(count, visible)
    assert machine.gpus() == expected


@pytest.mark.parametrize(("platforms", "expected"), [("cpu", 0), ("cuda,cpu", 2), ("gpu", 2), ("tpu", 0)])
def test_gpus_that_jax_may_not_use_are_none(gpus, monkeypatch, platforms, expected):
    gpus(2)
    monkeypatch.setenv("JAX_PLATFORMS", platforms)
    assert len(machine.gpus()) == expected


def test_each_worker_sees_its_gpu_and_a_new_worker_that_of_the_dead_one(gpus, crew, tmp_path):
    gpus(8, "MIG-a,GPU-b,3")
    each = crew()
    for name in ("0-0", "1-1", "2-2"):
        each.start(name)
    found = [seen(tmp_path, name) for name in ("0-0", "1-1", "2-2")]
    assert [environment["CUDA_VISIBLE_DEVICES"] for environment in found] == ["MIG-a", "GPU-b", "3"]
    assert "XLA_CLIENT_MEM_FRACTION" not in found[0]
    each._processes["1-1"].send_signal(signal.SIGKILL)
    while "1-1" not in [ended.worker for ended in each.ended()]:
        time.sleep(0.02)
    each.start("0-3")  # whose index is not that of the dead one
    assert seen(tmp_path, "0-3")["CUDA_VISIBLE_DEVICES"] == "GPU-b"


@pytest.mark.parametrize(
    ("name", "before", "part"), [("", "", "0.25"), ("XLA_PYTHON_CLIENT_MEM_FRACTION", "0.9", "0.3")]
)
def test_workers_of_one_gpu_share_its_memory(gpus, crew, tmp_path, monkeypatch, name, before, part):
    gpus(2)
    if name:
        monkeypatch.setenv(name, before)
    assert placement.slots({"workers_per_gpu": 3}) == [("0",), ("1",)] * 3
    each = crew(workers_per_gpu=3)
    each.start("0-0")
    environment = seen(tmp_path, "0-0")
    assert environment["CUDA_VISIBLE_DEVICES"] == "0"
    assert environment[name or "XLA_CLIENT_MEM_FRACTION"] == part


def test_a_run_of_several_gpus_has_those_that_are_left_to_no_other(gpus, crew, tmp_path):
    gpus(5)
    assert executors.find("local").capacity({"devices_per_run": 2}, threads=1) == 2
    each = crew(devices_per_run=2)
    each.start("0-0")
    each.start("1-1")
    assert [seen(tmp_path, name)["CUDA_VISIBLE_DEVICES"] for name in ("0-0", "1-1")] == ["0,1", "2,3"]


@pytest.fixture
def study(tmp_path):
    path = tmp_path / "study.py"
    path.write_text(STUDY)
    return f"--config={path}"


def test_a_dry_run_tells_which_worker_has_which_gpu_and_what_does_not_fit(gpus, study, tmp_path, monkeypatch, capsys):
    gpus(4)
    monkeypatch.setattr(
        machine, "gpu_facts", lambda: [machine.GpuFacts("H100", "1", memory, 0) for memory in (2e6, 1e5)]
    )
    flags = ["--config.study.devices_per_run=2", "--config.study.workers_per_gpu=2", "--dry_run"]
    assert cli.main([f"--workdir={tmp_path}/w", study, *flags]) == 0
    printed = capsys.readouterr().out
    assert "devices: 2 GPU(s) a worker, 2 worker(s) a GPU: 0,1; 2,3\n" in printed
    assert "of each of 2 devices" in printed
    assert "a worker may take 36.6 KiB of a device\nwarning: this may not fit." in printed
    assert "(4 workers)" in printed


@pytest.mark.parametrize(
    ("count", "flags", "message"),
    [
        (0, ["workers_per_gpu=2"], "config.study.workers_per_gpu=2: expected 1 on this machine, where"),
        (0, ["devices_per_run=2"], "config.study.devices_per_run=2: expected at most the 1 CPU device(s)"),
        (2, ["devices_per_run=3"], "config.study.devices_per_run=3: expected at most the 2 GPU(s) of this machine."),
        (2, ["workers=5"], "config.study.workers=5: expected at most 2, 1 on each 1 of 2 GPU(s); "
                           "config.study.workers_per_gpu=3 shares them."),
        (0, ["workers_per_gpu=many"], "config.study.workers_per_gpu='many': expected an integer"),
        (0, ["executor=slurm", "workers=1", "workers_per_gpu=2"], "config.study.workers_per_gpu=2: expected 1, since"),
        (0, ["executor=slurm", "workers=1", "devices_per_run=2", "slurm.gpus_per_node=1"],
         "config.study.devices_per_run=2: config.study.slurm sets gpus_per_node"),
        (0, ["executor=ray", "address=auto", "devices_per_run=2", "workers_per_gpu=2"],
         "config.study.workers_per_gpu=2 with devices_per_run=2: on Ray"),
    ],
)  # fmt: skip
def test_devices_that_a_host_does_not_have_are_one_line(gpus, study, tmp_path, capsys, count, flags, message):
    gpus(count)
    assert cli.main([f"--workdir={tmp_path}/w", study, *(f"--config.study.{flag}" for flag in flags)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(message)
    assert not list(tmp_path.glob("w/*"))


def test_a_job_of_slurm_has_the_gpus_of_a_run(gpus, slurm, tmp_path):
    (slurm / "full").touch()
    gpus(0)
    written = orders.write(tmp_path / "w", [], session="now", tensorboard=False)
    each = executors.find("slurm")(Site(written.path, threads=1, study={"devices_per_run": 3, "slurm": {}}))
    each.start("0-0")
    assert "#SBATCH --gpus-per-node=3\n" in (slurm / "1000.sbatch").read_text()
    each.stop()


def test_runs_take_the_cpu_devices_that_the_study_gives_them(study, tmp_path):
    """And the command that plans starts JAX on the CPU alone."""
    script = f"""
import sys, jax
from flatwide import cli
flags = ["--workdir={tmp_path}/w", {study!r}, "--config.study.devices_per_run=2", "--config.study.workers=1"]
flags += ["--config.study.axes.rho=(0.1,)"]
assert cli.main(flags) == 0
assert jax.config.jax_platforms == "cpu"
"""
    flags = f"{os.environ['XLA_FLAGS']} --xla_force_host_platform_device_count=4"
    environment = {**os.environ, "XLA_FLAGS": flags, "JAX_PLATFORMS": ""}
    done = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr
    runs = flatwide.load(tmp_path / "w")
    assert len(runs) == 2
    assert set(runs["num_devices"]) == {2}
