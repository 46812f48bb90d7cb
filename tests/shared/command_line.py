"""What tests of studies share: a small study, its command as a process, and its table."""

import subprocess
import sys
import time
from pathlib import Path

import pytest

import flatwide
from flatwide import runner

ROOT = Path(__file__).parents[2]
STUDY = """
from flatwide.config import default
def get_config():
    config = default()
    config.num_neurons, config.num_epochs, config.batch_size, config.learning_rate = (8,), 3, 64, 0.05
    config.checkpoint_every_seconds = 0.0
    config.study.axes = {"rho": (0.0, 0.1), "seed": (0, 1)}
    config.study.workers = 2
    return config
"""
FIELDS = {"num_neurons": (8,), "num_epochs": 3, "batch_size": 64, "learning_rate": 0.05}
FIELDS |= {"checkpoint_every_seconds": 0.0}


@pytest.fixture
def study(tmp_path):
    """Write the study; return the flag that names it."""
    path = tmp_path / "study.py"
    path.write_text(STUDY)
    return f"--config={path}"


@pytest.fixture(scope="session")
def alone(tmp_path_factory):
    """Return the table of the study's runs, each trained alone."""
    folder = tmp_path_factory.mktemp("alone")
    for rho in (0.0, 0.1):
        for seed in (0, 1):
            runner.run(FIELDS | {"rho": rho, "seed": seed}, folder, quiet=True)
    return table(folder)


def table(workdir):
    """Return the results of a work directory without what differs between two equal runs."""
    runs = flatwide.load(workdir).drop(columns=["seconds", "started", "finished"])
    return runs.sort_values("run", ignore_index=True)


def command(workdir, *flags):
    return [sys.executable, str(ROOT / "main.py"), f"--workdir={workdir}", *flags]


def start(workdir, *flags, **options):
    """Start the command of a study."""
    pipes = {"stderr": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    return subprocess.Popen(command(workdir, *flags), **pipes, start_new_session=True, **options)


def ended(process, seconds=250):
    """Wait for the end of a command; return its exit code, output and errors."""
    try:
        printed, errors = process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        raise
    return process.returncode, printed, errors


def wait_for(condition, seconds=120):
    """Wait until a condition holds, and return its value."""
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return found


def in_training(workdir):
    """Wait until a run has a checkpoint."""
    return wait_for(lambda: list(Path(workdir).glob("runs/*/checkpoints/*.npz")))
