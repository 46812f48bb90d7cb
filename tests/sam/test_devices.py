"""A perturbation is that of the global batch, or of a microbatch, on however many devices."""

import os
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.parametrize(("axis_type", "num_cases"), [("Auto", 7), ("Explicit", 5)])
def test_gradients_are_the_same_on_four_devices_which_share_the_work(axis_type, num_cases):
    environment = os.environ | {"JAX_NUM_CPU_DEVICES": "4", "JAX_ENABLE_X64": "1"}
    command = [sys.executable, Path(__file__).with_name("on_devices.py"), axis_type]
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("agree") == num_cases
