"""What this machine has: CPU cores, their model, a GPU."""

import os
import platform
from pathlib import Path


def available() -> int:
    """Count the cores that this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def model_name() -> str:
    """Name the model of the CPU, as the system calls it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor() or platform.machine())


def has_gpu() -> bool:
    """Tell whether JAX, which must not start for this, would find an NVIDIA GPU."""
    return Path("/dev/nvidia0").exists() and os.environ.get("JAX_PLATFORMS", "") != "cpu"


def memory() -> int:
    """Return the bytes of memory of this machine, or of the control group that this process is in where it has less."""
    found = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")]
    for path in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        try:
            text = Path(path).read_text().strip()
        except OSError:
            continue
        found += [int(text)] if text.isdecimal() else []
    return min(found)
