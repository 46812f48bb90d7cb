"""The first Ctrl-C lets a process save, and the second ends it though it is within one long call."""

import signal
import subprocess
import sys
import time

# One product takes minutes, and Python handles no signal before it is done, as when a program is compiled.
SCRIPT = """
import numpy as np
from flatwide.runs import signals
received = signals.heard()
large = np.ones((12000, 12000), np.float32)
print("ready", flush=True)
large @ large
"""


def test_the_second_interrupt_ends_a_process_at_once():
    pipe = subprocess.PIPE
    process = subprocess.Popen([sys.executable, "-c", SCRIPT], stdout=pipe, stderr=pipe, text=True)
    assert process.stdout is not None
    process.stdout.readline()
    time.sleep(0.2)
    process.send_signal(signal.SIGTERM)
    process.send_signal(signal.SIGINT)
    time.sleep(1.0)
    assert process.poll() is None
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=20)
    assert process.returncode == 130
    assert errors == "ended at once; rerun the same command to resume from the last checkpoint.\n"
