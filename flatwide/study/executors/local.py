"""Workers as processes of this machine."""

import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Mapping
from typing import Any

from flatwide import machine
from flatwide.study import orders
from flatwide.study.executors import placement
from flatwide.study.executors.crew import IDLE_SECONDS, STOP_SECONDS, STOPPED, UNABLE, Ended, Site

_POLL_SECONDS = 0.05


class LocalCrew:
    """Workers as child processes; their exit codes show how they ended."""

    outlives_command = False

    def __init__(self, site: Site):
        self._site = site
        self._processes: dict[str, subprocess.Popen] = {}
        self._slots = placement.slots(site.study) or [()]
        self._slot_of: dict[str, int] = {}  # of each process

    @staticmethod
    def faults(study: Mapping[str, Any]) -> list[str]:
        """List the devices that this machine does not have."""
        return placement.faults(study)

    @staticmethod
    def capacity(study: Mapping[str, Any], threads: int) -> int:
        """Count the workers that the GPUs allow, or else the cores."""
        return len(placement.slots(study)) or max(1, machine.available() // threads)

    @staticmethod
    def share(study: Mapping[str, Any]) -> placement.Share:
        """Describe the devices of a worker."""
        return placement.share(study)

    def start(self, worker: str) -> None:
        """Start a process whose standard input closes when this one ends, so that no worker outlives the command."""
        threads = str(self._site.threads)
        taken = Counter(self._slot_of.values())
        slot = min(range(len(self._slots)), key=taken.__getitem__)
        devices = placement.environment(self._site.study, self._slots[slot])
        self._processes[worker] = subprocess.Popen(
            [sys.executable, "-m", "flatwide.study.worker", str(self._site.orders), worker],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            env=os.environ | {"NPROC": threads, "OMP_NUM_THREADS": threads} | devices,
        )
        self._slot_of[worker] = slot
        orders.write_started(self._site.orders, worker, self._processes[worker].pid)

    def ended(self) -> list[Ended]:
        """Poll the exit codes."""
        ended = []
        for worker, process in list(self._processes.items()):
            if (code := process.poll()) is not None:
                self._bury(worker)
                was_stopped = code == STOPPED
                problem = "" if code == 0 or was_stopped else _code_text(code)
                ended.append(Ended(worker, problem, was_stopped, is_fatal=code == UNABLE))
        return ended

    def stop(self) -> None:
        """Send SIGTERM to all, wake those that are stopped, and wait; one that hangs is killed.

        A worker that for some seconds neither uses the processor nor waits for a disk hangs; its last checkpoint stays.
        """
        for process in self._processes.values():
            process.send_signal(signal.SIGTERM)
            process.send_signal(signal.SIGCONT)
        began = time.monotonic()
        activity = {worker: machine.Activity(began) for worker in self._processes}
        while self._processes:
            now = time.monotonic()
            for worker, process in list(self._processes.items()):
                info = machine.process(process.pid)
                idle = activity[worker].idle_seconds(info, now) if info else 0.0
                is_late = idle > IDLE_SECONDS or now - began > STOP_SECONDS
                if is_late and process.poll() is None:
                    process.kill()
                    process.wait()
                if process.poll() is not None:
                    self._bury(worker)
            time.sleep(_POLL_SECONDS if self._processes else 0)

    def _bury(self, worker: str) -> None:
        process = self._processes.pop(worker)
        self._slot_of.pop(worker, None)  # one that was not started here holds no slot
        assert process.stdin is not None
        process.stdin.close()


def _code_text(code: int) -> str:
    """Describe how a process ended."""
    if code == UNABLE:
        return "no worker can continue, for the reason above"
    if code >= 0:
        return f"exit code {code}"
    hint = "; this is how the system kills processes when memory runs out" if code == -signal.SIGKILL else ""
    return f"killed by {signal.Signals(-code).name}{hint}"
