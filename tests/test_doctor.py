"""The check of a machine: what is wrong has a fix, and the exit code says so."""

import fcntl
from pathlib import Path

import pytest

from flatwide import cli, doctor, machine


@pytest.fixture
def plain_machine(monkeypatch, tmp_path):
    """Take away Slurm and the GPUs that the machine of the tests may have."""
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(machine, "gpu_files", list)
    monkeypatch.setattr(doctor, "_file_system", lambda path: "ext4")


def lines(capsys):
    return capsys.readouterr().out.splitlines()


def test_a_machine_without_faults_has_none(plain_machine, tmp_path, capsys):
    assert cli.main(["doctor", str(tmp_path), f"--data_dir={tmp_path}"]) == 0
    found = lines(capsys)
    assert {line[:3] for line in found} == {"ok "}
    for name in ("devices", "precision", "memory", "compiled programs", "threads", "data", "determinism", "locks"):
        assert any(line.startswith(f"ok   {name}: ") for line in found)
    assert not list(tmp_path.iterdir())


def test_a_gpu_that_jax_does_not_use_is_told_with_the_package_it_needs(plain_machine, monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(machine, "gpu_files", lambda: [Path("/dev/nvidia0")])
    monkeypatch.setattr(machine, "has_cuda_plugin", lambda: False)
    assert cli.main(["doctor", str(tmp_path)]) == 1
    first, second, *rest = lines(capsys)
    assert first.startswith("FIX  devices: ")
    assert "beside 1 NVIDIA GPU(s) that JAX does not use" in first
    assert second.strip().startswith("pip install 'jax[cuda12]==")
    assert {line[:3] for line in rest} == {"ok "}


def test_what_the_driver_says_is_compared_with_what_jax_needs(plain_machine, monkeypatch, tmp_path):
    """The driver's tool and the installed plugin are real files here, as they would be on a host with a GPU."""
    tool = tmp_path / "nvidia-smi"
    tool.write_text("#!/bin/sh\necho 'NVIDIA A100, 470.57.02, 40960, 20000'\n")
    tool.chmod(0o755)
    plugin = tmp_path / "jax_cuda12_plugin-0.1.0.dist-info"
    plugin.mkdir()
    (plugin / "METADATA").write_text("Metadata-Version: 2.1\nName: jax-cuda12-plugin\nVersion: 0.1.0\n")
    monkeypatch.syspath_prepend(tmp_path)
    found = {check.name: check for check in doctor.examine(tmp_path, None)}
    assert found["JAX"].fix.startswith("pip install 'jax[cuda12]==")
    assert found["driver"].fix == "install an NVIDIA driver of version 525 or later"
    assert found["GPU 0"].found == "19.5 GiB free of 40 GiB"
    assert found["GPU 0"].fix.startswith("end the other processes on it")


def test_shared_file_systems_and_missing_locks_are_told(plain_machine, monkeypatch, tmp_path):
    def flock(file, how):
        raise OSError(37, "No locks available")

    monkeypatch.setattr(fcntl, "flock", flock)
    monkeypatch.setattr(doctor, "_file_system", lambda path: "nfs4")
    found = {check.name: check for check in doctor.examine(tmp_path, tmp_path)}
    assert found["locks"].fix.startswith(f"--workdir={tmp_path}: files cannot be locked there")
    assert found["data"].fix.startswith("copy the data to a local disk")
    assert "XDG_CACHE_HOME" in found["compiled programs"].fix


def test_a_slurm_that_does_not_answer_is_no_fault_of_a_machine_that_does_not_use_it(plain_machine, tmp_path, capsys):
    for name, text in (("sbatch", "exit 0"), ("sinfo", "echo 'slurm_load_partitions: Unable to contact' >&2; exit 1")):
        (tmp_path / name).write_text(f"#!/bin/sh\n{text}\n")
        (tmp_path / name).chmod(0o755)
    assert cli.main(["doctor", str(tmp_path)]) == 0
    assert any(line.startswith("ok   Slurm: slurm_load_partitions: Unable to contact") for line in lines(capsys))


def test_the_file_system_of_a_path_is_that_of_its_innermost_mount():
    assert doctor._file_system(Path("/proc/self")) == "proc"


def test_a_folder_that_does_not_exist_is_refused(tmp_path, capsys):
    assert cli.main(["doctor", f"{tmp_path}/nowhere"]) == 2
    assert capsys.readouterr().err == f"W='{tmp_path}/nowhere': expected a folder that exists.\n"
