"""Facts about this machine: CPU cores, their model, processes, memory, a GPU; and settings of this process."""

import gc
import os
import platform
from pathlib import Path
from typing import NamedTuple


class Process(NamedTuple):
    """A process of this machine.

    started: clock ticks since boot; distinguishes a process from a later one with the same id.
    cpu_seconds: of all its threads. waits_for_disk: whether a thread is in an uninterruptible system call.
    """

    started: int
    cpu_seconds: float
    waits_for_disk: bool


class Activity:
    """A record of how long a process has been idle: it neither used a processor nor waited for a disk."""

    def __init__(self, now: float):
        self._cpu_seconds, self._at = 0.0, now

    def idle_seconds(self, process: Process, now: float) -> float:
        """Update the record with the state of the process now, and return for how long it has been idle."""
        used = process.cpu_seconds - self._cpu_seconds
        if process.waits_for_disk or used > _IDLE_SHARE * (now - self._at):
            self._cpu_seconds, self._at = process.cpu_seconds, now
        return now - self._at


_IDLE_SHARE = 0.01  # of the time on a processor: a process below this share counts as idle


def process(pid: int) -> Process | None:
    """Look up a process; None if it does not exist, has ended, or the system has no `/proc`."""
    try:
        state, *fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        threads = [path.read_text().rpartition(")")[2].split()[0] for path in Path(f"/proc/{pid}/task").glob("*/stat")]
    except OSError:
        return None
    if state in "ZX":
        return None
    ticks = int(fields[10]) + int(fields[11])
    seconds = ticks / os.sysconf("SC_CLK_TCK")
    return Process(started=int(fields[18]), cpu_seconds=seconds, waits_for_disk="D" in threads)


def available() -> int:
    """Count the cores that this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def collect_garbage_rarely() -> None:
    """Let Python look for cyclic garbage 70 times less often, for a process of ours.

    Importing and tracing make hundreds of thousands of objects that stay. To go through them again and again takes a
    sixth of the processor time of a short run; reference counts free arrays in any case.
    """
    gc.set_threshold(50_000, 20, 100)


def model_name() -> str:
    """Return the model name of the CPU."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor() or platform.machine())


def has_gpu() -> bool:
    """Whether JAX would find an NVIDIA GPU, determined without starting JAX."""
    return Path("/dev/nvidia0").exists() and os.environ.get("JAX_PLATFORMS", "") != "cpu"


def memory() -> int:
    """Return the bytes of memory of this machine, or of this process's control group if that is less."""
    limits = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")]
    for path in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        try:
            text = Path(path).read_text().strip()
        except OSError:
            continue
        limits += [int(text)] if text.isdecimal() else []
    return min(limits)
